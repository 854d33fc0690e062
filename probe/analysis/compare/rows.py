"""The rows of two runs that are compared: views over the score parts, in tokens and in bytes."""

import duckdb

from probe.analysis.compare.pair import SIDES
from probe.analysis.floor import is_noise
from probe.results.views import row

MOST = 0.5
"""Share of the boundaries of either run that must agree to compare target by target."""


def create_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the views of the rows to compare, behind :func:`probe.analysis.compare.pair.pairing`.

    ``a_tokens`` has one row per target, boundary and condition, repeats averaged, of the windows
    in ``a_places``: ``place, document, position, boundary, condition, tokens`` (distance in
    tokens)``, distance`` (the same)``, weight`` (1)``, delta`` (nats)`` and ``grey``. ``a_text``
    is the same with distance and weight in bytes of text; targets without text are not in it.
    ``a_intact`` has ``place, document, position, nll, bytes`` (missing without text). The table
    ``a_spans`` has a row per place, condition and boundary: ``place, document, condition,
    boundary, far`` (tokens)``, reach`` and ``bytes_reach`` (of the last target that is not grey,
    missing without one or without text). The same of ``b``.
    """
    for side in SIDES:
        nll, intact, grouping = "s.nll::DOUBLE", "s.nll_intact::DOUBLE", ""
        if row(connection, f"SELECT max(repeat) FROM {side}_scores")[0]:
            nll, intact, grouping = f"avg({nll})", f"avg({intact})", "GROUP BY ALL"
        connection.execute(
            f"""CREATE VIEW {side}_tokens AS
            SELECT place, document, position, boundary, condition, distance AS tokens, distance,
                1 AS weight, nll - nll_intact AS delta,
                distance > {side}_far_tokens(boundary, distance, start) AS grey
            FROM (
                SELECT p.place, s.document, s.position, s.boundary, s.distance, s.condition,
                    p.start, {nll} AS nll, {intact} AS nll_intact
                FROM {side}_scores s
                JOIN {side}_places p ON s.document = p.document AND s."window" = p."window"
                WHERE s.boundary >= 0 {grouping}
            )"""
        )
        connection.execute(_spans(side))
        connection.execute(
            f"""CREATE VIEW {side}_text AS
            SELECT r.place, r.document, r.position, r.boundary, r.condition, r.tokens,
                t.byte_from - f.byte_from AS distance, t.bytes AS weight, r.delta, r.grey
            FROM {side}_tokens r
            JOIN {side}_places_bytes t ON r.place = t.place AND r.position = t.position
            JOIN {side}_boundaries f ON r.place = f.place AND r.boundary = f.boundary"""
        )
        connection.execute(
            f"""CREATE VIEW {side}_intact AS
            SELECT p.place, s.document, s.position, s.nll::DOUBLE AS nll, t.bytes
            FROM {side}_scores s
            JOIN {side}_places p ON s.document = p.document AND s."window" = p."window"
            LEFT JOIN {side}_places_bytes t ON p.place = t.place AND s.position = t.position
            WHERE s.condition = 'intact'"""
        )


def same_boundaries(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether paired windows have most of their boundaries in common, condition by condition.

    Another protocol or reach puts them elsewhere: then the same distances stand behind other
    targets, and what few rows agree by chance are no comparison.
    """
    agreeing, *_ = row(
        connection,
        "SELECT count(*) FROM a_spans JOIN b_spans USING (place, condition, boundary)",
    )
    having = [
        row(
            connection,
            f"SELECT count(*) FROM {side}_spans SEMI JOIN {other}_spans USING (condition)",
        )[0]
        for side, other in (SIDES, SIDES[::-1])
    ]
    return bool(agreeing >= MOST * min(having))


def conditions(connection: duckdb.DuckDBPyConnection, side: str) -> list[str]:
    """Conditions of one side that have a boundary, in order of name, noise left out."""
    rows = connection.execute(f"SELECT DISTINCT condition FROM {side}_spans").fetchall()
    return sorted(str(row[0]) for row in rows if not is_noise(str(row[0])))


def far_range(connection: duckdb.DuckDBPyConnection, side: str) -> tuple[int, int]:
    """Shortest and longest far context (tokens) of one side's rows that can answer."""
    shortest, longest = row(
        connection, f"SELECT min(far), max(far) FROM {side}_spans WHERE reach IS NOT NULL"
    )
    return (0, 0) if shortest is None else (int(shortest), int(longest))


def bytes_per_token(connection: duckdb.DuckDBPyConnection, side: str) -> float | None:
    """Mean bytes of a token in the windows of one side, ``None`` without text."""
    size, tokens = row(connection, f"SELECT sum(bytes), count(*) FROM {side}_places_bytes")
    return float(size) / float(tokens) if size else None


def _spans(side: str) -> str:
    """SQL of ``a_spans``, and of ``a_boundaries`` (where in the text each boundary lies)."""
    return f"""
        CREATE TABLE {side}_lasts AS
        SELECT p.place, s.document, s.condition, s.boundary, s.boundary - p.start AS far,
            max(s.position) FILTER (
                WHERE s.distance <= {side}_far_tokens(s.boundary, s.distance, p.start)) AS last
        FROM {side}_scores s
        JOIN {side}_places p ON s.document = p.document AND s."window" = p."window"
        WHERE s.boundary >= 0 GROUP BY ALL;
        CREATE TABLE {side}_boundaries AS
        SELECT DISTINCT l.place, l.boundary, t.byte_from FROM {side}_lasts l
        JOIN {side}_places_bytes t ON l.place = t.place AND l.boundary = t.position;
        CREATE TABLE {side}_spans AS
        SELECT l.place, l.document, l.condition, l.boundary, l.far, l.last - l.boundary AS reach,
            t.byte_from - f.byte_from AS bytes_reach
        FROM {side}_lasts l
        LEFT JOIN {side}_places_bytes t ON l.place = t.place AND l.last = t.position
        LEFT JOIN {side}_boundaries f ON l.place = f.place AND l.boundary = f.boundary"""
