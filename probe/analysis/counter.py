"""What is counted of blocks of score rows: cells of each window, single deltas, all in one pass."""

from collections.abc import Iterable, Mapping, Sequence
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
from probe.analysis.deltas import Deltas
from probe.analysis.floor import is_noise
from probe.analysis.scan import Block, Counter, Flags, Floats, Places, Scan

Columns = Mapping[str, NDArray[Any]]

TAIL = 0.025
"""Share of the sample's deltas above the bound from which on single deltas are kept."""


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
        bounded = not block.free.any()
        key, far, delta = block.distance, block.far, block.delta
        shared = self._is_shared(block)
        if not bounded:
            key = np.where(block.free, -1 - block.place, key)
            far, shared = np.where(block.free, block.place, far), shared & ~block.free
        at = np.clip(key - self._lowest, 0, len(self._bin) - 1)
        tails = self._keep(block, self._octave.take(at))
        group = 4 * self._bin.take(at) + 2 * block.grey + shared
        begins = np.zeros(len(group), dtype=bool)
        begins[block.first] = True
        begins[1:] |= group[1:] != group[:-1]
        first = np.flatnonzero(begins)
        stretch = np.searchsorted(block.first, first, side="right") - 1
        sums = {
            "targets": np.diff(first, append=len(group)),
            "delta_sum": np.add.reduceat(delta, first),
            "delta_squares": np.add.reduceat(delta * delta, first),
            "nll_sum": np.add.reduceat(block.nll, first),
            "helped": np.add.reduceat(delta > 0, first, dtype=np.int64),
            "hurt": np.add.reduceat(delta < 0, first, dtype=np.int64),
            "far_min": np.minimum.reduceat(far, first),
            "far_max": np.maximum.reduceat(far, first),
            "signature": np.bitwise_xor.reduceat(_hashes(block.position, block.boundary), first),
        }
        return _joined(block, stretch, group[first], sums), tails

    def _is_shared(self, block: Block) -> Flags:
        if self._shared is None:
            return np.ones(len(block.boundary), dtype=bool)
        return np.asarray(self._shared.take(block.beyond, mode="clip"))

    def _keep(self, block: Block, octave: NDArray[np.integer[Any]]) -> Columns:
        """Count single deltas, and give those above the bounds."""
        rows = np.flatnonzero((octave >= 0) & ~block.grey)
        octave, delta = octave[rows], block.delta[rows]
        names = self._scan.conditions
        noise = np.array([is_noise(names[number]) for number in block.condition])
        bounds = self._bounds[False].take(octave)
        if noise.any():
            bounds = np.where(block.spread(noise)[rows], self._bounds[True].take(octave), bounds)
        high = np.flatnonzero(delta >= bounds)
        stretch = np.searchsorted(block.first, rows[high], side="right") - 1
        tails: Columns = {
            "condition": block.condition[stretch],
            "octave": octave[high],
            "targets": np.ones(len(high), dtype=np.int64),
            "delta_sum": delta[high],
        }
        # Stretches of one condition that follow one another are one.
        begins = np.flatnonzero(np.diff(block.condition, prepend=-1))
        ends = np.append(block.first[begins], len(block.position))
        ends = np.searchsorted(rows, ends).tolist()
        self.deltas.add(
            octave,
            delta,
            {
                (first, last): int(block.condition[at])
                for at, first, last in zip(begins, ends, ends[1:], strict=False)
                if first < last and not noise[at]
            },
        )
        return tails


_JOINED = {
    "far_min": np.minimum,
    "far_max": np.maximum,
    "signature": np.bitwise_xor,
}


def _joined(block: Block, stretch: Integers, group: Integers, sums: Columns) -> Columns:
    """Sums by stretch and group, of which each occurs once."""
    span = int(group.max() - group.min()) + 1
    keys = stretch * span + group
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    found = {
        name: _JOINED.get(name, np.add).reduceat(values[order], first)
        for name, values in sums.items()
    }
    chosen = order[first]
    stretch, group = stretch[chosen], group[chosen]
    return {
        "condition": block.condition[stretch],
        "document": block.document[stretch],
        "window": block.window[stretch],
        "bin": group >> 2,
        "grey": (group & 2) > 0,
        "shared": (group & 1) > 0,
        "known": np.where(block.known[stretch], found["targets"], 0),
        **found,
    }


def _hashes(position: Places, boundary: Places) -> NDArray[np.uint64]:
    """A number for each pair, by which sets of pairs are told apart once they are combined."""
    mixed = position.astype(np.uint64)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    mixed ^= boundary.astype(np.uint64) << np.uint64(32)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
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
