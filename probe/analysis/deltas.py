"""How many targets have which delta, counted in cells a thousandth of the value wide."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINEAR = np.float32(1e-4)
"""Below this (nats) cells have equal width; above it their width grows with the value."""
_DROPPED = 13
"""Bits of a float32 that a cell leaves open: ten of its 23 digits make cells of a thousandth."""
_HIGHEST = np.float32(256)
"""From this on (nats) all deltas are in one cell."""
_TOGETHER = 1 << 19
"""Rows of a condition that wait to be counted together."""


def _bits(values: NDArray[np.float32]) -> NDArray[np.int32]:
    return values.view(np.int32) >> _DROPPED


_ZERO = int(_bits(np.array([LINEAR]))[0])
_SIDE = int(_bits(np.array([_HIGHEST]))[0]) - _ZERO + 1
"""Cells on either side of the one that holds 0."""
_CELLS = 2 * _SIDE + 1


_Waiting = tuple[NDArray[np.int32], NDArray[np.float64]]


class Deltas:
    """Counts and sums of deltas by condition, octave of distance, and cell of delta.

    What is kept grows with the conditions, not with the rows.

    Args:
        octaves: Number of octaves.
    """

    def __init__(self, octaves: int) -> None:
        self._size = octaves * _CELLS
        self._waiting: dict[int, list[_Waiting]] = defaultdict(list)
        self._rows: Counter[int] = Counter()
        self._counts: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        self._lock = Lock()

    def add(
        self,
        octaves: NDArray[np.integer[Any]],
        deltas: NDArray[np.float64],
        conditions: Mapping[tuple[int, int], int],
    ) -> None:
        """Count some rows; any thread may.

        Args:
            octaves: Octave of each row's distance, shape ``(rows,)``.
            deltas: Delta of each row (nats), same shape.
            conditions: Number of the condition, by the first of its rows and the one behind them.
        """
        small = deltas.astype(np.float32)
        cells = np.minimum(_bits(np.abs(small) + LINEAR) - _ZERO, _SIDE)
        sign = small.view(np.int32) >> 31  # -1 or 0: a sign is turned without a branch
        keys = octaves.astype(np.int32) * np.int32(_CELLS) + np.int32(_SIDE)
        keys += (cells ^ sign) - sign
        full = {}
        with self._lock:
            for (first, last), condition in conditions.items():
                self._waiting[condition].append((keys[first:last], deltas[first:last]))
                self._rows[condition] += last - first
                if self._rows[condition] >= _TOGETHER:
                    full[condition] = self._waiting.pop(condition)
                    del self._rows[condition]
        for condition, waiting in full.items():
            self._count(condition, waiting)

    def _count(self, condition: int, waiting: list[_Waiting]) -> None:
        keys = np.concatenate([keys for keys, _ in waiting], dtype=np.intp)
        deltas = np.concatenate([deltas for _, deltas in waiting])
        counts = np.bincount(keys, minlength=self._size).astype(np.int64, copy=False)
        sums = np.bincount(keys, deltas, minlength=self._size).astype(np.float64, copy=False)
        with self._lock:
            if condition in self._counts:
                known = self._counts[condition]
                np.add(known[0], counts, out=known[0])
                np.add(known[1], sums, out=known[1])
            else:
                self._counts[condition] = counts, sums

    def columns(self) -> list[dict[str, NDArray[Any]]]:
        """``condition, octave, targets, delta_sum`` of each cell with a target, by condition."""
        for condition, waiting in self._waiting.items():
            self._count(condition, waiting)
        self._waiting.clear()
        columns = []
        for condition, (counts, sums) in sorted(self._counts.items()):
            filled = np.flatnonzero(counts)
            columns.append(
                {
                    "condition": np.full(len(filled), condition),
                    "octave": filled // _CELLS,
                    "targets": counts[filled],
                    "delta_sum": sums[filled],
                }
            )
        return columns
