"""One pass over the score rows of a run: sums by condition, bin and document, kept for all parts.

A run may have a hundred million rows. They are read once into *cells*, from which curves,
contrasts, shares, quantiles and losses are then made.
"""

import itertools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from probe.analysis.bins import (
    OUTSIDE,
    UNBOUNDED,
    Integers,
)
from probe.analysis.counter import CellCounter
from probe.analysis.scan import Counter, Scan
from probe.results.views import row

TOGETHER = 32
"""Parts whose counts are in memory at once."""


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
        :class:`probe.analysis.counter.Deltas`; ``_tails`` the same of single deltas above a
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
    counter = CellCounter(scan, connection, edges, places)
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
        "min(far_min) AS far_min, max(far_max) AS far_max",
        f"(sum(signature) % {1 << 64})::UBIGINT AS signature",
    ]
)
