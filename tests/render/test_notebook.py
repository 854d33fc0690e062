"""Findings in a notebook: one element with all it needs, and no text of others as markup."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from charts import HOSTILE, SAMPLES

from probe.findings.base import Finding
from probe.findings.table import Table
from probe.render.notebook import html

TABLE = Table("Lengths (tokens)", ["condition", "1%"], [["truncate", "> 640"]], shown="both")
ALLOWED = {
    *("div", "section", "h4", "p", "strong", "img", "ul", "li", "details", "summary"),
    *("table", "thead", "tbody", "tr", "th", "td", "i"),
}


class Elements(HTMLParser):
    """Names of elements and attributes, and all text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: dict[str, None] = {}
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes |= dict.fromkeys(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def finding(**changes) -> Finding:
    made = Finding(
        "answer",
        "The answer",
        "It reads far.",
        "Measured well.",
        tables=[TABLE],
        charts=[SAMPLES["curve"](), SAMPLES["bands"]()],
        caveats=["few documents"],
    )
    return replace(made, **changes)


@pytest.mark.slow
def test_a_finding_is_shown_whole():
    """Heading, sentence, basis, figures, table, and what limits it folded away."""
    markup = html([finding()])
    shown = Elements(markup)
    for text in ("The answer", "It reads far.", "Measured well.", "> 640", "few documents"):
        assert text in shown.text
    assert (shown.names.count("img"), shown.names.count("table")) == (2, 1)
    assert type(markup) is str  # another text may stand beside it


@pytest.mark.parametrize("count", [0, 1, None])
def test_the_first_figures_alone(count):
    assert html([finding()], charts=count).count("<img") == (2 if count is None else count)


@pytest.mark.slow
def test_tables_of_the_terminal_stand_in_for_missing_ones():
    """Where the page has a table of its own, that one is shown."""
    terminal = replace(TABLE, shown="terminal", caption="For a terminal")
    assert "For a terminal" not in html([finding(tables=[TABLE, terminal])])
    assert "For a terminal" in html([finding(tables=[terminal])])


def test_what_shows_nothing_is_left_out():
    assert html([Finding("files", "Files alone")]) == '<div class="context-probe"></div>'


def test_text_of_others_is_no_markup():
    """In no sentence, table, figure or attribute; nothing runs and nothing is fetched."""
    table = Table(HOSTILE, [HOSTILE, HOSTILE], [[HOSTILE, HOSTILE]])
    lines = {"sentence": HOSTILE, "basis": HOSTILE, "title": HOSTILE, "more": [HOSTILE]}
    charts = [replace(SAMPLES["hostile"](), title=HOSTILE)]
    markup = html([finding(**lines, tables=[table], charts=charts, caveats=[HOSTILE])])
    shown = Elements(markup)
    assert set(shown.names) <= ALLOWED
    assert set(shown.attributes) <= {"class", "style", "src", "alt", "scope", "border", "open"}
    assert not set(markup) & set("\x1b\u202e")
    for source in re.findall(r'src="([^"]*)"', markup):
        image = base64.b64decode(source.removeprefix("data:image/svg+xml;base64,"))
        assert image.startswith(b"<?xml")
        assert b"<script" not in image
