"""Two runs in one connection: which windows and documents they share, and their rows."""

from typing import Any, Literal

import duckdb

from probe.analysis.compare.text import create_token_bytes
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.results.folder import RunFolder
from probe.results.views import far_tokens, parquet_rows, row, window_rows

Pairing = Literal["windows", "documents", "none"]
"""What two runs have in common: the same windows, the same documents, or nothing."""

SIDES = ("a", "b")

PIECE = 64
"""Characters of one run's window that must stand in the other's to call a document the same."""


def connect_pair(a: RunFolder, b: RunFolder) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that sees two runs.

    It has the views ``a_windows``, ``a_scores`` (columns of the results contract), the table
    ``a_bytes`` (from :func:`probe.analysis.compare.text.create_token_bytes`), and the same of
    ``b``. :func:`pairing` says what to compare of them.

    Args:
        a: The first run.
        b: The second.

    Returns:
        The connection; use it in a ``with``.
    """
    connection = duckdb.connect()
    for side, run in zip(SIDES, (a, b), strict=True):
        windows = run.path / "windows.parquet"
        window_rows(connection, windows).create_view(f"{side}_windows")
        rows = parquet_rows(connection, run.parts)
        if alternatives := run.reading.alternatives:
            rows = rows.filter(f"NOT starts_with(condition, '{alternatives}')")
        rows.create_view(f"{side}_scores")
        meaning = far_tokens(run.path)
        connection.execute(
            f"CREATE MACRO {side}_far_tokens(boundary, distance, start) AS {meaning}"
        )
        connection.execute(
            f"""CREATE TABLE {side}_scored AS SELECT document, "window", start FROM {side}_windows
            SEMI JOIN (SELECT DISTINCT document, "window" FROM {side}_scores)
                USING (document, "window")"""
        )
        create_token_bytes(connection, f"{side}_bytes", windows)
    return connection


def pairing(
    connection: duckdb.DuckDBPyConnection, a: RunFolder, b: RunFolder, same: bool | None
) -> Pairing:
    """What the runs have in common, and with that which of their windows are compared.

    Windows are the same where document, window, start, token ids and text are. A document is in
    both runs where its id is and its text: by its fingerprint, by the data set, or by a piece of
    one run's window that stands in the other's. What is in common is used where it is enough for an
    interval (six documents) or all that the smaller run has. The tables ``a_places`` and
    ``b_places`` (``document, "window", start, place``) then hold the windows to compare, and
    ``a_places_bytes`` and ``b_places_bytes`` (``place, position, byte_from, bytes``) their tokens.

    Args:
        connection: From :func:`connect_pair`.
        a: The first run.
        b: The second.
        same: Whether both have the same tokenizer.

    Returns:
        ``windows``, ``documents`` or ``none``.
    """
    found = _choose(connection, a, b, same)
    shared = {
        "windows": 'SEMI JOIN same_windows USING (document, "window")',
        "documents": "SEMI JOIN same_documents USING (document)",
        "none": "",
    }
    for side in SIDES:
        # Windows of the same place have the same number on both sides, where they are paired.
        connection.execute(
            f"""CREATE TABLE {side}_places AS
            SELECT document, "window", start,
                (row_number() OVER (ORDER BY document, "window"))::INTEGER AS place
            FROM {side}_scored {shared[found]}"""
        )
        connection.execute(
            f"""CREATE TABLE {side}_places_bytes AS SELECT place, position, byte_from, bytes
            FROM {side}_bytes JOIN {side}_places USING (document, "window")"""
        )
        connection.execute(f"DROP TABLE {side}_bytes")
    return found


def documents_of(connection: duckdb.DuckDBPyConnection, side: str) -> list[str]:
    """Documents of one side that are compared, in order of name."""
    rows = connection.execute(f"SELECT DISTINCT document FROM {side}_places").fetchall()
    return sorted(str(row[0]) for row in rows)


def places(connection: duckdb.DuckDBPyConnection, side: str) -> tuple[int, int]:
    """Windows of one side that are compared, and all that it has."""
    used, *_ = row(connection, f"SELECT count(*) FROM {side}_places")
    scored, *_ = row(connection, f"SELECT count(*) FROM {side}_scored")
    return int(used), int(scored)


def _choose(
    connection: duckdb.DuckDBPyConnection, a: RunFolder, b: RunFolder, same: bool | None
) -> Pairing:
    """What is in common; makes the tables ``same_windows`` and ``same_documents``."""
    connection.execute(
        """CREATE TABLE same_windows AS SELECT a.document, a."window"
        FROM a_windows a JOIN b_windows b ON a.document = b.document AND a."window" = b."window"
            AND a.start = b.start AND a.token_ids = b.token_ids
            AND coalesce(a.text = b.text, true)
        SEMI JOIN a_scored s ON a.document = s.document AND a."window" = s."window"
        SEMI JOIN b_scored r ON b.document = r.document AND b."window" = r."window\""""
    )
    connection.execute("CREATE TABLE same_documents (document VARCHAR)")
    connection.executemany(
        "INSERT INTO same_documents VALUES (?)",
        [[name] for name in sorted(_same_documents(connection, a, b, same))] or [[None]],
    )
    enough = min(FEWEST_DOCUMENTS, *(_count(connection, f"{side}_scored") for side in SIDES))
    if _count(connection, "same_windows") >= max(enough, 1):
        return "windows"
    return "documents" if _count(connection, "same_documents") >= max(enough, 1) else "none"


def _same_documents(
    connection: duckdb.DuckDBPyConnection, a: RunFolder, b: RunFolder, same: bool | None
) -> set[str]:
    names = [
        {row[0] for row in connection.execute(f"SELECT document FROM {side}_scored").fetchall()}
        for side in SIDES
    ]
    marks = [_fingerprints(run) for run in (a, b)]
    both = names[0] & names[1]
    if _data(a) and _data(a) == _data(b):
        by_data = both
    else:
        by_data = {
            row[0]
            for row in connection.execute(
                f"""SELECT DISTINCT document FROM a_windows a JOIN b_windows b USING (document)
                WHERE length(a.text) >= {2 * PIECE} AND length(b.text) >= {2 * PIECE}
                    AND (contains(b.text, substr(a.text, 1 + length(a.text) // 2, {PIECE}))
                    OR contains(a.text, substr(b.text, 1 + length(b.text) // 2, {PIECE})))"""
            ).fetchall()
        }
    known = {name for name in both if name in marks[0] and name in marks[1]}
    equal = {name for name in known if marks[0][name] == marks[1][name]}
    # Fingerprints are those of token ids: unequal ones say nothing across tokenizers.
    return equal | (both & (by_data - known if same else by_data))


def _fingerprints(run: RunFolder) -> dict[str, str]:
    documents = (run.record.get("data") or {}).get("documents") or []
    return {
        str(document["id"]): str(document["sha256"])
        for document in documents
        if isinstance(document, dict) and document.get("sha256") and "id" in document
    }


def _data(run: RunFolder) -> Any:
    """The data set as the run's identity has it."""
    identity = run.record.get("identity") or {}
    return identity.get("data") if isinstance(identity, dict) else None


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(row(connection, f"SELECT count(DISTINCT document) FROM {table}")[0])
