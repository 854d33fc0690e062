"""Bins of distance, single integers below 8, then a fixed number per octave; and of places."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.errors import UsageError

Integers = NDArray[np.int64]

OUTSIDE, UNBOUNDED, PLACES = -1, -2, -3
"""Bins below 0: of the rows whose distance has no bin; of those without a boundary (an intact row
and its like); from PLACES down they are those of :func:`place_index`."""
PLACE_BINS = 32
"""Bins of position at most, in even steps of the logarithm."""

SINGLE = 8
"""Distances below this have a bin each; together they are the first octave group."""


def bin_edges(reach: int, bins_per_octave: int = 8) -> NDArray[np.int64]:
    """Edges of the bins that hold the distances ``0 … reach - 1``.

    Inside the octave that starts at ``2**k`` the edges are ``2**k + j * 2**k / bins_per_octave``,
    linear and rounded to integers, so that every power of two is an edge whatever the count.

    Args:
        reach: First distance (tokens) that needs no bin; it is the last edge.
        bins_per_octave: Bins between a power of two and the next, from 8 on; where an octave has
            fewer integers than that, each has its own bin.

    Returns:
        Rising edges in tokens, shape ``(bins + 1,)``, int64; bin ``i`` is
        ``edges[i] <= distance < edges[i + 1]``.

    Raises:
        UsageError: If *reach* or *bins_per_octave* is below 1.
    """
    if reach < 1:
        raise UsageError(f"reach is {reach}: at least 1 token is needed to have a bin")
    if bins_per_octave < 1:
        raise UsageError(f"bins_per_octave is {bins_per_octave}: at least 1 is needed")
    octaves = 2 ** np.arange(SINGLE.bit_length() - 1, max(int(reach).bit_length(), 4))
    steps = np.arange(bins_per_octave) / bins_per_octave
    inside = np.floor(octaves[:, None] * (1 + steps[None, :]) + 0.5).astype(np.int64)
    edges = np.unique(np.concatenate([np.arange(SINGLE), inside.ravel()]))
    return np.append(edges[edges < reach], reach).astype(np.int64)


def bin_index(distances: ArrayLike, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bin of each distance.

    Args:
        distances: Distances in tokens, any shape, ``edges[0] <= distance < edges[-1]``.
        edges: Edges as :func:`bin_edges` gives them.

    Returns:
        Index of the bin, same shape, int64.

    Raises:
        ValueError: If a distance lies outside the edges.
    """
    values = np.asarray(distances)
    if values.size and (values.min() < edges[0] or values.max() >= edges[-1]):
        raise ValueError(
            f"distances {values.min()} to {values.max()} leave the bins [{edges[0]}, {edges[-1]})"
        )
    return (np.searchsorted(edges, values, side="right") - 1).astype(np.int64)


def octave_index(distances: ArrayLike) -> NDArray[np.int64]:
    """The octave group of each distance: 0 for 0–7, 1 for 8–15, 2 for 16–31 and so on.

    Args:
        distances: Distances in tokens, any shape, not negative.

    Returns:
        Index of the group, same shape, int64.
    """
    # frexp is exact at powers of two, where log2 of a large integer could round down.
    _, exponents = np.frexp(np.maximum(np.asarray(distances), SINGLE // 2).astype(np.float64))
    return np.asarray(exponents - SINGLE.bit_length() + 1, dtype=np.int64)


def octave_edges(reach: int) -> NDArray[np.int64]:
    """Edges of the octave groups, ``0, 8, 16, 32 …``, the last one being *reach* (tokens).

    Raises:
        UsageError: If *reach* is below 1.
    """
    if reach < 1:
        raise UsageError(f"reach is {reach}: at least 1 token is needed to have a bin")
    powers = SINGLE * 2 ** np.arange(max(int(reach).bit_length(), 1))
    return np.concatenate([[0], powers[powers < reach], [reach]]).astype(np.int64)


def coarser_edges(edges: Integers, per_octave: int) -> Integers:
    """The edges that part every octave, from distance 1 on, into so many bins.

    Args:
        edges: Edges as :func:`bin_edges` gives them.
        per_octave: Bins between a power of two and the next; a divisor of that of *edges*.

    Returns:
        Those of *edges* that are among ``2**k + j * 2**k / per_octave``, with 0 and the last one.
    """
    powers = 2.0 ** np.arange(int(edges[-1]).bit_length())
    inside = powers[:, None] * (1 + np.arange(per_octave)[None, :] / per_octave)
    wanted = np.append(inside.ravel(), [0, edges[-1]])
    return edges[np.isin(edges, wanted)]


def place_edges(first: int, last: int) -> dict[str, Integers]:
    """Edges of the three ways in which places in a window are binned.

    Args:
        first: The first place of all.
        last: The last place of all.

    Returns:
        Edges of ``octave`` (as far as they reach), ``quarter`` (of the range, from its first on)
        and ``step`` (even steps of the logarithm), rising; a bin of the cells lies in one of each.
    """
    quarters = first + -(-np.arange(5) * (last - first + 1) // 4)
    steps = np.round(np.geomspace(first + 1, last + 2, PLACE_BINS + 1) - 1)
    return {
        "octave": octave_edges(last + 1),
        "quarter": quarters.astype(np.int64),
        "step": np.unique(steps.astype(np.int64)),
    }


def place_index(bins: Integers, first: int, last: int, way: str) -> Integers:
    """The octave, quarter or step (from 0) that bins of places lie in.

    Args:
        bins: Bins of the cells, from ``PLACES`` down.
        first: The first place of all.
        last: The last place of all.
        way: One of :func:`place_edges`.
    """
    if not len(bins):
        return bins
    known = place_edges(first, last)
    begins = place_bins(known)[PLACES - bins]
    return np.asarray(np.searchsorted(known[way], begins, side="right") - 1, dtype=np.int64)


def place_bins(known: Mapping[str, Integers]) -> Integers:
    """First place of each bin, in which no edge of any way lies."""
    return np.unique(np.concatenate(list(known.values())))
