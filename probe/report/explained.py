"""What the page is made of: the shape of an explained run, and the parts of a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from markupsafe import Markup

from probe.analysis.answer import in_order
from probe.analysis.summary import Summary
from probe.findings.table import records
from probe.report.charts import Chart, draw, legend

NARROW = 40
"""Characters of a table's line that a small screen has room for."""
MOST_STACKED = 48
"""Rows of a table whose cells stand in lines there."""


class Explained(Protocol):
    """A run with all that is said of it, as :func:`probe.analysis.explain.explain` gives it.

    Only the summary is needed; of the frames beside it, and of ``notes``, those that are missing,
    ``None`` or empty leave their sections out.
    """

    @property
    def summary(self) -> Summary: ...  # noqa: D102 - said above


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Args:
        caption: What it holds, with units.
        headers: Names of the columns.
        rows: Cells as text; the first of a row names it.
    """

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def stacks(self) -> bool:
        """Whether it is too wide for a small screen, where its cells then stand in lines.

        A long one is scrolled instead: in lines it had no end.
        """
        columns = zip(self.headers, *self.rows, strict=True)
        widths = [max(map(len, column)) for column in columns]
        return len(widths) > 2 and sum(widths) > NARROW and len(self.rows) <= MOST_STACKED


@dataclass(frozen=True)
class Figure:
    """A chart, how to read it, and the same as tables.

    Args:
        svg: The chart.
        legend: Samples and names of its lines.
        title: What it shows.
        how: How to read it, in plain words.
        tables: The numbers behind it.
    """

    svg: Markup
    legend: Sequence[tuple[Markup, str]]
    title: str
    how: str
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Section:
    """A finding: a heading with an address, what was found in words, figures and tables.

    Args:
        id: Its address on the page.
        title: Its heading.
        finding: What was found, one sentence.
        figures: Its charts.
        tables: Tables that stand open.
        notes: Limits and remarks, one line each.
        more: Sentences that stand below the finding.
    """

    id: str
    title: str
    finding: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    more: Sequence[str] = ()


def figure(chart: Chart, how: str, *tables: Table) -> Figure:
    """A chart with its reading aid and its tables."""
    return Figure(draw(chart), legend(chart), chart.title, how, tables)


def frame(explained: Explained, name: str, *columns: str) -> pd.DataFrame:
    """A frame of an explained run, empty where it is missing, ``None`` or lacks a column.

    Args:
        explained: The run.
        name: The field that holds the frame.
        columns: Columns that the page needs of it.
    """
    held = getattr(explained, name, None)
    if not isinstance(held, pd.DataFrame) or not set(columns) <= set(held.columns):
        return pd.DataFrame(columns=list(columns))
    return held


def by_condition(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries, in the order in which conditions are shown."""
    order = in_order(rows["condition"].astype(str))
    return sorted(records(rows), key=lambda row: order.index(str(row["condition"])))


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
    cell: Any,
    corner: str = "distance",
    row_name: Any = between,
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
