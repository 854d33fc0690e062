"""Two runs in one connection: what they have in common, the rows and documents of it compared."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from probe.analysis.bootstrap import Floats, resample_weights
from probe.analysis.floor import is_noise
from probe.analysis.open_run import PATTERN, OpenRun
from probe.analysis.settings import Analysis
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.perturbations.steps import OF
from probe.results.views import parquet_rows, row, window_rows

Integers = NDArray[np.int64]
Pairing = Literal["windows", "documents", "none"]
"""What two runs have in common: the same windows, the same documents, or nothing."""

SIDES = ("a", "b")

BATCH = 64
"""Windows whose tokens are placed at a time."""

PIECE = 64
"""Characters of one run's window that must stand in the other's to call a document the same."""

SAMPLE = 64
"""Windows of each run that are looked at to tell whether two tokenizers are the same."""

ALIKE = 0.9
"""Share of the token ids in both samples that must stand for the same characters."""

SAME = 0.5
"""Share of the boundaries of either run that must agree to compare target by target."""

_SINGLE_HEAD = re.compile(
    r"attend\(heads\(((?! \+ ).)+, layers=\[[0-9]{1,9}\], heads=\[[0-9]{1,9}\]\)\)"
)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two runs in one connection, their documents resampled together or independently.

    Args:
        connection: With the views of :func:`create_rows`.
        runs: Both runs; both are read with the analysis settings of the first.
        pairing: What the runs have in common.
        documents: Documents of each run, in order of name.
        weights: How often each is drawn: of each run ``(resamples, documents)``.
    """

    connection: duckdb.DuckDBPyConnection
    runs: tuple[OpenRun, OpenRun]
    pairing: Pairing
    documents: tuple[list[str], list[str]]
    weights: tuple[Floats, Floats]

    @property
    def how(self) -> Analysis:
        """The settings that both are read with."""
        return self.runs[0].analysis


def connect_pair(a: OpenRun, b: OpenRun) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that sees two runs.

    It has the views ``a_windows``, ``a_scores`` (columns of the results contract), the tables
    ``a_scored`` (``document, "window", start`` of the windows with a score) and ``a_token_bytes``
    (from :func:`create_token_bytes`), and the same of ``b``. :func:`pairing` says what to compare
    of them.

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
        rows, reading = parquet_rows(connection, run.folder.parts), run.folder.reading
        if reading.alternatives:
            rows = rows.filter(f"NOT starts_with(condition, '{reading.alternatives}')")
        rows.create_view(f"{side}_scores")
        connection.execute(
            f"CREATE MACRO {side}_far_tokens(boundary, distance, start) AS {reading.far_tokens}"
        )
        connection.execute(
            f"""CREATE TABLE {side}_scored AS SELECT document, "window", start FROM {side}_windows
            SEMI JOIN (SELECT DISTINCT document, "window" FROM {side}_scores)
                USING (document, "window")"""
        )
        create_token_bytes(connection, f"{side}_token_bytes", windows)
    return connection


def same_tokenizer(connection: duckdb.DuckDBPyConnection) -> bool | None:
    """Whether equal token ids stand for equal characters in both runs.

    Only tokens with characters of their own are looked at: parts of a character show the whole.

    Returns:
        The answer, ``None`` where it cannot be told: no text, or no token id in both samples.
    """
    first, second = (_vocabulary(connection, side) for side in SIDES)
    shared = first.keys() & second.keys()
    if not shared:
        return None
    alike = sum(not first[token].isdisjoint(second[token]) for token in shared)
    return alike >= ALIKE * len(shared)


def pairing(
    connection: duckdb.DuckDBPyConnection, a: OpenRun, b: OpenRun, same: bool | None
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
    chosen = _choose(connection, a, b, same)
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
            FROM {side}_scored {shared[chosen]}"""
        )
        connection.execute(
            f"""CREATE TABLE {side}_places_bytes AS SELECT place, position, byte_from, bytes
            FROM {side}_token_bytes JOIN {side}_places USING (document, "window")"""
        )
        connection.execute(f"DROP TABLE {side}_token_bytes")
    return chosen


def documents_of(connection: duckdb.DuckDBPyConnection, side: str) -> list[str]:
    """Documents of one side that are compared, in order of name."""
    rows = connection.execute(f"SELECT DISTINCT document FROM {side}_places").fetchall()
    return sorted(str(row[0]) for row in rows)


def places(connection: duckdb.DuckDBPyConnection, side: str) -> tuple[int, int]:
    """Windows of one side that are compared, and all that it has."""
    used, *_ = row(connection, f"SELECT count(*) FROM {side}_places")
    scored, *_ = row(connection, f"SELECT count(*) FROM {side}_scored")
    return int(used), int(scored)


def create_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the views of the rows to compare, behind :func:`pairing`.

    ``a_compared`` has the scores of the windows in ``a_places``, and ``place, start, grey``.
    ``a_tokens`` has one row per target, boundary and condition, repeats averaged: ``place,
    document, position, boundary, condition, tokens`` (distance in tokens)``, distance`` (the
    same)``, weight`` (1)``, nats`` (delta) and ``grey``. ``a_bytes`` is the same with distance and
    weight in bytes of text; targets without text, and distances in a source, are not in it. The
    table ``a_spans`` has a row per place, condition and boundary: ``place, document, condition,
    boundary, far`` (tokens)``, reach`` and ``bytes_reach`` (of the last target that is not grey,
    missing without one or without text).
    The same of ``b``.
    """
    for side in SIDES:
        connection.execute(
            f"""CREATE VIEW {side}_compared AS
            SELECT p.place, p.start, s.*,
                distance > {side}_far_tokens(boundary, distance, p.start) AS grey
            FROM {side}_scores s JOIN {side}_places p USING (document, "window")"""
        )
        delta, grouping = "nll::DOUBLE - nll_intact::DOUBLE", ""
        if row(connection, f"SELECT max(repeat) FROM {side}_scores")[0]:
            delta, grouping = "avg(nll::DOUBLE) - avg(nll_intact::DOUBLE)", "GROUP BY ALL"
        connection.execute(
            f"""CREATE VIEW {side}_tokens AS
            SELECT place, document, position, boundary, condition, distance AS tokens, distance,
                1 AS weight, {delta} AS nats, grey
            FROM {side}_compared WHERE boundary >= 0 {grouping}"""
        )
        connection.execute(_spans(side))
        connection.execute(
            f"""CREATE VIEW {side}_bytes AS
            SELECT r.* REPLACE ({_BYTES} AS distance, own.bytes AS weight)
            FROM {side}_tokens r
            JOIN {side}_places_bytes own USING (place, position)
            JOIN {side}_places_bytes t ON r.place = t.place AND t.position = {_NEAREST}
            JOIN {side}_boundaries f USING (place, boundary)
            WHERE NOT {_OF_SOURCE}"""
        )


def draw(
    connection: duckdb.DuckDBPyConnection, runs: tuple[OpenRun, OpenRun], pairing: Pairing
) -> Pair:
    """Resample the documents of both runs, together where both have them, else independently."""
    how = runs[0].analysis
    documents = documents_of(connection, "a"), documents_of(connection, "b")
    first = second = resample_weights(len(documents[0]), how.resamples, how.seed)
    if pairing == "none":
        second = resample_weights(len(documents[1]), how.resamples, how.seed + 1)
    return Pair(connection, runs, pairing, documents, (first, second))


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
    return bool(agreeing >= SAME * min(having))


def conditions(connection: duckdb.DuckDBPyConnection, side: str) -> list[str]:
    """Conditions of one side that have a boundary, in order of name, noise left out."""
    rows = connection.execute(f"SELECT DISTINCT condition FROM {side}_spans").fetchall()
    return sorted(str(row[0]) for row in rows if not is_noise(str(row[0])))


def patterns(connection: duckdb.DuckDBPyConnection, side: str) -> list[str]:
    """Patterns of one side that have no boundary, in order of name, single heads left out."""
    rows = connection.execute(
        f"""SELECT DISTINCT condition::VARCHAR FROM {side}_scores
        WHERE boundary < 0 AND starts_with(condition, '{PATTERN}') ORDER BY 1"""
    ).fetchall()
    return [str(name) for (name,) in rows if not _SINGLE_HEAD.fullmatch(str(name))]


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


def _choose(
    connection: duckdb.DuckDBPyConnection, a: OpenRun, b: OpenRun, same: bool | None
) -> Pairing:
    """What is in common; makes ``same_windows`` and ``same_documents``."""
    connection.execute(
        """CREATE TABLE same_windows AS SELECT a.document, a."window"
        FROM a_windows a JOIN b_windows b ON a.document = b.document AND a."window" = b."window"
            AND a.start = b.start AND a.token_ids = b.token_ids
            AND coalesce(a.text = b.text, true)
        SEMI JOIN a_scored s ON a.document = s.document AND a."window" = s."window"
        SEMI JOIN b_scored r ON b.document = r.document AND b."window" = r."window\""""
    )
    documents = pa.array(sorted(_same_documents(connection, a, b, same)), pa.string())
    connection.register("same_documents", pa.table({"document": documents}))
    enough = min(FEWEST_DOCUMENTS, *(_count(connection, f"{side}_scored") for side in SIDES))
    if _count(connection, "same_windows") >= max(enough, 1):
        return "windows"
    return "documents" if _count(connection, "same_documents") >= max(enough, 1) else "none"


def _same_documents(
    connection: duckdb.DuckDBPyConnection, a: OpenRun, b: OpenRun, same: bool | None
) -> set[str]:
    names = [
        {row[0] for row in connection.execute(f"SELECT document FROM {side}_scored").fetchall()}
        for side in SIDES
    ]
    marks = [
        {one.id: str(one.sha256) for one in run.facts.data.documents if one.sha256}
        for run in (a, b)
    ]
    both = names[0] & names[1]
    data = [run.facts.identity.get("data") for run in (a, b)]
    if data[0] and data[0] == data[1]:
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
    known = both & marks[0].keys() & marks[1].keys()
    equal = {name for name in known if marks[0][name] == marks[1][name]}
    # Fingerprints are those of token ids: unequal ones say nothing across tokenizers.
    return equal | (both & (by_data - known if same else by_data))


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(row(connection, f"SELECT count(DISTINCT document) FROM {table}")[0])


def _vocabulary(connection: duckdb.DuckDBPyConnection, side: str) -> Mapping[int, set[str]]:
    """The characters that each token id stands for in the first windows."""
    rows = connection.execute(
        f"""SELECT token_ids, char_start, char_end, text FROM {side}_windows
        WHERE text IS NOT NULL ORDER BY document, "window" LIMIT {SAMPLE}"""
    ).fetchall()
    known: dict[int, set[str]] = {}
    for ids, starts, ends, text in rows:
        if not len(ids) == len(starts) == len(ends):
            continue
        for at, token in enumerate(ids):
            alone = (at == 0 or ends[at - 1] <= starts[at]) and (
                at + 1 == len(ids) or ends[at] <= starts[at + 1]
            )
            if alone:
                known.setdefault(token, set()).add(text[starts[at] : ends[at]])
    return known


_OF_SOURCE = f"""contains(condition, '{OF}=''source''')"""
"""SQL for whether a distance is one in a source, whose text a run does not keep."""

_NEAREST = """CASE WHEN boundary > position THEN boundary - 1 - distance
            ELSE boundary + distance END"""
"""SQL for the token that a distance is counted from: the target, or that end of its span."""

_BYTES = """CASE WHEN f.byte_from > t.byte_from THEN f.byte_from - t.byte_from - t.bytes
            ELSE t.byte_from - f.byte_from END"""
"""SQL for the bytes between such a token *t* and its boundary *f*, which may lie behind it."""


def _spans(side: str) -> str:
    """SQL of ``a_spans``, and of ``a_boundaries`` (where in the text each boundary lies)."""
    return f"""
        CREATE TABLE {side}_lasts AS
        SELECT place, document, condition, boundary, boundary - start AS far,
            arg_max({_NEAREST}, distance) FILTER (NOT grey) AS last,
            max(distance) FILTER (NOT grey) AS reach
        FROM {side}_compared WHERE boundary >= 0 GROUP BY ALL;
        CREATE TABLE {side}_boundaries AS
        SELECT DISTINCT l.place, l.boundary, t.byte_from FROM {side}_lasts l
        JOIN {side}_places_bytes t ON l.place = t.place AND l.boundary = t.position;
        CREATE TABLE {side}_spans AS
        SELECT l.place, l.document, l.condition, l.boundary, l.far, l.reach,
            CASE WHEN NOT {_OF_SOURCE} THEN {_BYTES} END AS bytes_reach
        FROM {side}_lasts l
        LEFT JOIN {side}_places_bytes t ON l.place = t.place AND l.last = t.position
        LEFT JOIN {side}_boundaries f ON l.place = f.place AND l.boundary = f.boundary"""


def byte_places(text: str, char_start: ArrayLike) -> tuple[Integers, Integers]:
    """Where each token starts in the UTF-8 bytes of a text, and how many bytes are its own.

    A token's bytes end where the next token starts, so that together they are the text's: what a
    tokenizer skips counts to the token before it, and of several tokens that share a character
    the last one has its bytes.

    Args:
        text: The window's text.
        char_start: First character of each token in *text*, shape ``(tokens,)``.

    Returns:
        First byte and number of bytes of each token, each of shape ``(tokens,)``, int64.
    """
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    sizes = 1 + (points >= 0x80) + (points >= 0x800).astype(np.int64) + (points >= 0x10000)
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    starts = np.clip(np.asarray(char_start, dtype=np.int64), 0, len(points))
    first = ends[np.maximum.accumulate(starts)]
    return first, np.diff(np.append(first, ends[-1]))


def create_token_bytes(connection: duckdb.DuckDBPyConnection, name: str, windows: Path) -> None:
    """Fill a new table with the bytes of every token, a few windows at a time.

    Args:
        connection: Where the table is made.
        name: Its name; it gets the columns ``document, "window", position`` (index in the
            document)``, byte_from, bytes``. Windows without text have no rows.
        windows: A run's ``windows.parquet``.
    """
    connection.execute(
        f"""CREATE TABLE {name} (document VARCHAR, "window" INTEGER, position INTEGER,
            byte_from INTEGER, bytes INTEGER)"""
    )
    columns = ["document", "window", "start", "char_start", "text"]
    with pq.ParquetFile(windows) as file:
        for batch in file.iter_batches(BATCH, columns=columns):
            frames = list(_token_bytes(batch.to_pylist()))
            if frames:
                connection.register("batch", pd.concat(frames, ignore_index=True))
                connection.execute(f"INSERT INTO {name} SELECT * FROM batch")
                connection.unregister("batch")


def _token_bytes(windows: list[dict[str, Any]]) -> Iterator[pd.DataFrame]:
    for window in windows:
        starts = window.get("char_start")
        if window["text"] is None or not starts:
            continue
        first, size = byte_places(window["text"], starts)
        yield pd.DataFrame(
            {
                "document": window["document"],
                "window": window["window"],
                "position": window["start"] + np.arange(len(first)),
                "byte_from": first,
                "bytes": size,
            }
        )
