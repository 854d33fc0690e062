"""One pass over the score rows of a run: sums by condition, bin and document, kept for all parts.

A run may have a hundred million rows. They are read once into *cells*, from which curves,
contrasts, tails and losses are then made.
"""

import zlib

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import octave_edges, octave_index
from probe.analysis.views import is_repeated, row

UNBOUNDED, OUTSIDE = -1, -2
"""Bins of the rows without a boundary, and of those whose distance has no bin."""

TAIL = 0.025
"""Share of the sample's deltas above the bound from which on single deltas are kept."""


def cells(connection: duckdb.DuckDBPyConnection, edges: NDArray[np.int64]) -> str:
    """The cells of a run for these bins; made once a connection.

    A cell holds the rows of one condition, bin and document, the grey ones apart, and apart those
    of boundaries that every condition has (``shared``), so that whole cells of two conditions can
    be compared: two that have the same ``signature`` and as many ``targets`` hold the same targets.

    Args:
        connection: From :func:`probe.analysis.views.connect`.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.

    Returns:
        Name of a temporary table: ``condition, bin`` (index, or :data:`UNBOUNDED` or
        :data:`OUTSIDE`)``, grey, shared, document, targets, delta_sum, delta_squares, nll_sum,
        intact_sum, helped, hurt, far_min, far_max`` (of rows without a boundary the first and last
        position in the window)``, window_bits`` (a bit for each window)``, signature, tail``
        (the deltas that lie above a bound taken from a sample).
    """
    name = f"cells_{zlib.crc32(np.ascontiguousarray(edges).tobytes()):08x}"
    made = connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = $1", [name])
    if made.fetchall():
        return name
    _register(connection, edges)
    connection.execute(f"CREATE TEMP TABLE {name} AS {_query(connection)}")
    for helper in ("cell_bins", "cell_boundaries"):
        connection.unregister(helper)
    return name


def problems(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[bool, bool]:
    """Whether rows belong to unknown windows, and whether losses are no finite numbers."""
    unknown, unusable = row(
        connection,
        f"""SELECT coalesce(sum(targets - known), 0) > 0, coalesce(bool_or(numbers < targets
            OR NOT isfinite(coalesce(nll_sum, 0)) OR NOT isfinite(coalesce(intact_sum, 0))), false)
        FROM {table}""",
    )
    return bool(unknown), bool(unusable)


def scored(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[list[str], list[str]]:
    """Documents with a score, and conditions that have a boundary, each in order of name."""
    documents = connection.execute(f"SELECT DISTINCT document FROM {table}").fetchall()
    conditions = connection.execute(
        f"SELECT DISTINCT condition FROM {table} WHERE bin <> {UNBOUNDED}"
    ).fetchall()
    return sorted(str(one[0]) for one in documents), sorted(str(one[0]) for one in conditions)


def far_range(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[int, int]:
    """Shortest and longest far context of a row that can answer (tokens); zeros without any."""
    shortest, longest = row(
        connection,
        f"""SELECT min(far_min), max(far_max) FROM {table}
        WHERE bin <> {UNBOUNDED} AND NOT grey""",
    )
    return (0, 0) if shortest is None else (int(shortest), int(longest))


def _query(connection: duckdb.DuckDBPyConnection) -> str:
    """SQL of the cells; the grouping by target is paid only where a draw was repeated."""
    source = "scores"
    if is_repeated(connection):
        source = """(SELECT document, "window", position, boundary, distance, condition,
            avg(nll::DOUBLE) AS nll, avg(nll_intact::DOUBLE) AS nll_intact
            FROM scores GROUP BY ALL)"""
    last = int(row(connection, 'SELECT "window" FROM highest')[0] or 0)
    bits = f'bitstring_agg("window", 0, {last})' if last > 63 else 'bit_or(1::UBIGINT << "window")'
    return f"""
        SELECT condition, bin, grey, shared, document, count(*) AS targets,
            count(start) AS known, count(nll + intact) AS numbers,
            sum(nll - intact) AS delta_sum, sum((nll - intact) * (nll - intact)) AS delta_squares,
            sum(nll) AS nll_sum, sum(intact) AS intact_sum,
            count_if(nll > intact) AS helped, count_if(nll < intact) AS hurt,
            min(far) AS far_min, max(far) AS far_max, {bits} AS window_bits,
            bit_xor(hash("window", position, boundary)) AS signature,
            list(nll - intact) FILTER (nll - intact >= bound AND NOT grey) AS tail
        FROM (
            SELECT s.condition, s.document, s."window", s.position, s.boundary, w.start,
                CASE WHEN s.boundary < 0 THEN {UNBOUNDED}::SMALLINT
                    ELSE coalesce(b.bin, {OUTSIDE}::SMALLINT) END AS bin,
                s.boundary >= 0 AND s.distance > s.boundary - w.start AS grey,
                s.boundary >= 0 AND coalesce(f.shared, false) AS shared,
                CASE WHEN s.boundary < 0 THEN s.position ELSE s.boundary END - w.start AS far,
                s.nll::DOUBLE AS nll, s.nll_intact::DOUBLE AS intact,
                CASE WHEN starts_with(s.condition, 'noise') THEN noise_bound ELSE bound END AS bound
            FROM {source} s
                LEFT JOIN windows w ON s.document = w.document AND s."window" = w."window"
                LEFT JOIN cell_bins b ON b.distance = s.distance
                LEFT JOIN cell_boundaries f ON f.far = s.boundary - w.start
        ) GROUP BY condition, bin, grey, shared, document"""


def _register(connection: duckdb.DuckDBPyConnection, edges: NDArray[np.int64]) -> None:
    """Register the bin and tail bound of each distance, and the boundaries all conditions have."""
    boundaries = connection.execute(
        """WITH found AS (
            SELECT DISTINCT condition, s.boundary - w.start AS far
            FROM sample s JOIN windows w ON s.document = w.document AND s."window" = w."window"
            WHERE s.boundary >= 0 AND NOT starts_with(condition, 'noise')
        )
        SELECT far, true AS shared FROM found GROUP BY far
        HAVING count(*) = (SELECT count(DISTINCT condition) FROM found)"""
    ).df()
    connection.register("cell_boundaries", boundaries)
    reach = int(edges[-1])
    distances = np.arange(edges[0], reach)
    octaves = octave_index(distances)
    connection.register(
        "cell_bins", pd.DataFrame({"distance": distances.astype(np.int32), "bin": octaves})
    )
    sampled = connection.execute(
        """SELECT noise, bin, min(cut) AS bound FROM (
            SELECT condition, starts_with(condition, 'noise') AS noise, bin,
                quantile_disc(nll::DOUBLE - nll_intact::DOUBLE, $share) AS cut
            FROM sample JOIN cell_bins USING (distance) GROUP BY ALL
        ) GROUP BY ALL""",
        {"share": 1 - TAIL},
    ).df()
    connection.unregister("cell_bins")
    size = len(octave_edges(reach)) - 1
    # A quiet condition that the sample has not met is rare in the rows too: all of it is kept.
    bounds = {False: np.full(size, np.inf), True: np.full(size, -np.inf)}
    for noise, part in sampled.groupby("noise"):
        bounds[bool(noise)][part["bin"].to_numpy(dtype=np.int64)] = part["bound"]
    table = pd.DataFrame(
        {
            "distance": distances.astype(np.int32),
            "bin": (np.searchsorted(edges, distances, side="right") - 1).astype(np.int16),
            "bound": bounds[False][octaves],
            "noise_bound": bounds[True][octaves],
        }
    )
    connection.register("cell_bins", table)
