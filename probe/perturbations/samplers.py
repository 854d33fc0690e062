"""Where replaced tokens come from: functions of a number of tokens and a generator.

Every sampler here draws the same first tokens however many it is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from probe import checks
from probe.perturbations.ids import AnyIds, Ids, to_array
from probe.text import shown

Sampler: TypeAlias = Callable[[int, Generator], Ids]
"""``sampler(n, rng)`` draws ``n`` token ids, shape ``(n,)``, int64."""

SOURCES = {
    "vocabulary": "ordinary tokens, each as likely",
    "unigram": "ordinary tokens, each as often as in the data",
    "document": "consecutive tokens of another document",
    "self": "consecutive older tokens of the same document",
    "passage": "the passage of the same name of another document",
    "newline": "the token of a line break, everywhere",
    "pad": "the tokenizer's padding token, everywhere",
    "mask": "the tokenizer's mask token, everywhere",
}
"""The names that a condition may give as source, and what the run binds to each."""
FIXED = ("newline", "pad", "mask")
"""Those of a single token, which draw nothing."""
_NONE = range(0)


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
        A sampler for up to *room* tokens; it raises ValueError for more. With ``without``, a range
        of places in *documents*, it draws as if those were not among them. It keeps arrays, and
        copies none.

    Raises:
        ValueError: If there is no document, one is empty, or *room* is below 1.
    """
    texts = [_as_array(document, what="a document") for document in documents]
    if not texts or not all(map(len, texts)):
        sizes = [len(text) for text in texts]
        raise ValueError(f"documents must be at least one, none of them empty; got sizes {sizes}")
    return partial(_consecutive, texts, checks.count("room", room, least=1))


def passages(texts: Sequence[AnyIds]) -> Sampler:
    """Draw one of several passages, from its beginning, going round where more is asked for.

    Args:
        texts: Token ids of each passage, shape ``(n_i,)``, none of them empty; each is as likely.

    Returns:
        A sampler; it takes ``without`` and keeps arrays like that of `stretch`.
    """
    return partial(_round, [_as_array(text, what="a passage") for text in texts])


def _as_array(value: AnyIds, *, what: str) -> NDArray[Any]:
    """Token ids as an array, the same one where they are one already."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype in (np.int32, np.int64):
        return value
    return to_array(value, what)


# The draws are functions of this module, not closures: a sampler can be sent to another process.


def _uniform(choices: Ids, n: int, rng: Generator) -> Ids:
    # rng.random(n) is n draws one after another, the first ones equal for every n.
    drawn: Ids = choices[(rng.random(n) * len(choices)).astype(np.int64)]
    return drawn


def _proportional(cumulative: NDArray[np.float64], n: int, rng: Generator) -> Ids:
    drawn: Ids = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
    return drawn


def _round(texts: Sequence[NDArray[Any]], n: int, rng: Generator, without: range = _NONE) -> Ids:
    return np.resize(_any_of(texts, without, rng), n).astype(np.int64)


def _consecutive(
    texts: Sequence[NDArray[Any]], room: int, n: int, rng: Generator, without: range = _NONE
) -> Ids:
    if n > room:
        raise ValueError(f"n must be at most room, {room}; got {n}")
    text = _any_of(texts, without, rng)
    starts = len(text) - room + 1 if len(text) >= room else len(text)
    first = rng.integers(starts)
    return np.take(text, np.arange(first, first + n), mode="wrap").astype(np.int64)


def _any_of(texts: Sequence[NDArray[Any]], without: range, rng: Generator) -> NDArray[Any]:
    # The draw from a list without those, which is never made: one a document would be too many.
    place = int(rng.integers(len(texts) - len(without)))
    return texts[place if place < without.start else place + len(without)]


def sampler_of(source: AnyIds | Sequence[int] | Sampler | str | int) -> Sampler:
    """Make a sampler of what a perturbation takes as ``source``.

    Args:
        source: A sampler; token ids to draw from uniformly; or the id of a single token.

    Returns:
        *source* itself where it can be called.

    Raises:
        ValueError: If *source* is a name that nothing was bound to, or holds no token id.
    """
    if isinstance(source, str):
        raise ValueError(
            f"source {shown(source)} is a name without a sampler; bind one: "
            f"parse(\"replace(source='document')\").apply(far, rng=rng, "
            f"sources={{'document': sampler}}), or pass a sampler or token ids as source "
            f"(names in conditions: {', '.join(SOURCES)})"
        )
    if callable(source):
        return source
    if isinstance(source, int | np.integer):
        return vocabulary([checks.count("source", source, least=0)])
    return vocabulary(source)


def is_varied(source: Sequence[int] | str | int) -> bool:
    """Whether two draws from what a condition gives as ``source`` can differ."""
    if isinstance(source, str):
        return source not in FIXED
    return not isinstance(source, int) and len(set(source)) > 1


def draw(sampler: Sampler, n: int, rng: Generator) -> Ids:
    """Draw token ids.

    Args:
        sampler: Where they come from.
        n: How many.
        rng: Source of the draw.

    Returns:
        Shape ``(n,)``.

    Raises:
        ValueError: If the sampler gives another number of ids.
    """
    drawn = to_array(sampler(n, rng), what="the ids drawn from source")
    if len(drawn) != n:
        raise ValueError(f"source must give {n} ids, as asked for; got {len(drawn)}")
    return drawn


def any_sources() -> Mapping[str, Sampler]:
    """A sampler of made-up ids for every name, for a perturbation that is only tried."""
    fixed = {name: vocabulary([2**53 + place]) for place, name in enumerate(FIXED)}
    return dict.fromkeys(SOURCES, _any_ids) | fixed


def _any_ids(n: int, rng: Generator) -> Ids:
    # So many values that two results agree only where they come from the same draw.
    return (rng.random(n) * 2**53).astype(np.int64)
