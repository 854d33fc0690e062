"""Findings as HTML for a notebook: no script, no style sheet, nothing that leaves its cell."""

import base64
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from markupsafe import Markup

from probe.findings.base import Finding
from probe.findings.chart import Chart
from probe.findings.table import Table
from probe.render.figures import save
from probe.render.markup import element, text_markup, visible

_CELL = "text-align: left; white-space: nowrap"
_LINES = "white-space: pre-line"


def html(findings: Sequence[Finding], *, charts: int | None = None) -> str:
    """Findings below one another: heading, sentences, figures, tables, and what limits them.

    Args:
        findings: The findings; one that shows nothing is left out.
        charts: The most figures of each; ``None`` is all.

    Returns:
        One element. All text is made visible and escaped; a figure is an image inside of it.
    """
    parts = [_section(one, charts) for one in findings if one.shown]
    return str(element("div", *parts, class_="context-probe"))


def _section(finding: Finding, charts: int | None) -> Markup:
    drawn = [chart for chart in finding.charts if chart.on_page][:charts]
    tables = [one for one in finding.tables if one.rows]
    of_page = [one for one in tables if one.shown != "terminal"]
    first, *lines = [finding.sentence, *finding.more, finding.basis]
    parts = [
        element("h4", finding.title),
        *([element("p", element("strong", text_markup(first)))] if first else []),
        *(element("p", text_markup(line), style=_LINES) for line in lines if line),
        *map(_figure, drawn),
        *map(_table, of_page or tables),
    ]
    if finding.caveats:
        items = [element("li", text_markup(line)) for line in finding.caveats]
        summary = element("summary", f"What limits this ({len(items)})")
        parts.append(element("details", summary, element("ul", *items)))
    return element("section", *parts)


def _figure(chart: Chart) -> Markup:
    """The chart as an image of its own: of a drawing in the notebook, ids and styles would leak."""
    with TemporaryDirectory() as folder:
        (file,) = save(chart, Path(folder) / "figure", ["svg"])
        content = base64.b64encode(file.read_bytes()).decode()
    source = f"data:image/svg+xml;base64,{content}"
    # White, as a figure of a paper is: on a dark page too its letters are black.
    style = "background: white; max-width: 100%; width: 34em"
    return element("p", element("img", src=source, alt=visible(chart.title), style=style))


def _table(table: Table) -> Markup:
    head = [element("th", name, scope="col", style=_CELL) for name in table.headers]
    rows = [
        element("tr", element("th", first, scope="row", style=_CELL), *_cells(others))
        for first, *others in table.rows
    ]
    whole = element(
        "table", element("thead", element("tr", *head)), element("tbody", *rows), border=0
    )
    caption = element("summary", table.caption)
    scrolled = element("div", whole, style="overflow-x: auto")
    return element("details", caption, scrolled, open=None if table.folded else "open")


def _cells(row: Sequence[str]) -> list[Markup]:
    return [element("td", cell, style=_CELL) for cell in row]
