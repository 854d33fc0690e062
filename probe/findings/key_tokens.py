"""Key tokens: which they are, LSD by distance, and their transfer to the losses of another run."""

import math
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from probe.analysis.bins import octave_edges
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import binned, located
from probe.errors import ProbeError, UsageError

Integers = NDArray[np.int64]
BINS = 8  # of the distances of a short context, which span less than an octave
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
QUANTILE_NAMES = tuple(f"q{round(100 * q):02d}" for q in QUANTILES)
LSD_COLUMNS = (
    *("distance_from", "distance_to", "mean", *QUANTILE_NAMES),
    *("above", "key", "targets", "documents"),
)
"""Columns of the table of LSD by distance: distances in tokens, LSD in nats, shares of targets."""


@dataclass(frozen=True)
class KeyRule:
    """Which tokens are key: those that a long context helps, and that it makes likely.

    Args:
        lsd: Above this lies their long-short difference (LSD), the loss in the short context less
            that in the whole text, nats.
        lcl: Above this lies their long-context likelihood (LCL), the log-probability in the whole
            text, nats.

    Source: Fang et al. 2025, where alpha is 2 and beta is -2, both strict.
    """

    lsd: float = 2.0
    lcl: float = -2.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value):
                raise UsageError(f"{name} is {value}; allowed: a finite number of nats")


@dataclass(frozen=True)
class Span:
    """Adjacent key tokens of a window.

    Args:
        document: Id of the document.
        window: Number of the window.
        position: Index of the first of them in the document.
        tokens: How many they are.
        char_start: Their first character in the window's text; −1 for data without text.
        char_end: One past their last character.
        text: The characters; ``None`` for data without text.
    """

    document: str
    window: int
    position: int
    tokens: int
    char_start: int
    char_end: int
    text: str | None


def _key_view(connection: duckdb.DuckDBPyConnection, rule: KeyRule) -> None:
    """Make the view ``candidates``, a row for each truncated target; losses in nats.

    ``document, window, position, distance, far, lsd, nll`` (in the whole text)``, above`` (the
    rule's LSD)``, key``.
    """
    connection.execute(
        f"""CREATE OR REPLACE VIEW candidates AS
        SELECT document, "window", position, distance, far, delta AS lsd, nll_intact AS nll,
            delta > {float(rule.lsd)!r} AS above,
            delta > {float(rule.lsd)!r} AND -nll_intact > {float(rule.lcl)!r} AS key
        FROM targets WHERE condition = 'truncate'"""
    )
    if not connection.execute("SELECT 1 FROM candidates LIMIT 1").fetchall():
        raise ProbeError("LSD needs truncated rows: the run has no condition 'truncate'")


@dataclass(frozen=True, eq=False)
class Window:
    """A row of ``windows.parquet``; offsets are empty for data without text."""

    document: str
    start: int
    ids: Integers
    char_start: Integers
    char_end: Integers
    text: str | None


def read_window(connection: duckdb.DuckDBPyConnection, document: str, number: int) -> Window | None:
    """One window of a run, ``None`` where it has none."""
    rows = connection.execute(
        """SELECT start, token_ids, char_start, char_end, text FROM windows
        WHERE document = $document AND "window" = $number""",
        {"document": document, "number": number},
    ).fetchall()
    if not rows:
        return None
    start, *lists, text = rows[0]
    ids, char_start, char_end = (np.array(values or [], dtype=np.int64) for values in lists)
    return Window(document, int(start), ids, char_start, char_end, text)


def key_spans(run: OpenRun, rule: KeyRule | None = None) -> list[Span]:
    """The key tokens of a run, adjacent ones merged, by document, window and position.

    Args:
        run: The run.
        rule: Which tokens are key, those of :class:`KeyRule` by default.

    Raises:
        ProbeError: If no row is truncated.
    """
    _key_view(run.connection, rule or KeyRule())
    rows = run.connection.execute(
        """SELECT document, "window", list(position ORDER BY position) FROM candidates WHERE key
        GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    spans = []
    for document, number, positions in rows:
        window = read_window(run.connection, document, number)
        if window is None:
            continue  # the connection has refused a window that is not there
        for first, last in merged(np.array(positions, dtype=np.int64) - window.start):
            char_start, char_end, text = -1, -1, None
            if window.text is not None:
                char_start, char_end = int(window.char_start[first]), int(window.char_end[last])
                text = window.text[char_start:char_end]
            position, tokens = window.start + first, last - first + 1
            spans.append(Span(document, number, position, tokens, char_start, char_end, text))
    return spans


def merged(places: Integers) -> list[tuple[int, int]]:
    """First and last of each row of consecutive numbers; *places* rise, shape ``(n,)``."""
    if not len(places):
        return []
    breaks = np.flatnonzero(np.diff(places) > 1)
    firsts = places[np.concatenate([[0], breaks + 1])]
    lasts = places[np.concatenate([breaks, [len(places) - 1]])]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def inside(
    char_start: Integers, char_end: Integers, char_spans: list[tuple[int, int]]
) -> NDArray[np.bool_]:
    """Which tokens lie wholly inside a span; a token without characters lies in none.

    Args:
        char_start: First character of each token, shape ``(n,)``.
        char_end: One past the last character of each token, shape ``(n,)``.
        char_spans: First character and one past the last of each span, in order, apart.
    """
    if not char_spans:
        return np.zeros(len(char_start), dtype=bool)
    starts, ends = np.array(char_spans, dtype=np.int64).T
    # Spans may touch in a character of several tokens, so ends need not lie below the next start.
    furthest = np.maximum.accumulate(ends)
    span = np.searchsorted(starts, char_start, side="right") - 1
    reached = np.where(span >= 0, furthest[np.maximum(span, 0)], -1)
    return np.asarray((char_end <= reached) & (char_end > char_start))


def lsd_table(run: OpenRun, rule: KeyRule | None = None) -> pd.DataFrame:
    """The distribution of LSD by distance, over truncated rows of any run.

    The bins are octaves, or equal ones where the distances span less than one. Rows in front of
    which nothing was cut off are left out: their LSD is 0 by construction.

    Args:
        run: The run, whatever its protocol.
        rule: Which tokens are key, those of :class:`KeyRule` by default.

    Returns:
        One row a bin with the columns ``LSD_COLUMNS``: mean and quantiles of LSD (nats), shares of
        targets ``above`` the rule's LSD and ``key``, and their numbers.

    Raises:
        ProbeError: If no row is truncated.
    """
    _key_view(run.connection, rule or KeyRule())
    edges = _lsd_edges(run.connection)
    with binned(run.connection, edges):
        frame = run.connection.execute(
            f"""SELECT bin, avg(lsd) AS mean, quantile_cont(lsd, {list(QUANTILES)}) AS quantiles,
                avg(above::DOUBLE) AS above, avg(key::DOUBLE) AS key, count(*) AS targets,
                count(DISTINCT document) AS documents
            FROM candidates JOIN bins USING (distance) WHERE far > 0 GROUP BY bin ORDER BY bin"""
        ).df()
    quantiles = np.array(frame.pop("quantiles").tolist()).reshape(len(frame), len(QUANTILES))
    frame[list(QUANTILE_NAMES)] = quantiles
    return located(frame, edges)[list(LSD_COLUMNS)]


def _lsd_edges(connection: duckdb.DuckDBPyConnection) -> Integers:
    ((shortest, longest),) = connection.execute(
        "SELECT min(distance), max(distance) FROM candidates WHERE far > 0"
    ).fetchall()
    if shortest is None:
        return octave_edges(1)
    if longest >= 2 * shortest:
        return octave_edges(longest + 1)
    return np.unique(np.linspace(shortest, longest + 1, BINS + 1).round().astype(np.int64))


def transfer(evaluator: OpenRun, scored: OpenRun) -> tuple[pd.DataFrame, list[str]]:
    """Give the key tokens of one run the losses of another.

    Where both have the same tokens, keys are transferred by position; else as character spans, and
    a token is key when it lies wholly inside one.

    Args:
        evaluator: The run that chose, with its view ``candidates``, which :func:`lsd_table` makes.
        scored: The run whose intact losses count.

    Returns:
        By document of both runs: ``document, targets, keys, key_sum`` (nats)``, all_tokens,
        all_sum``, and what is missing, one line each.

    Raises:
        ProbeError: If the runs have no document in common, or other texts under one name.
    """
    path = scored.path
    chosen = dict(
        evaluator.connection.execute(
            "SELECT document, list(position ORDER BY position) FILTER (WHERE key) FROM candidates"
            " GROUP BY document ORDER BY document"
        ).fetchall()
    )
    places: dict[str, Integers] = {}
    missing = behind = cut = 0
    for document, positions in chosen.items():
        mine, theirs = (read_window(run.connection, document, 0) for run in (evaluator, scored))
        if mine is None or theirs is None:
            missing += 1
            continue
        at = np.array(positions or [], dtype=np.int64) - mine.start
        key, lost = _transferred(mine, theirs, at, path)
        behind += lost
        cut += not _same_tokens(mine, theirs)
        places[document] = np.flatnonzero(key) + theirs.start
    sums = _sums_at(scored.connection, places)
    if sums.empty:
        raise ProbeError(f"'{path}' has none of the {len(chosen)} documents whose keys were chosen")
    warnings = []
    if missing:
        warnings.append(f"{missing} of {len(chosen)} documents are not in '{path}': left out")
    if cut:
        warnings.append(
            "the tokenizers cut the text differently: key tokens are transferred as spans of"
            " characters; every token wholly inside one counts, so that their number changes"
        )
    if behind:
        warnings.append(f"{behind} key tokens are beyond the part of their documents in '{path}'")
    return sums, warnings


def _transferred(
    mine: Window, theirs: Window, at: Integers, path: Path
) -> tuple[NDArray[np.bool_], int]:
    """Which of *their* tokens are key, and how many of my key tokens lie behind their last one."""
    if _same_tokens(mine, theirs):
        known = at[at < len(theirs.ids)]
        return np.isin(np.arange(len(theirs.ids)), known), len(at) - len(known)
    if mine.text is None or theirs.text is None:
        raise ProbeError(
            f"document {mine.document!r} has other tokens in '{path}', and no text to find the key "
            "tokens by"
        )
    # Some tokenizers have no token for leading spaces: texts may begin at different places.
    ours, other = mine.text.lstrip(), theirs.text.lstrip()
    common = min(len(ours), len(other))
    if ours[:common] != other[:common]:
        raise ProbeError(f"document {mine.document!r} has another text in '{path}'")
    shift = len(theirs.text) - len(other) - (len(mine.text) - len(ours))
    starts, ends = mine.char_start + shift, mine.char_end + shift
    found = [(int(starts[first]), int(ends[last])) for first, last in merged(at)]
    behind = int((ends[at] > len(theirs.text)).sum())
    return inside(theirs.char_start, theirs.char_end, found), behind


def _same_tokens(mine: Window, theirs: Window) -> bool:
    """Whether two windows hold the same tokens, as far as both go."""
    common = min(len(mine.ids), len(theirs.ids))
    return np.array_equal(mine.ids[:common], theirs.ids[:common])


def _sums_at(scored: duckdb.DuckDBPyConnection, places: dict[str, Integers]) -> pd.DataFrame:
    """Tokens, keys and their losses of the scored run, by document.

    Args:
        scored: The run.
        places: Positions of the key tokens of each document.
    """
    fields = [("document", pa.string()), ("positions", pa.list_(pa.int64()))]
    columns = [list(places), list(places.values())]
    scored.register("chosen", pa.table(columns, schema=pa.schema(fields)))
    return scored.execute(
        """SELECT s.document, count(*) AS targets, count(k.position) AS keys,
            coalesce(sum(nll::DOUBLE) FILTER (WHERE k.position IS NOT NULL), 0) AS key_sum,
            count(*) AS all_tokens, sum(nll::DOUBLE) AS all_sum
        FROM scores s SEMI JOIN chosen USING (document)
            LEFT JOIN (SELECT document, unnest(positions) AS position FROM chosen) k
                ON s.document = k.document AND s.position = k.position
        WHERE condition = 'intact' GROUP BY s.document ORDER BY s.document"""
    ).df()
