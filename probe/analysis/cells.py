"""One pass over the score rows of a run: sums by condition, bin and document, kept for all parts.

A run may have a hundred million rows. They are read once into *cells*, from which curves,
contrasts, shares, quantiles and losses are then made.
"""

import itertools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from probe.analysis.bins import bin_index, octave_edges, octave_index
from probe.analysis.deltas import Deltas
from probe.analysis.floor import is_noise
from probe.analysis.scan import Block, Counter, Flags, Floats, Integers, Places, Scan
from probe.results.views import row

Columns = Mapping[str, NDArray[Any]]

OUTSIDE, UNBOUNDED, PLACES = -1, -2, -3
"""Bins below 0: of the rows whose distance has no bin; of those without a boundary (an intact row
and its like); from PLACES down they are those of :func:`place_index`."""

TAIL = 0.025
"""Share of the sample's deltas above the bound from which on single deltas are kept."""
TOGETHER = 32
"""Parts whose counts are in memory at once."""
PLACE_BINS = 32
"""Bins of position at most, in even steps of the logarithm."""


def cells(
    connection: duckdb.DuckDBPyConnection, edges: NDArray[np.int64], along: Sequence[Counter] = ()
) -> str:
    """The cells of a run for these bins; made once a connection.

    A cell holds the rows of one condition, bin and document, the grey ones apart, and apart those
    of boundaries that every condition has (``shared``), so that whole cells of two conditions can
    be compared: two that have the same ``signature`` and as many ``targets`` hold the same targets.
    Rows without a boundary are divided by their place in the window instead, as
    :func:`place_edges` says.

    Args:
        connection: From :func:`probe.results.views.connect`.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.
        along: What else counts the rows as they are read.

    Returns:
        Name of a temporary table: ``condition, bin`` (index, or one of those below 0)``, grey,
        shared, document, targets, known`` (targets in a window that is known and holds them)``,
        delta_sum, delta_squares, nll_sum, helped, hurt, far_min, far_max`` (of rows without a
        boundary the first and last place)``, window_bits`` (a bit for each window)``,
        signature``. Three more begin with its name, all of rows with a boundary:
        ``_windows`` has ``condition, document, window, grey, targets, delta_sum``;
        ``_deltas`` has ``condition, octave, targets, delta_sum`` of each cell of delta, see
        :class:`probe.analysis.deltas.Deltas`; ``_tails`` the same of single deltas above a
        bound taken from a sample. The last two lack grey rows, and ``_deltas`` the noise
        control.

    Raises:
        OSError: If a part cannot be read, or a page is not what was written.
    """
    name = f"cells_{zlib.crc32(np.ascontiguousarray(edges).tobytes()):08x}"
    made = connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = $1", [name])
    if made.fetchall():
        return name
    guess = _places(connection, "sample")
    _make(connection, name, edges, guess, along)
    first, last = row(
        connection, f"SELECT min(far_min), max(far_max) FROM {name} WHERE bin <= {UNBOUNDED}"
    )
    # Bins of places span all of them: where the sample did not have all, they are known now.
    if first is not None and (int(first), int(last)) != guess:
        _make(connection, name, edges, (int(first), int(last)))
    return name


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
    begins = _place_bins(known)[PLACES - bins]
    return np.asarray(np.searchsorted(known[way], begins, side="right") - 1, dtype=np.int64)


def _place_bins(known: Mapping[str, Integers]) -> Integers:
    """First place of each bin, in which no edge of any way lies."""
    return np.unique(np.concatenate(list(known.values())))


def doubtful(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether a row lies outside all known windows, or a loss is missing or no finite number."""
    found, *_ = row(
        connection,
        f"""SELECT coalesce(bool_or(known < targets OR NOT isfinite(coalesce(nll_sum, 0))
            OR NOT isfinite(coalesce(delta_sum, 0))), false) FROM {table}""",
    )
    return bool(found)


def scored(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[list[str], list[str]]:
    """Documents with a score, and conditions that have a boundary, each in order of name."""
    documents = connection.execute(f"SELECT DISTINCT document FROM {table}").fetchall()
    conditions = connection.execute(
        f"SELECT DISTINCT condition FROM {table} WHERE bin >= {OUTSIDE}"
    ).fetchall()
    return sorted(str(one[0]) for one in documents), sorted(str(one[0]) for one in conditions)


def far_range(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[int, int]:
    """Shortest and longest far context of a row that can answer (tokens); zeros without any."""
    shortest, longest = row(
        connection,
        f"SELECT min(far_min), max(far_max) FROM {table} WHERE bin >= {OUTSIDE} AND NOT grey",
    )
    return (0, 0) if shortest is None else (int(shortest), int(longest))


def windows_and_targets(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[int, int]:
    """Windows with scores, and targets: each counts once, whatever was scored of it.

    The intact rows hold each target of a window once. Where every window plainly has one at every
    place from its document's first to the last, they are the targets; else positions are counted.
    """
    windows, targets, plain = row(
        connection,
        f"""SELECT coalesce(sum(windows), 0), coalesce(sum(intact), 0), coalesce(bool_and(
            windows = whole AND intact = whole * (last - first + 1)), false)
        FROM (SELECT bit_count(bit_or(window_bits)) AS windows,
                bit_count(bit_or(window_bits) FILTER (condition = 'intact')) AS whole,
                sum(targets) FILTER (condition = 'intact') AS intact,
                min(far_min) FILTER (condition = 'intact') AS first,
                max(far_max) FILTER (condition = 'intact') AS last
            FROM {table} GROUP BY document)""",
    )
    if not plain:
        windows, targets = row(
            connection,
            """SELECT count(*), coalesce(sum(targets), 0) FROM (SELECT count(DISTINCT position)
            AS targets FROM scores GROUP BY document, "window")""",
        )
    return int(windows), int(targets)


def _places(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[int, int]:
    """First and last place in a window of the rows without a boundary."""
    first, last = row(
        connection,
        f"""SELECT coalesce(min(s.position - w.start), 0), coalesce(max(s.position - w.start), 0)
        FROM {table} s JOIN windows w ON s.document = w.document AND s."window" = w."window"
        WHERE s.boundary < 0""",
    )
    return int(first), int(last)


def _make(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    edges: Integers,
    places: tuple[int, int],
    along: Sequence[Counter] = (),
) -> None:
    """Read the rows, and sum up what was counted of each window."""
    scan = Scan(connection)
    counter = _Counter(scan, connection, edges, places)
    for other in along:
        other.begin(scan)
    for ending in ("", "_windows", "_tails", "_deltas", "_parts"):
        connection.execute(f"DROP TABLE IF EXISTS {name}{ending}")
    parts = scan.each(lambda blocks: counter.count(blocks, along))
    # Some parts at a time: what is counted of each window apart is much in a large run.
    while some := list(itertools.islice(parts, TOGETHER)):
        _add(
            connection, name, _table(scan, _CELL, [part for counted, _ in some for part in counted])
        )
        _put(
            connection,
            f"{name}_tails",
            _table(scan, _DELTA, [high for _, tails in some for high in tails]),
        )
    _put(connection, f"{name}_deltas", _table(scan, _DELTA, counter.deltas.columns()))
    _sum_up(connection, name)


_CELL: Mapping[str, type[np.generic]] = {
    **dict.fromkeys(("condition", "document", "window"), np.int32),
    "bin": np.int16,
    **dict.fromkeys(("grey", "shared"), np.bool_),
    **dict.fromkeys(("targets", "known", "helped", "hurt"), np.int64),
    **dict.fromkeys(("delta_sum", "delta_squares", "nll_sum"), np.float64),
    **dict.fromkeys(("far_min", "far_max"), np.int32),
    "signature": np.uint64,
}
_DELTA: Mapping[str, type[np.generic]] = {
    "condition": np.int32,
    "octave": np.int8,
    "targets": np.int32,
    "delta_sum": np.float64,
}


def _table(
    scan: Scan, kinds: Mapping[str, type[np.generic]], parts: Sequence[Mapping[str, NDArray[Any]]]
) -> pa.Table:
    """Columns of these kinds, with the names of documents and conditions for their numbers."""
    whole: dict[str, Any] = {
        name: np.concatenate([np.empty(0, kind), *(part[name].astype(kind) for part in parts)])
        for name, kind in kinds.items()
    }
    for name, names in (("document", scan.documents), ("condition", scan.conditions)):
        if name in whole:
            numbers = pa.array(whole[name])
            whole[name] = pa.DictionaryArray.from_arrays(numbers, pa.array(names, pa.string()))
    return pa.table(whole)


def _add(connection: duckdb.DuckDBPyConnection, name: str, counted: pa.Table) -> None:
    """Add what was counted of some windows to the tables of windows and of parts."""
    connection.register("counted", counted)
    last = int(row(connection, 'SELECT max("window") FROM windows')[0] or 0)
    bits = f'bitstring_agg("window", 0, {last})' if last > 63 else 'bit_or(1::UBIGINT << "window")'
    _insert(
        connection,
        f"{name}_parts",
        f"""SELECT condition::VARCHAR AS condition, bin, grey, shared,
            document::VARCHAR AS document, {_SUMS}, {bits} AS window_bits
        FROM counted GROUP BY ALL""",
    )
    _insert(
        connection,
        f"{name}_windows",
        f"""SELECT condition::VARCHAR AS condition, document::VARCHAR AS document, "window", grey,
            sum(targets)::BIGINT AS targets, sum(delta_sum) AS delta_sum
        FROM counted WHERE bin >= {OUTSIDE} GROUP BY ALL""",
    )
    connection.unregister("counted")


def _put(connection: duckdb.DuckDBPyConnection, table: str, counted: pa.Table) -> None:
    """Add rows of deltas to a table."""
    connection.register("counted", counted)
    _insert(connection, table, "SELECT * REPLACE (condition::VARCHAR AS condition) FROM counted")
    connection.unregister("counted")


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: str) -> None:
    connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} AS FROM ({rows}) LIMIT 0")
    connection.execute(f"INSERT INTO {table} {rows}")


def _sum_up(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Make the table of cells; those of a document that came in several pieces are added up."""
    apart, *_ = row(
        connection,
        f"""SELECT EXISTS (SELECT 1 FROM {name}_parts
        GROUP BY condition, bin, grey, shared, document HAVING count(*) > 1)""",
    )
    if not apart:
        connection.execute(f"ALTER TABLE {name}_parts RENAME TO {name}")
        return
    connection.execute(
        f"""CREATE TEMP TABLE {name} AS
        SELECT condition, bin, grey, shared, document, {_SUMS}, bit_or(window_bits) AS window_bits
        FROM {name}_parts GROUP BY ALL"""
    )
    connection.execute(f"DROP TABLE {name}_parts")


_SUMS = ", ".join(
    [
        *(f"sum({name})::BIGINT AS {name}" for name in ("targets", "known", "helped", "hurt")),
        *(f"sum({name}) AS {name}" for name in ("delta_sum", "delta_squares", "nll_sum")),
        "min(far_min) AS far_min, max(far_max) AS far_max, bit_xor(signature) AS signature",
    ]
)


class _Counter:
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
        begins = _place_bins(place_edges(*places))
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
