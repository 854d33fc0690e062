"""A table as plain data, and the words of its cells."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.fit import in_order

NARROW = 40
"""Characters of a table's line that a small screen has room for."""
MOST_STACKED = 48
"""Rows of a table whose cells stand in lines there."""
LONG = 30
"""Rows from which on a table is folded on the page."""
Shown = Literal["page", "terminal", "both"]
"""Where a table is shown."""


class Place(NamedTuple):
    """A token of a run's text.

    Args:
        document: Its document.
        window: Number of its window in the document.
        position: Its index in the document.
    """

    document: str
    window: int
    position: int


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        caption: What it holds, with units.
        headers: Names of the columns.
        rows: Cells as text; the first of a row names it.
        shown: Where it is shown.
        captioned: Whether the terminal has its caption above it.
        rule: Whether the terminal has a line of hyphens below its head.
        numbers: Whether the terminal lets all columns but the first end, instead of begin, at one
            place; with ``all`` the first as well.
        blocks: Whether columns that have no room on a line stand below, behind the first once more.
        listed: Whether the terminal has its rows without their head, a little to the right.
        indent: Blanks before its lines in the terminal, below the caption.
        below: Lines that the terminal has below it.
        details: What the page has in a second line of a cell, by its row and column from 0.
        places: The token that each row is about; the page links its first cell to the token
            explorer where that shows it.
    """

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    shown: Shown = "page"
    captioned: bool = True
    rule: bool = False
    numbers: bool | Literal["all"] = False
    blocks: bool = False
    listed: bool = False
    indent: int = 0
    below: Sequence[str] = ()
    details: Mapping[tuple[int, int], str] = field(default_factory=dict)
    places: Sequence[Place | None] = ()

    @property
    def folded(self) -> bool:
        """Whether the page shows its caption first, and the table when that is opened."""
        return len(self.rows) > LONG

    @property
    def stacks(self) -> bool:
        """Whether it is too wide for a small screen, where its cells then stand in lines.

        A long one is scrolled instead: in lines it had no end.
        """
        columns = zip(self.headers, *self.rows, strict=True)
        widths = [max(map(len, column)) for column in columns]
        return len(widths) > 2 and sum(widths) > NARROW and len(self.rows) <= MOST_STACKED


def by_condition(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries, in the order in which conditions are shown."""
    order = in_order(rows["condition"].astype(str))
    return sorted(records(rows), key=lambda row: order.index(str(row["condition"])))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as dictionaries, missing values as ``None``."""
    names = [str(name) for name in frame.columns]
    columns = ([_plain(value) for value in column.tolist()] for _, column in frame.items())
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    """A value of a frame as one of Python; a missing one as ``None``."""
    value = value.item() if isinstance(value, np.generic) else value
    is_missing = value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)
    return None if is_missing else value


def middles(rows: pd.DataFrame) -> NDArray[np.float64]:
    """The middle of each bin (tokens), where its point is drawn."""
    return (rows["distance_from"] + rows["distance_to"] - 1).to_numpy(np.float64) / 2


def between(row: Mapping[Any, Any], name: str = "distance") -> str:
    """A bin in words: its first and its last value."""
    first, last = int(row[f"{name}_from"]), int(row[f"{name}_to"]) - 1
    return f"{first:,}" if first == last else f"{first:,}–{last:,}"


def decimals(value: Any, digits: int = 3) -> str:
    """A number in a table, with a real minus sign; ``–`` where there is none."""
    if value is None or not np.isfinite(float(value)):
        return "–"
    text = f"{float(value):.{digits}f}"
    if float(text) == 0 and float(value) != 0:
        text = f"{float(value):.1g}"
    return text.replace("-", "−")


def ranged(row: Mapping[str, Any], name: str, digits: int = 3) -> str:
    """A number with its interval."""
    if row.get(name) is None:
        return "–"
    text = decimals(row[name], digits)
    if row.get("low") is None or row.get("high") is None:
        return text
    return f"{text} ({decimals(row['low'], digits)} to {decimals(row['high'], digits)})"


def length(value: Any, missing: str = "beyond reach") -> str:
    """A number of tokens."""
    return missing if value is None or pd.isna(value) else f"{int(value):,}"


def percent(value: Any) -> str:
    """A share in percent."""
    return "–" if value is None or not np.isfinite(float(value)) else f"{float(value) * 100:.0f} %"


def estimate(row: Mapping[Any, Any]) -> str:
    """The estimate of an answer that is shown as ``> x``, for the second line of its cell.

    Args:
        row: ``kind`` and ``length`` of an answer (tokens, missing beyond reach).
    """
    known = row.get("kind") == "greater" and row.get("length") is not None
    return f"estimate {length(row['length'])}" if known else ""


def of_lengths(caption: str, rows: Iterable[Mapping[Any, Any]]) -> str:
    """The caption of a table of answers, with what ``> x`` is where one stands there.

    Args:
        caption: What the table holds.
        rows: Its answers, with their ``kind``.
    """
    known = any(row.get("kind") == "greater" for row in rows)
    return f"{caption}; > x: the lower limit of the interval" if known else caption


def pivot(
    caption: str,
    rows: Sequence[Mapping[Any, Any]],
    columns: Iterable[str],
    *,
    by: str,
    cell: Callable[[Mapping[Any, Any]], str],
    head: Mapping[str, Callable[[Mapping[Any, Any]], str]] | None = None,
    detail: Callable[[Mapping[Any, Any]], str] | None = None,
    line: Sequence[str] = (),
) -> Table:
    """A table with one row a bin and one column for each of *columns*.

    Args:
        caption: The caption.
        rows: Rows of a frame, one for each line and column.
        columns: Values of ``by`` that become columns.
        by: The key that says which column a row belongs to.
        cell: Function from a row to a cell's text.
        head: The columns that name a line, each a function from a row to its text; lines are in the
            order of *rows*. Without it a line is a bin, in the order of distance.
        detail: Function from a row to the second line of its cell, empty where there is none.
        line: The keys that tell lines apart, where their texts alone might not.
    """
    if head is None:
        head = {"distance": between}
        rows = sorted(rows, key=lambda row: row["distance_from"])
    names = list(columns)
    lines: dict[tuple[Any, ...], tuple[list[str], dict[str, str]]] = {}
    details: dict[tuple[int, int], str] = {}
    for row in rows:
        texts, name = [text(row) for text in head.values()], str(row[by])
        key = tuple(row[part] for part in line) if line else tuple(texts)
        lines.setdefault(key, (texts, {}))[1][name] = cell(row)
        if detail is not None and name in names and (more := detail(row)):
            details[list(lines).index(key), len(head) + names.index(name)] = more
    cells = [[*texts, *(found.get(name, "–") for name in names)] for texts, found in lines.values()]
    return Table(caption, [*head, *names], cells, details=details)
