"""What far text holds of a target's n-grams that near text does not, from token ids alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.analysis.bootstrap import Floats

Integers = NDArray[np.integer]

ORDER = 4
"""Tokens of the longest n-gram."""
TRUST = (200.0, 2.0, 1.0, 1.0)
"""How many tokens of a cache an estimate of the next lower order is worth, by order."""
FEATURES = (
    *(f"far {order}-gram" for order in range(1, ORDER + 1)),
    *("rare far 1-gram", "cache gain", "cache loss", "cache gain, surprising"),
    "cache gain, going on",
)
"""Names of the features, in order."""
BEFORE = 4
"""Tokens before a target whose own gain tells whether it goes on with what is copied."""


class _Order(NamedTuple):
    """The n-grams of one order in a window.

    Args:
        gram: Number of the n-gram that ends at each token, shape ``(tokens,)``.
        before: How often it ended before that, same shape.
        keys: ``gram · tokens + place`` of every token, rising.
        first: Place in *keys* of the first of each n-gram, shape ``(n-grams,)``.
    """

    gram: Integers
    before: Integers
    keys: Integers
    first: Integers

    @classmethod
    def of(cls, texts: Integers) -> "_Order":
        """Count what is told apart by a number a token."""
        _, gram = np.unique(texts, return_inverse=True)
        keys = np.sort(gram * len(gram) + np.arange(len(gram)))
        first = np.searchsorted(keys, np.arange(int(gram.max(initial=-1)) + 1) * len(gram))
        place = keys % len(gram)
        before = np.empty_like(gram)
        before[place] = np.arange(len(gram)) - first[gram[place]]
        return cls(gram, before, keys, first)

    def until(self, token: Integers, end: Integers) -> Integers:
        """How often the n-grams that end at some tokens end before some places."""
        gram = self.gram[token]
        return np.searchsorted(self.keys, gram * len(self.gram) + end) - self.first[gram]


class Copies:
    """The n-grams of one window, and what they say of its targets.

    A target whose n-gram stands in far text and not in near is one that far text may tell. How
    much, an n-gram model of the window says: a cache of the near text, and one of far and near, of
    interpolated orders over the frequency of a token. A model copies on more surely than it begins
    to, so that a gain counts for more where the tokens before the target had one.

    Args:
        ids: Token ids of the window, shape ``(tokens,)``.
        log_frequency: Log of the share of each of them among all tokens, shape ``(tokens,)``.
    """

    def __init__(self, ids: Integers, log_frequency: Floats) -> None:
        self._log_frequency = log_frequency
        self._orders = [_Order.of(ids)]
        for order in range(2, ORDER + 1):
            shorter, last = self._orders[-1].gram, self._orders[0].gram
            longer = np.zeros(len(ids), dtype=np.int64)
            longer[1:] = (shorter[:-1] + 1) * len(ids) + last[1:]
            # What begins before the window is the n-gram of no other token.
            longer[: order - 1] = -1 - np.arange(order - 1)[: len(ids)]
            self._orders.append(_Order.of(longer))

    def features(self, place: Integers, boundary: Integers) -> Floats:
        """The features of some targets.

        Args:
            place: Index of each target in the window, shape ``(targets,)``.
            boundary: Index of the first near token of each, same shape.

        Returns:
            Shape ``(targets, len(FEATURES))``.
        """
        only_far, gain, near = self._caches(place, boundary)
        told, going_on = np.maximum(gain, 0), np.zeros_like(gain)
        at = np.flatnonzero(told)
        for step in range(1, BEFORE + 1):
            at = at[place[at] - step >= boundary[at]]
            before = self._caches(place[at] - step, boundary[at])[1]
            going_on[at] += np.maximum(before, 0) / BEFORE
        return np.column_stack(
            [
                *only_far,
                only_far[0] * self._log_frequency[place],
                *(told, np.minimum(gain, 0), told * near, told * going_on),
            ]
        ).astype(np.float64)

    def _caches(
        self, place: Integers, boundary: Integers
    ) -> tuple[list[NDArray[np.bool_]], Floats, Floats]:
        """By order whether the n-gram is in far text alone; the gain of far text; log P in near."""
        share = np.exp(self._log_frequency[place])
        whole, near, only_far = share, share, []
        for order, (found, trust) in enumerate(zip(self._orders, TRUST, strict=True), start=1):
            far, every = found.until(place, boundary), found.before[place]
            only_far.append((far > 0) & (every == far))
            if order == 1:
                context, of_far = place, boundary
            else:
                last, shorter = np.maximum(place - 1, 0), self._orders[order - 2]
                context = shorter.before[last]
                of_far = np.minimum(shorter.until(last, np.maximum(boundary - 1, 0)), context)
            close = np.minimum(every - far, context - of_far)
            whole = (every + trust * whole) / (context + trust)
            near = (close + trust * near) / (context - of_far + trust)
        return only_far, np.log(whole) - np.log(near), np.log(near)


def log_frequencies(windows: Sequence[Integers]) -> Floats:
    """Log of the share of each token id among those of some windows, every id counted once more.

    Args:
        windows: Token ids of each, shape ``(tokens,)``.

    Returns:
        By id, shape ``(largest id + 1,)``.
    """
    counts = np.bincount(np.concatenate(windows)) + 1.0
    return np.asarray(np.log(counts / counts.sum()))
