"""Key tokens: which they are, and as character spans."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from probe.errors import ProbeError, UsageError
from probe.results.folder import RunFolder, connected

Integers = NDArray[np.int64]


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


def key_view(connection: duckdb.DuckDBPyConnection, rule: KeyRule) -> None:
    """Make the view ``candidates``: a row for each truncated target.

    Its columns: ``document, window, position, distance, far, lsd`` (nats)``, nll`` (in the whole
    text)``, above`` (the rule's LSD)``, key``.

    Args:
        connection: From :func:`probe.results.views.connect`.
        rule: Which tokens are key.

    Raises:
        ProbeError: If the run has no truncated row.
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


def key_spans(run: RunFolder, rule: KeyRule | None = None) -> list[Span]:
    """The key tokens of a run folder, adjacent ones merged.

    Raises:
        ProbeError: If its scores cannot be read or none is truncated.
    """
    with connected(run) as connection:
        key_view(connection, rule or KeyRule())
        return list(spans(connection))


def spans(connection: duckdb.DuckDBPyConnection) -> Iterator[Span]:
    """The key tokens, adjacent ones merged, document by document.

    Args:
        connection: With the view of :func:`key_view`.

    Yields:
        Spans in order of document, window and position.
    """
    found = connection.execute(
        """SELECT document, "window", list(position ORDER BY position) FROM candidates WHERE key
        GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    for document, number, positions in found:
        window = read_window(connection, document, number)
        if window is None:
            continue  # the connection has refused a window that is not there
        at = np.array(positions, dtype=np.int64) - window.start
        for first, last in merged(at):
            char_start = char_end = -1
            if window.text is not None:
                char_start, char_end = int(window.char_start[first]), int(window.char_end[last])
            yield Span(
                document=str(document),
                window=int(number),
                position=window.start + first,
                tokens=last - first + 1,
                char_start=char_start,
                char_end=char_end,
                text=None if window.text is None else window.text[char_start:char_end],
            )


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
