"""DuckDB views over the parquet files of a run: rows are aggregated there, never loaded."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from probe.errors import ProbeError


def connect(windows: Path, parts: Sequence[Path]) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that sees the rows of a run.

    ``windows`` and ``scores`` have the columns of the results contract. ``targets`` has one row
    per target, boundary and condition that has a boundary, its repeats averaged: ``document,
    window, position, boundary, distance, condition, nll, nll_intact, delta`` (nats), ``far``
    (tokens between the window's start and the boundary) and ``grey`` (the distance is longer than
    ``far``, where delta falls to 0 by construction).

    Args:
        windows: The run's ``windows.parquet``.
        parts: Its score parts.

    Returns:
        The connection; use it in a ``with``.

    Raises:
        ProbeError: If a window that was scored is not in *windows*.
    """
    connection = duckdb.connect()
    for name, files in (("windows", [windows]), ("scores", list(parts))):
        patterns = [pattern(file) for file in files]
        rows = connection.read_parquet(patterns, union_by_name=True, hive_partitioning=False)
        rows.create_view(name)
    _refuse_unknown_windows(connection, windows)
    highest, *_ = _row(connection, "SELECT max(repeat) FROM scores")
    connection.execute(_targets_view(repeated=bool(highest)))
    return connection


def pattern(path: Path) -> str:
    """The path as a DuckDB file pattern that matches this path alone."""
    return re.sub(r"([\[*?])", r"[\1]", str(path))


def scored_conditions(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Conditions with a boundary, in order of name."""
    rows = connection.execute("SELECT DISTINCT condition FROM scores WHERE boundary >= 0")
    return sorted(str(row[0]) for row in rows.fetchall())


def scored_documents(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Documents with at least one score, in order of name."""
    rows = connection.execute("SELECT DISTINCT document FROM scores")
    return sorted(str(row[0]) for row in rows.fetchall())


def scored_windows_and_targets(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Windows with scores, and targets: each counts once, whatever was scored of it."""
    windows, targets = _row(
        connection,
        """SELECT count(*), coalesce(sum(targets), 0) FROM (
            SELECT count(DISTINCT position) AS targets FROM scores GROUP BY document, "window"
        )""",
    )
    return int(windows), int(targets)


def longest_distance(connection: duckdb.DuckDBPyConnection) -> int:
    """Longest distance of any row (tokens); -1 where no condition has a boundary."""
    longest, *_ = _row(connection, "SELECT max(distance) FROM scores")
    return -1 if longest is None else int(longest)


def bytes_per_token(connection: duckdb.DuckDBPyConnection) -> float | None:
    """Mean UTF-8 bytes of a token over the run's windows, ``None`` for data without text."""
    size, tokens = _row(
        connection,
        "SELECT sum(strlen(text)), sum(len(token_ids)) FROM windows WHERE text IS NOT NULL",
    )
    return float(size) / float(tokens) if size and tokens else None


def far_range(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Shortest and longest far context of a row that can answer (tokens); zeros without any."""
    shortest, longest = _row(connection, "SELECT min(far), max(far) FROM targets WHERE NOT grey")
    return (0, 0) if shortest is None else (int(shortest), int(longest))


def _targets_view(repeated: bool) -> str:
    """SQL of the view ``targets``; the grouping is paid only where a draw was repeated."""
    nll, intact, grouping = "s.nll::DOUBLE", "s.nll_intact::DOUBLE", ""
    if repeated:
        nll, intact, grouping = f"avg({nll})", f"avg({intact})", "GROUP BY ALL"
    return f"""
        CREATE VIEW targets AS
        SELECT *, nll - nll_intact AS delta, distance > far AS grey
        FROM (
            SELECT s.document, s."window", s.position, s.boundary, s.distance, s.condition,
                s.boundary - w.start AS far, {nll} AS nll, {intact} AS nll_intact
            FROM scores s JOIN windows w ON s.document = w.document AND s."window" = w."window"
            WHERE s.boundary >= 0 {grouping}
        )"""


def _row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The one row of a query; all of it is fetched, so that the connection is free again."""
    rows: list[tuple[Any, ...]] = connection.execute(query).fetchall()
    return rows[0]


def _refuse_unknown_windows(connection: duckdb.DuckDBPyConnection, windows: Path) -> None:
    missing = connection.execute(
        """SELECT document, "window" FROM (SELECT DISTINCT document, "window" FROM scores)
        ANTI JOIN windows USING (document, "window") ORDER BY ALL"""
    ).fetchall()
    if missing:
        document, window = missing[0]
        raise ProbeError(
            f"'{windows}' lacks {len(missing)} windows that were scored, the first is window"
            f" {window} of document '{document}'"
        )
