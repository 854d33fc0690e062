"""An attention pattern as a picture in the terminal: queries downward, keys to the right."""

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from probe.attention.pattern import HeadRule, Pattern
from probe.registry import summary

CELLS = 32
"""Rows and columns of a picture."""
SHADES = " ░▒▓█"
FAINT = 0.005  # a share that is drawn as none
LONGEST = 1 << 15  # tokens of a sequence that a picture may stand for
_SAMPLES = 256  # queries and keys looked at along each side


def pictures(pattern: Pattern) -> Iterator[str]:
    """Draw what happens in the heads of a pattern, a picture for each kind of head.

    Args:
        pattern: The pattern.

    Yields:
        A title and the picture, several lines; a shade is the share of keys seen in a cell, or,
        of hard-coded heads, their weight beside the largest.
    """
    of_three = [(name, kinds(part)) for name, part in pattern.parts.items()]
    for attention, part, where in ((a, *item) for a, found in of_three for item in found.items()):
        where = f"{attention} attention, {where}" if attention else where
        if part == HeadRule():
            yield f"{where}: the model's own attention"
            continue
        symmetric = attention in ("encoder", "cross")
        length = length_of(part, symmetric=symmetric)
        boundary = length * 3 // 4
        queries = "queries at their places in the source" if attention == "cross" else "queries"
        title = f"{where}; {length:,} tokens, {queries} downward, keys to the right"
        if part.weights is not None:
            title += f"\n{summary(type(part.weights))}"
        if part.lowrank is not None:
            title += f"; far keys, before token {boundary:,}, are pressed where queries are near"
        seen = shares(part, length, boundary, symmetric=symmetric)
        yield "\n".join([title, *("  " + "".join(map(_shade, row)).rstrip() for row in seen)])


def kinds(pattern: Pattern) -> dict[HeadRule, str]:
    """What happens in the heads that a pattern names, and in all others, with where that is."""
    named = {
        "layer": sorted({n for placed in pattern.placed for n in placed.layers or ()}),
        "head": sorted({n for placed in pattern.placed for n in placed.heads or ()}),
    }
    # One number beyond those named stands for all others.
    every = ([*numbers, max(numbers, default=-1) + 1] for numbers in named.values())
    found: dict[HeadRule, list[str]] = {}
    for place in product(*every):
        words = [
            f"{what} {number}" if number in numbers else f"other {what}s"
            for number, (what, numbers) in zip(place, named.items(), strict=True)
            if numbers
        ]
        found.setdefault(pattern.rule(*place), []).append(", ".join(words))
    return {part: _where(places) for part, places in found.items()}


def length_of(part: HeadRule, *, symmetric: bool = False) -> int:
    """Tokens of a sequence in which the pattern shows: twice as many as it first takes."""
    length = CELLS
    while length < LONGEST:
        query, key = _samples(length)
        allowed = part.allowed(query, key, symmetric=symmetric)
        hidden = ((key <= query) | symmetric) & ~allowed
        if part.lowrank or part.weights or hidden.any():
            return length if length == CELLS else 2 * length
        length *= 2
    return length


def shares(
    part: HeadRule, length: int, boundary: int, *, symmetric: bool = False
) -> NDArray[np.float64]:
    """How much of each cell is seen, from 0 to 1, shape ``(CELLS, CELLS)``."""
    query, key = _samples(length)
    allowed = part.allowed(query, key, symmetric=symmetric)
    seen = np.broadcast_to(allowed, (len(query), key.shape[1])).astype(float)
    if part.weights is not None:
        weights = np.asarray(part.weights.weights(query, key), dtype=float) * seen
        seen = weights / max(weights.max(), 1e-9)
    if part.lowrank is not None:
        seen = np.where((query >= boundary) & (key > 0) & (key < boundary), 0.5 * seen, seen)
    side = len(query) // CELLS
    cells: NDArray[np.float64] = seen.reshape(CELLS, side, CELLS, side).mean(axis=(1, 3))
    return cells


def _samples(length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Evenly spaced queries, a column, and keys, a row."""
    places = np.linspace(0, length - 1, min(length, _SAMPLES)).astype(np.int64)
    return places[:, None], places[None]


def _shade(share: float) -> str:
    return SHADES[0 if share < FAINT else min(len(SHADES) - 1, 1 + int(share * (len(SHADES) - 1)))]


def _where(places: list[str]) -> str:
    """Where a kind of head is, in a few words."""
    if places == [""]:
        return "every layer and head"
    return " and ".join(places) if len(places) <= 3 else f"{places[0]} and {len(places) - 1} others"
