"""One pass over the score rows of a run: sums by condition, bin and document, kept for all parts.

A run may have a hundred million rows. They are read once into *cells*, from which curves,
contrasts, tails and losses are then made.
"""

import zlib

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import bin_index, octave_edges, octave_index
from probe.results.views import is_repeated, row

OUTSIDE, UNBOUNDED, PLACES = -1, -2, -3
"""Bins below 0: of the rows whose distance has no bin; of those without a boundary (an intact row
and its like); from PLACES down they are those of :func:`places_of`."""

TAIL = 0.025
"""Share of the sample's deltas above the bound from which on single deltas are kept."""


def cells(connection: duckdb.DuckDBPyConnection, edges: NDArray[np.int64]) -> str:
    """The cells of a run for these bins; made once a connection.

    A cell holds the rows of one condition, bin and document, the grey ones apart, and apart those
    of boundaries that every condition has (``shared``), so that whole cells of two conditions can
    be compared: two that have the same ``signature`` and as many ``targets`` hold the same targets.
    Rows without a boundary are divided by their place in the window instead, into octaves and
    into quarters of the range from the first to the last place.

    Args:
        connection: From :func:`probe.results.views.connect`.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.

    Returns:
        Name of a temporary table: ``condition, bin`` (index, or one of those below 0)``, grey,
        shared, document, targets, delta_sum, delta_squares, nll_sum, helped, hurt,
        far_min, far_max`` (of rows without a boundary the first and last place)``, window_bits``
        (a bit for each window)``, signature, tail`` (the deltas that lie above a bound taken from
        a sample).
    """
    name = f"cells_{zlib.crc32(np.ascontiguousarray(edges).tobytes()):08x}"
    made = connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = $1", [name])
    if made.fetchall():
        return name
    guess = _places(connection, "sample")
    _make(connection, name, edges, guess)
    first, last = row(
        connection, f"SELECT min(far_min), max(far_max) FROM {name} WHERE bin <= {UNBOUNDED}"
    )
    # Quarters are those of all places: where the sample did not have them all, they are known now.
    if first is not None and (int(first), int(last)) != guess:
        connection.execute(f"DROP TABLE {name}")
        _make(connection, name, edges, (int(first), int(last)))
    return name


def places_of(bins: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Octave (from 0) and quarter (1 to 4) of the place in the window that bins stand for."""
    return (PLACES - bins) // 4, (PLACES - bins) % 4 + 1


def doubtful(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    """Whether a row lies outside all known windows, or a loss is missing or no finite number."""
    found, *_ = row(
        connection,
        f"""SELECT coalesce(bool_or(whole < targets OR NOT isfinite(coalesce(nll_sum, 0))
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
    edges: NDArray[np.int64],
    places: tuple[int, int],
) -> None:
    """Read the rows; the grouping by target is paid only where a draw was repeated."""
    connection.register("cell_bins", _bins(connection, edges, places))
    source = "scores"
    if is_repeated(connection):
        source = """(SELECT document, "window", position, boundary, distance, condition,
            avg(nll::DOUBLE) AS nll, avg(nll_intact::DOUBLE) AS nll_intact
            FROM scores GROUP BY ALL)"""
    last = int(row(connection, 'SELECT max("window") FROM windows')[0] or 0)
    bits = f'bitstring_agg("window", 0, {last})' if last > 63 else 'bit_or(1::UBIGINT << "window")'
    connection.execute(
        f"""CREATE TEMP TABLE {name} AS
        SELECT condition, bin, grey, shared, document, count(*) AS targets,
            count(CASE WHEN position < stop THEN delta END) AS whole,
            sum(delta) AS delta_sum, sum(delta * delta) AS delta_squares,
            sum(nll) AS nll_sum, count_if(delta > 0) AS helped, count_if(delta < 0) AS hurt,
            min(far) AS far_min, max(far) AS far_max, {bits} AS window_bits,
            bit_xor(hash(position, boundary)) AS signature,
            list(delta) FILTER (delta >= bound AND NOT grey) AS tail
        FROM (
            SELECT s.condition, s.document, s."window", s.position, s.boundary, w.stop,
                coalesce(b.bin, if(s.boundary < 0, {UNBOUNDED}, {OUTSIDE})::SMALLINT) AS bin,
                s.boundary >= 0
                    AND s.distance > far_tokens(s.boundary, s.distance, w.start) AS grey,
                {_shared(connection)} AS shared,
                if(s.boundary < 0, s.position - w.start,
                    far_tokens(s.boundary, s.distance, w.start)) AS far,
                s.nll::DOUBLE AS nll, s.nll::DOUBLE - s.nll_intact::DOUBLE AS delta,
                if(starts_with(s.condition, 'noise'), noise_bound, bound) AS bound
            FROM {source} s
                LEFT JOIN (
                    -- Lengths before the join: it would carry the ids of each row's window.
                    SELECT document, "window", start, start + len(token_ids) AS stop FROM windows
                ) w ON s.document = w.document AND s."window" = w."window"
                LEFT JOIN cell_bins b
                    ON b.key = if(s.boundary < 0, w.start - s.position - 1, s.distance)
        ) GROUP BY condition, bin, grey, shared, document"""
    )
    connection.unregister("cell_bins")


def _shared(connection: duckdb.DuckDBPyConnection) -> str:
    """SQL: whether a row's boundary is one that every condition of the sample has."""
    found = connection.execute(
        """WITH found AS (
            SELECT DISTINCT condition, s.boundary - w.start AS far
            FROM sample s JOIN windows w ON s.document = w.document AND s."window" = w."window"
            WHERE s.boundary >= 0 AND NOT starts_with(condition, 'noise')
        )
        SELECT far, count(*) = (SELECT count(DISTINCT condition) FROM found) AS everywhere
        FROM found GROUP BY far ORDER BY far"""
    ).fetchall()
    chosen = [str(int(far)) for far, everywhere in found if everywhere]
    if len(chosen) in (0, len(found)):
        return "s.boundary >= 0"
    return f"s.boundary >= 0 AND s.boundary - w.start IN ({', '.join(chosen)})"


def _bins(
    connection: duckdb.DuckDBPyConnection, edges: NDArray[np.int64], places: tuple[int, int]
) -> pd.DataFrame:
    """Bin and tail bounds by ``key``: a distance, or −1 less the place where there is none."""
    first, last = int(edges[0]), int(edges[-1])
    distances = np.arange(first, last)
    octaves = octave_index(distances)
    connection.register("octaves", pd.DataFrame({"distance": distances, "octave": octaves}))
    sampled = connection.execute(
        """SELECT noise, octave, min(cut) AS bound FROM (
            SELECT condition, starts_with(condition, 'noise') AS noise, octave,
                quantile_disc(nll::DOUBLE - nll_intact::DOUBLE, $share) AS cut
            FROM sample JOIN octaves USING (distance) GROUP BY ALL
        ) GROUP BY ALL""",
        {"share": 1 - TAIL},
    ).df()
    connection.unregister("octaves")
    size = len(octave_edges(last)) - 1
    # A quiet condition that the sample has not met is rare in the rows too: all of it is kept.
    bounds = {False: np.full(size, np.inf), True: np.full(size, -np.inf)}
    for noise, part in sampled.groupby("noise"):
        bounds[bool(noise)][part["octave"].to_numpy(dtype=np.int64)] = part["bound"]
    place = np.arange(max(places[0], 0), places[1] + 1)
    quarter = 4 * (place - places[0]) // (places[1] - places[0] + 1)
    outside = np.full(len(place), np.inf)
    return pd.DataFrame(
        {
            "key": np.concatenate([-1 - place, distances]).astype(np.int32),
            "bin": np.concatenate(
                [PLACES - 4 * octave_index(place) - quarter, bin_index(distances, edges)]
            ).astype(np.int16),
            "bound": np.concatenate([outside, bounds[False][octaves]]),
            "noise_bound": np.concatenate([outside, bounds[True][octaves]]),
        }
    )
