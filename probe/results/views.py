"""DuckDB views over the parquet files of a run: rows are aggregated there, never loaded."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from probe.errors import ProbeError
from probe.results.record import PLAIN, Reading
from probe.text import counted

OFFSETS = ("char_start", "char_end")
LISTS = ("token_ids", *OFFSETS)
"""Columns of ``windows.parquet`` that hold a list a window."""
SAMPLE = 16
"""Parts, taken evenly from all, whose rows stand for the run where a guess is enough."""


def connect(
    windows: Path,
    parts: Sequence[Path],
    *,
    checked: bool = True,
    reading: Reading = PLAIN,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that sees the rows of a run.

    ``windows`` and ``scores`` have the columns of the results contract, ``scores`` without the
    rows of distractors, which are no losses of the targets; ``sample`` is the scores of some parts.
    ``targets`` has one row per target, boundary and condition that has a boundary, its repeats
    averaged: ``document, window, position, boundary, distance, condition, nll, nll_intact, delta``
    (nats), ``far`` (tokens between the window's start and the boundary) and ``grey`` (the distance
    is longer than the far context, where delta falls to 0 by construction). The macro
    ``far_tokens`` gives the length of the far context for other views.

    Args:
        windows: The run's ``windows.parquet``.
        parts: Its score parts.
        checked: Look for rows of windows that are not in *windows*; without,
            :func:`probe.analysis.cells.cells` does, in its own pass.
        reading: How the rows are read; ``rows`` are all of them, alternatives too.

    Returns:
        The connection; use it in a ``with``.

    Raises:
        ProbeError: If a window that was scored is not in *windows*.
    """
    # What does not fit the memory goes to the system's place for that, not to where the user is.
    connection = duckdb.connect(config={"temp_directory": f"{tempfile.gettempdir()}/context-probe"})
    some = parts[:: max(1, len(parts) // SAMPLE)]
    told = _footers(connection, [pattern(part) for part in parts])
    window_rows(connection, windows).create_view("windows")
    parquet_rows(connection, parts).create_view("rows")
    for name, files in (("scores", parts), ("sample", some)):
        rows = parquet_rows(connection, files)
        if reading.alternatives and _may_begin(told, reading.alternatives):
            rows = rows.filter(f"NOT starts_with(condition, '{reading.alternatives}')")
        rows.create_view(name)
    if checked:
        refuse_unknown_windows(connection, windows)
    connection.execute(
        "CREATE TEMP TABLE highest AS SELECT $1::BIGINT AS repeat, $2::BIGINT AS distance",
        _highest(connection, told),
    )
    connection.execute(
        """CREATE TEMP TABLE reading AS SELECT $1::VARCHAR[] AS parts, $2::BIGINT AS context,
            $3::VARCHAR AS alternatives, $4::VARCHAR AS measure""",
        [[str(part) for part in parts], reading.context, reading.alternatives, reading.measure],
    )
    connection.execute(
        f"CREATE MACRO far_tokens(boundary, distance, start) AS {reading.far_tokens}"
    )
    connection.execute(_targets_view(repeated=is_repeated(connection)))
    return connection


def parquet_rows(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path]
) -> duckdb.DuckDBPyRelation:
    """The rows of parquet files, which are read when they are asked for."""
    patterns = [pattern(file) for file in files]
    return connection.read_parquet(patterns, union_by_name=True, hive_partitioning=False)


def window_rows(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    """The rows of ``windows.parquet``; text that has not an offset for each token is left out."""
    rows = parquet_rows(connection, [path])
    if not doubtful_offsets(path):
        return rows
    usable = usable_offsets(rows.columns)
    kinds = {"text": "VARCHAR", **dict.fromkeys(OFFSETS, "INTEGER[]")}
    columns = [f'"{name}"' for name in rows.columns if name not in kinds]
    for name, kind in kinds.items():
        value = name if name in rows.columns else "NULL"
        columns.append(f"CASE WHEN {usable} THEN {value}::{kind} END AS {name}")
    return rows.project(", ".join(columns))


def doubtful_offsets(path: Path) -> bool:
    """Whether some window may not have an offset for each of its tokens, by the file's footer."""
    footer = pq.read_metadata(path)
    leaves = column_names(footer)
    if not set(LISTS) <= set(leaves):
        return True
    groups = map(footer.row_group, range(footer.num_row_groups))
    sizes = [{group.column(leaves.index(name)).num_values for name in LISTS} for group in groups]
    return any(len(size) > 1 for size in sizes) or any(may_lack(footer, name) for name in OFFSETS)


def column_names(footer: pq.FileMetaData) -> list[str]:
    """The column that each leaf of a parquet file belongs to."""
    names = (footer.schema.column(number).path for number in range(footer.num_columns))
    return [name.partition(".")[0] for name in names]


def may_lack(footer: pq.FileMetaData, name: str) -> bool:
    """Whether a list, or a number in it, may be missing; an empty list counts as one, too."""
    at = column_names(footer).index(name)
    found = [footer.row_group(n).column(at).statistics for n in range(footer.num_row_groups)]
    return not all(one is not None and one.has_null_count and not one.null_count for one in found)


def usable_offsets(columns: Sequence[str]) -> str:
    """SQL: whether a row of ``windows.parquet`` has an offset for each token."""
    if not set(OFFSETS) <= set(columns):
        return "false"
    lengths = " AND ".join(f"len({name}) = len(token_ids)" for name in OFFSETS)
    return f"coalesce({lengths}, false)"


def pattern(path: Path) -> str:
    """The path as a DuckDB file pattern that matches this path alone."""
    return re.sub(r"([\[*?])", r"[\1]", str(path))


def is_repeated(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether any condition was drawn more than once."""
    return bool(row(connection, "SELECT repeat FROM highest")[0])


def longest_distance(connection: duckdb.DuckDBPyConnection) -> int:
    """Longest distance of any row (tokens); -1 where no condition has a boundary."""
    longest, *_ = row(connection, "SELECT distance FROM highest")
    return -1 if longest is None else int(longest)


def bytes_per_token(connection: duckdb.DuckDBPyConnection) -> float | None:
    """Mean UTF-8 bytes of a token over the run's windows, ``None`` for data without text."""
    size, tokens = row(
        connection,
        "SELECT sum(strlen(text)), sum(len(token_ids)) FROM windows WHERE text IS NOT NULL",
    )
    return float(size) / float(tokens) if size and tokens else None


def row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The one row of a query; all of it is fetched, so that the connection is free again."""
    rows: list[tuple[Any, ...]] = connection.execute(query).fetchall()
    return rows[0]


def _footers(connection: duckdb.DuckDBPyConnection, parts: list[str]) -> dict[str, list[Any]]:
    """Lowest and highest value of some columns, where the footers of all parts tell.

    Returns:
        By column: both as text, in the order of text, and the highest as a number.
    """
    found = connection.execute(
        """SELECT path_in_schema AS name, min(stats_min_value), max(stats_max_value),
            max(try_cast(stats_max_value AS BIGINT)),
            bool_and(stats_min_value IS NOT NULL AND stats_max_value IS NOT NULL)
        FROM parquet_metadata($parts)
        WHERE name IN ('repeat', 'distance', 'condition') AND num_values > 0 GROUP BY name""",
        {"parts": parts},
    ).fetchall()
    return {name: values for name, *values, whole in found if whole}


def _may_begin(told: Mapping[str, list[Any]], prefix: str) -> bool:
    """Whether some condition can begin so; the rows decide, where it can."""
    if "condition" not in told:
        return True
    lowest, highest, _ = told["condition"]
    return bool(lowest < prefix + "~" and highest >= prefix)


def _highest(
    connection: duckdb.DuckDBPyConnection, told: Mapping[str, list[Any]]
) -> list[int | None]:
    """Largest repeat and distance of all rows: from the parts' footers, where all tell."""
    if {"repeat", "distance"} <= told.keys():
        return [told["repeat"][2], told["distance"][2]]
    return list(row(connection, "SELECT max(repeat), max(distance) FROM scores"))


def _targets_view(repeated: bool) -> str:
    """SQL of the view ``targets``; the grouping is paid only where a draw was repeated."""
    nll, intact, grouping = "s.nll::DOUBLE", "s.nll_intact::DOUBLE", ""
    if repeated:
        nll, intact, grouping = f"avg({nll})", f"avg({intact})", "GROUP BY ALL"
    return f"""
        CREATE VIEW targets AS
        SELECT *, nll - nll_intact AS delta
        FROM (
            SELECT s.document, s."window", s.position, s.boundary, s.distance, s.condition,
                s.boundary - w.start AS far, {nll} AS nll, {intact} AS nll_intact,
                s.distance > far_tokens(s.boundary, s.distance, w.start) AS grey
            FROM scores s JOIN windows w ON s.document = w.document AND s."window" = w."window"
            WHERE s.boundary >= 0 {grouping}
        )"""


def refuse_unknown_windows(connection: duckdb.DuckDBPyConnection, windows: Path) -> None:
    """Raise where a window that was scored is not in ``windows``, or ends before its last target.

    Raises:
        ProbeError: If that is so.
    """
    wrong = connection.execute(
        """SELECT document, "window", last, start, len(token_ids) AS tokens
        FROM (SELECT document, "window", max(position) AS last FROM scores GROUP BY ALL)
        LEFT JOIN windows USING (document, "window")
        WHERE start IS NULL OR last >= start + tokens
        ORDER BY (start IS NOT NULL, document, "window")"""
    ).fetchall()
    if not wrong:
        return
    document, window, last, start, tokens = wrong[0]
    if start is None:
        missing = sum(begin is None for *_, begin, _ in wrong)
        raise ProbeError(
            f"'{windows}' lacks {counted(missing, 'window')} that"
            f" {'was' if missing == 1 else 'were'} scored, the first is window {window} of"
            f" document '{document}'"
        )
    raise ProbeError(
        f"'{windows}' has {tokens:,} tokens from {start:,} on in window {window} of document"
        f" '{document}', of which the target at {last:,} was scored"
    )
