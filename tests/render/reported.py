"""Run folders opened with their findings, and pages as a parser sees them."""

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

from probe.analysis.open_run import OpenRun, open_run
from probe.findings.base import Finding, findings
from probe.render.page import write_page


class Page(HTMLParser):
    """What a page holds: addresses, links, attributes, its text without markup, and its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str | None] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = dict(attributes)
        self.tags.append((tag, names))
        self.ids += [str(names["id"])] if "id" in names else []
        self.links += [names["href"]] if "href" in names else []
        if tag in ("td", "th"):
            self.cells.append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.words.append(data.replace("\N{NO-BREAK SPACE}", " "))
        if self._in_cell:
            self.cells[-1] += data


def reported(folder: Path, classes: Sequence[str] | None = None) -> tuple[OpenRun, list[Finding]]:
    """A run that stays open, and all that is said of it; nothing is written into its folder."""
    run = open_run(folder, classes=classes, write=False)
    return run, findings(run)


def page_of(folder: Path, path: Path, classes: Sequence[str] | None = None) -> str:
    """The page of a run folder as text; it is written to *path*."""
    run, found = reported(folder, classes)
    with run:
        return write_page([run], [found], path).read_text("utf-8")
