"""The intact rows of a run, summed in one pass: by window, by position, by document and quarter."""

import duckdb

from probe.analysis.cells import UNBOUNDED
from probe.analysis.views import row


def intact(connection: duckdb.DuckDBPyConnection, cells: str) -> str:
    """Sums of the intact loss; made once a connection.

    Args:
        connection: From :func:`probe.analysis.views.connect`.
        cells: Name of a table that :func:`probe.analysis.cells.cells` gave.

    Returns:
        Name of a temporary table: ``total`` (nats)``, targets, first, last`` (positions in the
        document) by ``document`` and ``window``, by ``place`` (position inside the window), and by
        ``document`` and ``quarter`` (1 to 4, of the range from the first to the last measured
        place); what a row is not by is missing.
    """
    made = connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'intact'")
    if made.fetchall():
        return "intact"
    first, last = row(
        connection,
        f"""SELECT coalesce(min(far_min), 0), coalesce(max(far_max), 0) FROM {cells}
        WHERE condition = 'intact' AND bin = {UNBOUNDED}""",
    )
    connection.execute(
        f"""CREATE TEMP TABLE intact AS
        SELECT document, "window", place, quarter, sum(nll) AS total, count(*) AS targets,
            min(position) AS first, max(position) AS last
        FROM (
            SELECT s.document, s."window", s.position, s.position - w.start AS place,
                1 + 4 * (place - {first}) // {last - first + 1} AS quarter, s.nll::DOUBLE AS nll
            FROM scores s JOIN windows w ON s.document = w.document AND s."window" = w."window"
            WHERE s.condition = 'intact'
        ) GROUP BY GROUPING SETS ((document, "window"), (place), (document, quarter))"""
    )
    return "intact"


def windows_and_targets(connection: duckdb.DuckDBPyConnection, cells: str) -> tuple[int, int]:
    """Windows with scores, and targets: each counts once, whatever was scored of it.

    The intact rows hold each target of a window once. Where that is not plain to see (a window
    without them, or gaps between them) the positions are counted.
    """
    table = intact(connection, cells)
    windows, targets, plain = row(
        connection,
        f"""SELECT count(*), coalesce(sum(targets), 0), coalesce(bool_and(
            targets = last - first + 1), true) FROM {table} WHERE "window" IS NOT NULL""",
    )
    scored, *_ = row(
        connection,
        f"""SELECT coalesce(sum(windows), 0) FROM (SELECT bit_count(bit_or(window_bits)) AS windows
        FROM {cells} GROUP BY document)""",
    )
    if not plain or scored != windows:
        windows, targets = row(
            connection,
            """SELECT count(*), coalesce(sum(targets), 0) FROM (SELECT count(DISTINCT position)
            AS targets FROM scores GROUP BY document, "window")""",
        )
    return int(windows), int(targets)
