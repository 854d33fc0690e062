"""A text beside its tokens: which word and which sentence each token belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.perturbations.ids import Ids

UNITS = ("token", "word", "sentence")
LANGUAGE = "en"
# White space belongs to the word behind it.
_WORD = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")

Spans = Sequence[tuple[int, int]]


class TokenText:
    """The text of consecutive tokens, whose words and sentences are found when asked for.

    A part of it, ``text[first:stop]``, keeps the words and sentences of the whole.

    Args:
        text: The text.
        char_start: First character of each token, shape ``(n,)``, rising.
        char_end: One past its last character.
        ids: Token ids, shape ``(n,)``, int64.
        words: Gives the spans of the words of a text; by default runs of letters and single signs,
            each with the white space before it.
        language: Code of the language that sentences are found in.
    """

    def __init__(
        self,
        text: str,
        char_start: NDArray[Any],
        char_end: NDArray[Any],
        ids: Ids,
        *,
        words: Callable[[str], Spans] | None = None,
        language: str = LANGUAGE,
    ) -> None:
        self.text, self.ids, self.language = text, ids, language
        self.char_start, self.char_end = char_start, char_end
        self._words = words or _plain_words

    @classmethod
    def of(cls, text: str, tokenizer: Any) -> TokenText:
        """Tokenise a text.

        Args:
            text: The text.
            tokenizer: A fast tokenizer of transformers.

        Returns:
            The text with its tokens, without special tokens; their ids are ``.ids``.

        Raises:
            ValueError: If the tokenizer tells no offsets.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(f"{type(tokenizer).__name__} tells no offsets; allowed: a fast one")
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        ids = np.array(encoded["input_ids"], dtype=np.int64)
        return cls(text, offsets[:, 0], offsets[:, 1], ids, words=pre_tokens(tokenizer))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> TokenText:
        return _Part(self, part)

    def units(self, unit: str) -> Ids:
        """The number of the unit that each token belongs to.

        Args:
            unit: ``token``, ``word`` or ``sentence``.

        Returns:
            Never falling, shape ``(n,)``, int64.

        Raises:
            ValueError: If *unit* is none of these.
        """
        if unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(map(repr, UNITS))}; got {unit!r}")
        if unit == "token":
            return np.arange(len(self))
        return self._word_of_each if unit == "word" else self._sentence_of_each

    @cached_property
    def _word_of_each(self) -> Ids:
        return self._place([first for first, _ in self._words(self.text)])

    @cached_property
    def _sentence_of_each(self) -> Ids:
        from sentencex import get_sentence_boundaries

        found = get_sentence_boundaries(self.language, self.text)
        # A break between paragraphs belongs to the sentence before it.
        return self._place([b["start_index"] for b in found if not b["is_paragraph_break"]])

    def _place(self, starts: Sequence[int]) -> Ids:
        """The unit that holds a token's last character: its first may be a space between two."""
        last = np.maximum(self.char_start, self.char_end - 1)
        found = np.searchsorted(np.asarray(starts, dtype=np.int64), last, side="right")
        return np.maximum.accumulate(found.astype(np.int64))


class _Part(TokenText):
    """Consecutive tokens of a text."""

    def __init__(self, whole: TokenText, part: slice) -> None:
        super().__init__(
            whole.text,
            whole.char_start[part],
            whole.char_end[part],
            whole.ids[part],
            words=whole._words,
            language=whole.language,
        )
        self._whole, self._at = whole, part

    def units(self, unit: str) -> Ids:
        """See :class:`TokenText`."""
        return np.arange(len(self)) if unit == "token" else self._whole.units(unit)[self._at]


class MadeUp(TokenText):
    """A text that stands in for any other where a perturbation is only tried.

    Args:
        tokens: Its tokens; words of 2, sentences of 16.
    """

    def __init__(self, tokens: int) -> None:
        ids = np.arange(tokens)
        super().__init__("", ids, ids + 1, ids)

    def units(self, unit: str) -> Ids:
        """See :class:`TokenText`."""
        if unit not in UNITS:
            return super().units(unit)
        return np.arange(len(self)) // {"token": 1, "word": 2, "sentence": 16}[unit]


def pre_tokens(tokenizer: Any) -> Callable[[str], Spans] | None:
    """The words of a tokenizer: what it cuts a text into before it looks for tokens.

    Args:
        tokenizer: A tokenizer of transformers.

    Returns:
        A function from a text to spans of characters; ``None`` where the tokenizer cuts nothing.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    splitter = getattr(backend, "pre_tokenizer", None)
    if splitter is None:
        return None
    return lambda text: [span for _, span in splitter.pre_tokenize_str(text)]


def _plain_words(text: str) -> Spans:
    return [found.span() for found in _WORD.finditer(text)]
