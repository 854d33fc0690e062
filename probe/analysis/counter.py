"""What is counted of blocks of score rows: cells of each window, single deltas, all in one pass."""

from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import (
    OUTSIDE,
    PLACES,
    UNBOUNDED,
    Integers,
    bin_index,
    octave_edges,
    octave_index,
    place_bins,
    place_edges,
)
from probe.analysis.floor import is_noise
from probe.analysis.scan import Block, Counter, Flags, Floats, Layout, Places, Scan

Columns = Mapping[str, NDArray[Any]]

TAIL = 0.025
"""Share of the sample's deltas above the bound from which on single deltas are kept."""
ROUNDING = 1e-5
"""Up to this (nats) two losses in float32 are equal: a target was neither helped nor hurt."""


class CellCounter:
    """Counts blocks of rows, in several threads.

    Args:
        scan: Where the blocks come from.
        connection: For guesses from a sample.
        edges: Edges of the bins (tokens).
        places: First and last place in a window of the rows without a boundary.

    Attributes:
        deltas: How many of the rows have which delta.
    """

    def __init__(
        self,
        scan: Scan,
        connection: duckdb.DuckDBPyConnection,
        edges: Integers,
        places: tuple[int, int],
    ) -> None:
        self._scan = scan
        distances = np.arange(int(edges[0]), int(edges[-1]))
        octaves = octave_index(distances)
        size = len(octave_edges(int(edges[-1]))) - 1
        place = np.arange(places[1], -1, -1)
        begins = place_bins(place_edges(*places))
        bins = PLACES + 1 - np.searchsorted(begins, place, side="right")
        bins[place < places[0]] = UNBOUNDED
        # A row is looked up by its distance, or by -1 less its place; both ends are all others.
        self._lowest = -2 - places[1]
        ends = np.array([UNBOUNDED]), np.array([OUTSIDE])
        known = [ends[0], bins, bin_index(distances, edges), ends[1]]
        self._bin = np.concatenate(known).astype(np.int32)
        self._octave = np.concatenate([np.full(len(place) + 1, -1), octaves, [-1]]).astype(np.int32)
        self._bounds = _bounds(connection, octaves, size)
        self._shared = _shared(connection)
        self.deltas = Deltas(size)

    def count(
        self, blocks: Iterable[Block], along: Sequence[Counter] = ()
    ) -> tuple[list[Columns], list[Columns]]:
        """Columns of the cells of each window apart, and of the deltas above the bounds.

        Documents and conditions are numbers in them.
        """
        cells_, tails = [], []
        for block in blocks:
            counted, high = self._count(block)
            cells_.append(counted)
            tails.append(high)
            for other in along:
                other.count(block)
        return cells_, tails

    def _count(self, block: Block) -> tuple[Columns, Columns]:
        groups, delta = block.layout.once(self._groups), block.delta
        window = block.window[groups.stretch]
        counted = {
            "delta_sum": groups.sums(delta),
            "delta_squares": groups.sums(delta * delta),
            "nll_sum": groups.sums(block.nll),
            "helped": groups.sums(delta > ROUNDING, dtype=np.int64),
            "hurt": groups.sums(delta < -ROUNDING, dtype=np.int64),
            "document": block.document[groups.stretch],
            "window": window,
            "known": np.where(block.known[groups.stretch], groups.columns["targets"], 0),
            "signature": groups.columns["places"] * (_mixed(window) | np.uint64(1)),
        }
        return {**groups.columns, **counted}, self._keep(block)

    def _keep(self, block: Block) -> Columns:
        """Count single deltas, and give those above the bounds."""
        singles = block.layout.once(self._singles)
        delta = block.delta[singles.rows]
        self.deltas.add(singles.octave, delta, singles.conditions)
        high = np.flatnonzero(delta >= singles.bounds)
        return {
            "condition": block.layout.condition[singles.stretch[high]],
            "octave": singles.octave[high],
            "targets": np.ones(len(high), dtype=np.int64),
            "delta_sum": delta[high],
        }

    def _index(self, layout: Layout) -> Integers:
        """Where each row is looked up: by its distance, or by its place without a boundary."""
        key = np.where(layout.free, -1 - layout.place, layout.distance)
        return np.asarray(np.clip(key - self._lowest, 0, len(self._bin) - 1))

    def _groups(self, layout: Layout) -> "_Groups":
        """The rows by stretch, bin, greyness, and whether every condition has the boundary."""
        shared = np.ones(len(layout.place), dtype=bool)
        if self._shared is not None:
            shared = self._shared.take(layout.beyond, mode="clip")
        group = 4 * self._bin.take(self._index(layout))
        group += 2 * layout.grey + (shared & ~layout.free)
        begins = np.zeros(len(group), dtype=bool)
        begins[layout.first] = True
        begins[1:] |= group[1:] != group[:-1]
        runs = np.flatnonzero(begins)
        stretch, group = layout.stretch[runs], group[runs]
        # Runs of one stretch and group are one, wherever they stand.
        order = np.lexsort((group, stretch))
        pairs = np.stack([stretch, group])[:, order]
        first = np.flatnonzero(np.append(True, (np.diff(pairs) != 0).any(axis=0)))
        stretch, group = pairs[:, first]
        far = np.where(layout.free, layout.place, layout.far)
        places = layout.place + (layout.beyond.astype(np.int64) << 32)
        groups = _Groups(runs, order, first, stretch)
        columns = {
            "condition": layout.condition[stretch],
            "bin": group >> 2,
            "grey": (group & 2) > 0,
            "shared": (group & 1) > 0,
            "targets": groups.sums(np.ones(len(far), dtype=np.int64)),
            "far_min": groups.sums(far, np.minimum),
            "far_max": groups.sums(far, np.maximum),
            "places": groups.sums(_mixed(places)),
        }
        return replace(groups, columns=columns)

    def _singles(self, layout: Layout) -> "_Singles":
        """The rows whose delta is kept: not grey, and at a distance."""
        octave = self._octave.take(self._index(layout))
        rows = np.flatnonzero((octave >= 0) & ~layout.grey)
        octave, stretch = octave[rows], layout.stretch[rows]
        names = self._scan.conditions
        noise = np.array([is_noise(names[number]) for number in layout.condition])
        loud, quiet = (self._bounds[of_noise].take(octave) for of_noise in (False, True))
        # Stretches of one condition that follow one another are one.
        begins = np.flatnonzero(np.diff(layout.condition, prepend=-1))
        ends = np.searchsorted(rows, np.append(layout.first[begins], len(layout.place))).tolist()
        return _Singles(
            rows=slice(None) if len(rows) == len(layout.place) else rows,
            octave=octave,
            stretch=stretch,
            bounds=np.where(noise[stretch], quiet, loud),
            conditions={
                (start, end): int(layout.condition[at])
                for at, start, end in zip(begins, ends, ends[1:], strict=False)
                if start < end and not noise[at]
            },
        )


@dataclass(frozen=True, eq=False)
class _Groups:
    """The rows of a layout in groups, of one stretch and bin each.

    Args:
        runs: First row of each run of a group.
        order: Runs by group.
        first: Index in *order* of the first run of each group.
        stretch: Number of the stretch of each group, shape ``(groups,)``, as *columns*.
        columns: What is known of the groups without a loss.
    """

    runs: Integers
    order: Integers
    first: Integers
    stretch: Integers
    columns: Columns = field(default_factory=dict)

    def sums(self, values: NDArray[Any], ufunc: np.ufunc = np.add, dtype: Any = None) -> Any:
        """The sum, or what else *ufunc* makes, of the values of each group's rows."""
        of_runs = ufunc.reduceat(values, self.runs, dtype=dtype)
        return ufunc.reduceat(of_runs[self.order], self.first)


@dataclass(frozen=True, eq=False)
class _Singles:
    """The rows of a layout whose delta is kept by itself.

    Args:
        rows: Which they are.
        octave: Octave of the distance of each, shape ``(rows,)``, as the two that follow.
        stretch: Number of its stretch.
        bounds: Delta (nats) from which on it is kept.
        conditions: Number of the condition, by the first of *rows* and the one behind the last.
    """

    rows: slice | Integers
    octave: NDArray[np.integer[Any]]
    stretch: Places
    bounds: Floats
    conditions: Mapping[tuple[int, int], int]


def _mixed(values: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """A number for each value; sums of them tell sets of values apart."""
    mixed = values.astype(np.uint64)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    return mixed


def _shared(connection: duckdb.DuckDBPyConnection) -> Flags | None:
    """Whether every condition of the sample has a boundary, by tokens from the window's start.

    Returns:
        ``None`` where that holds for all of them, or none: nothing needs to be kept apart.
    """
    found = connection.execute(
        """WITH found AS (
            SELECT DISTINCT condition, s.boundary - w.start AS far
            FROM sample s JOIN windows w ON s.document = w.document AND s."window" = w."window"
            WHERE s.boundary >= 0 AND NOT starts_with(condition, 'noise')
        )
        SELECT far, count(*) = (SELECT count(DISTINCT condition) FROM found) AS everywhere
        FROM found GROUP BY far ORDER BY far"""
    ).fetchall()
    chosen = [int(far) for far, everywhere in found if everywhere]
    if len(chosen) in (0, len(found)):
        return None
    shared = np.zeros(max(chosen) + 2, dtype=bool)  # the last is that of all beyond
    shared[chosen] = True
    return shared


def _bounds(
    connection: duckdb.DuckDBPyConnection, octaves: Integers, size: int
) -> dict[bool, Floats]:
    """Deltas (nats) from which on they are kept, by octave: of the noise control, and of others."""
    distances = pd.DataFrame({"distance": np.arange(len(octaves)), "octave": octaves})
    connection.register("octaves", distances)
    sampled = connection.execute(
        """SELECT noise, octave, min(cut) AS bound FROM (
            SELECT condition, starts_with(condition, 'noise') AS noise, octave,
                quantile_disc(nll::DOUBLE - nll_intact::DOUBLE, $share) AS cut
            FROM sample JOIN octaves USING (distance) GROUP BY ALL
        ) GROUP BY ALL""",
        {"share": 1 - TAIL},
    ).df()
    connection.unregister("octaves")
    # A quiet condition that the sample has not met is rare in the rows too: all of it is kept.
    bounds = {False: np.full(size, np.inf), True: np.full(size, -np.inf)}
    for noise, part in sampled.groupby("noise"):
        bounds[bool(noise)][part["octave"].to_numpy(dtype=np.int64)] = part["bound"]
    return bounds


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
        self._rows: Counts[int] = Counts()
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
