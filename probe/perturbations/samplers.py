"""Where replaced tokens come from: functions of a number of tokens and a generator.

Every sampler here draws the same first tokens however many it is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from probe.perturbations import checks
from probe.perturbations.ids import AnyIds, Ids, to_array

Sampler: TypeAlias = Callable[[int, Generator], Ids]
"""``sampler(n, rng)`` draws ``n`` token ids, shape ``(n,)``, int64."""

SOURCES = (
    "vocabulary",  # ordinary tokens, each as likely
    "unigram",  # ordinary tokens, each as often as in the data
    "document",  # consecutive tokens of another document
    "self",  # consecutive tokens from elsewhere in the same document
)
"""The names that a condition may give as source; the run binds each to a sampler."""


def vocabulary(ids: AnyIds | Sequence[int]) -> Sampler:
    """Draw token ids uniformly, with replacement.

    Args:
        ids: The token ids to draw from, shape ``(v,)``; one that is given twice is twice as likely.

    Returns:
        A sampler.

    Raises:
        ValueError: If *ids* is empty or holds anything but integers.
    """
    choices = to_array(list(ids) if isinstance(ids, range | tuple) else ids, what="source")  # type: ignore[arg-type]
    if not len(choices):
        raise ValueError("source must hold at least one token id; got none")
    return partial(_uniform, choices)


def unigram(counts: ArrayLike) -> Sampler:
    """Draw token ids as often as they were counted.

    Args:
        counts: How often each token id occurs, shape ``(v,)``, indexed by token id; counts or
            shares, in any unit. An id with count 0 is never drawn.

    Returns:
        A sampler.

    Raises:
        ValueError: If *counts* has not one dimension, or holds a negative or no positive number.
    """
    weights = np.asarray(counts, dtype=np.float64)
    if weights.ndim != 1:
        raise ValueError(f"counts must have one dimension; got shape {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("counts must be finite, at least 0, and not all 0")
    return partial(_proportional, np.cumsum(weights))


def stretch(documents: Sequence[AnyIds], *, room: int) -> Sampler:
    """Draw consecutive token ids from one of several documents.

    Where they start does not depend on how many are asked for: any start from which *room* tokens
    fit is as likely. A document shorter than *room* may start anywhere and goes round.

    Args:
        documents: Token ids of each document, shape ``(n_i,)``; each document is as likely.
        room: The most tokens that are ever asked for at once.

    Returns:
        A sampler for up to *room* tokens; it raises ValueError for more.

    Raises:
        ValueError: If there is no document, one is empty, or *room* is below 1.
    """
    texts = [to_array(document, what="a document") for document in documents]
    if not texts or not all(map(len, texts)):
        sizes = [len(text) for text in texts]
        raise ValueError(f"documents must be at least one, none of them empty; got sizes {sizes}")
    return partial(_consecutive, texts, checks.count("room", room, least=1))


# The draws are functions of this module, not closures: a sampler can be sent to another process.


def _uniform(choices: Ids, n: int, rng: Generator) -> Ids:
    # rng.random(n) is n draws one after another, the first ones equal for every n.
    drawn: Ids = choices[(rng.random(n) * len(choices)).astype(np.int64)]
    return drawn


def _proportional(cumulative: NDArray[np.float64], n: int, rng: Generator) -> Ids:
    drawn: Ids = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
    return drawn


def _consecutive(texts: Sequence[Ids], room: int, n: int, rng: Generator) -> Ids:
    if n > room:
        raise ValueError(f"n must be at most room, {room}; got {n}")
    text = texts[int(rng.integers(len(texts)))]
    starts = len(text) - room + 1 if len(text) >= room else len(text)
    first = rng.integers(starts)
    return np.take(text, np.arange(first, first + n), mode="wrap")


def any_sources() -> Mapping[str, Sampler]:
    """A sampler of made-up ids for every name, for a perturbation that is only tried."""
    return dict.fromkeys(SOURCES, _any_ids)


def _any_ids(n: int, rng: Generator) -> Ids:
    # So many values that two results agree only where they come from the same draw.
    return (rng.random(n) * 2**53).astype(np.int64)
