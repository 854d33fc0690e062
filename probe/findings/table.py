"""A table as plain data, and the words of its cells."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from probe.analysis.fit import in_order

NARROW = 40
"""Characters of a table's line that a small screen has room for."""
MOST_STACKED = 48
"""Rows of a table whose cells stand in lines there."""
LONG = 30
"""Rows from which on a table is folded on the page."""
Shown = Literal["page", "terminal", "both"]
"""Where a table is shown."""


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
    values = frame.astype(object).where(frame.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in values.to_dict("records")]


def middles(rows: pd.DataFrame) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The middle of each bin (tokens), where its point is drawn."""
    ends = rows["distance_from"].to_numpy(float), rows["distance_to"].to_numpy(float)
    return np.asarray((ends[0] + ends[1] - 1) / 2, dtype=np.float64)


def between(row: Mapping[str, Any], name: str = "distance") -> str:
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


def pivot(
    caption: str,
    rows: Sequence[Mapping[str, Any]],
    columns: Iterable[str],
    *,
    by: str,
    cell: Callable[[Mapping[str, Any]], str],
    corner: str = "distance",
    row_name: Callable[[Mapping[str, Any]], str] = between,
) -> Table:
    """A table with one row a bin and one column for each of *columns*.

    Args:
        caption: The caption.
        rows: Rows of a frame, one for each bin and column.
        columns: Values of ``by`` that become columns.
        by: The key that says which column a row belongs to.
        cell: Function from a row to a cell's text.
        corner: Header of the first column.
        row_name: Function from a row to the name of its line.
    """
    names = list(columns)
    lines: dict[str, dict[str, str]] = {}
    ordered = rows if row_name is not between else sorted(rows, key=lambda r: r["distance_from"])
    for row in ordered:
        lines.setdefault(row_name(row), {})[str(row[by])] = cell(row)
    cells = [[line, *(found.get(name, "–") for name in names)] for line, found in lines.items()]
    return Table(caption, [corner, *names], cells)
