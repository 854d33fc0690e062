"""What a predicate sees: the tokens of one window, and where each of them stood before."""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

LONGEST = 8
"""Longest context of a copy that is looked for (tokens)."""
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def read_only(numbers: Integers) -> Integers:
    """The array itself, which nobody can write to any more: all predicates are given the same."""
    numbers.setflags(write=False)
    return numbers


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """How often each type (token id) occurs in the data set.

    Args:
        ids: The types that occur, rising, shape ``(types,)``, int64.
        counts: Occurrences of each, same shape.
    """

    ids: Integers
    counts: Integers

    @cached_property
    def _ranks(self) -> Integers:
        """Place of each type among all, 0 for the most frequent; of equals the lower id first."""
        ranks = np.empty(len(self.ids), dtype=np.int64)
        ranks[np.lexsort((self.ids, -self.counts))] = np.arange(len(self.ids))
        return read_only(ranks)

    def rank(self, ids: Integers) -> Integers:
        """Place of each id among the types that occur, 0 for the most frequent.

        Args:
            ids: Token ids, any shape.

        Returns:
            Ranks, same shape; the number of types for an id that does not occur.
        """
        at = np.searchsorted(self.ids, ids)
        found = np.append(self.ids, -1)[at] == ids
        return np.where(found, np.append(self._ranks, len(self.ids))[at], len(self.ids))


@dataclass(frozen=True, eq=False)
class WindowTokens:
    """One window as a predicate sees it; arrays have one entry a token, and are read-only.

    Args:
        document: Id of the document.
        window: Number of the window in its document.
        start: Index of the window's first token in its document.
        ids: Token ids, shape ``(length,)``, int64.
        char_start: First character of each token in ``text``, shape ``(length,)``; empty where
            there is no text.
        char_end: One past the last character of each token in ``text``.
        text: The window's text, ``None`` for data that came as token ids.
        group: What the document belongs to (``data.group_column``), ``None`` without one.
        counts: How often each type occurs in the data set.
    """

    document: str
    window: int
    start: int
    ids: Integers
    char_start: Integers
    char_end: Integers
    text: str | None
    group: str | None
    counts: TokenCounts

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def texts(self) -> list[str | None]:
        """The text of each token, ``None`` without text or where a token covers no character."""
        if self.text is None:
            return [None] * len(self)
        spans = zip(self.char_start.tolist(), self.char_end.tolist(), strict=True)
        return [self.text[first:end] or None for first, end in spans]

    @cached_property
    def words(self) -> Integers:
        """First and end character of the word that each token is part of, shape ``(length, 2)``.

        A word is a run of letters, digits and underscores, with apostrophes inside it. A token
        belongs to the first word that it touches; −1 where it touches none, or there is no text.
        """
        words = np.full((len(self), 2), -1, dtype=np.int64)
        if self.text is None:
            return read_only(words)
        spans = np.array([match.span() for match in _WORD.finditer(self.text)], dtype=np.int64)
        if not len(spans):
            return read_only(words)
        first = np.searchsorted(spans[:, 1], self.char_start, side="right")  # ends behind its start
        candidates = spans[np.minimum(first, len(spans) - 1)]
        touched = (first < len(spans)) & (candidates[:, 0] < self.char_end)
        touched &= self.char_start < self.char_end
        words[touched] = candidates[touched]
        return read_only(words)

    @cached_property
    def last_occurrence(self) -> Integers:
        """Tokens from each token back to the last one of the same type in the window.

        Returns:
            Distances in tokens, at least 1; −1 where the type does not stand earlier in the window.
        """
        return read_only(_back(self.ids))

    @cached_property
    def copies(self) -> tuple[Integers, Integers]:
        """The longest context that stood before the same token earlier in the window.

        Returns:
            ``length``: the largest ``n`` up to ``LONGEST`` such that the ``n`` tokens before a
            token and the token itself occur earlier in the window, 0 for none; and ``distance``:
            tokens back to the last such occurrence, −1 for none.
        """
        length = np.zeros(len(self), dtype=np.int64)
        distance = np.full(len(self), -1, dtype=np.int64)
        _, codes = np.unique(self.ids, return_inverse=True)
        grams = codes.astype(np.int64)
        for n in range(1, min(LONGEST, len(self) - 1) + 1):
            # Names the n + 1 tokens that end at each token; those of before each with one more.
            pairs = grams[:-1] * len(self) + codes[n:]
            _, grams = np.unique(pairs, return_inverse=True)
            back = _back(grams)
            seen = np.flatnonzero(back > 0)
            length[seen + n], distance[seen + n] = n, back[seen]
        return read_only(length), read_only(distance)


def _back(names: Integers) -> Integers:
    """Distance of each entry to the last equal one before it, −1 for none."""
    order = np.argsort(names, kind="stable")
    same = names[order[1:]] == names[order[:-1]]
    back = np.full(len(names), -1, dtype=np.int64)
    back[order[1:][same]] = (order[1:] - order[:-1])[same]
    return back
