"""The README, the pages of docs/ and the site made of them: what they show and link to is there."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from probe.commands.main import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
"""Elements that a browser loads something for, and the attribute that says what."""


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link of a page to a file or a heading of the checkout finds it."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {path}"
        assert not anchor or anchor in headings(target), f"{page.name} links to {link}"


def test_every_command_is_documented() -> None:
    """The page of the command line has a row for each command, and none for what is no command."""
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `probe (\w+)", text, re.M)) == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    """A command that a page shows is one of the tool's."""
    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"(?:^\$ |`)probe (\w+)", text, re.M))
    assert shown <= set(COMMANDS), f"{page.name} shows {shown - set(COMMANDS)}"


class Loaded(HTMLParser):
    """What a browser loads as it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if attributes.get("rel") in ("canonical", "prev", "next"):
            return
        self.addresses.append(attributes.get(LOADS.get(tag, ""), "") or "")


@pytest.mark.slow
def test_site(tmp_path: Path) -> None:
    """The site is built, its links checked, and no page of it loads anything from elsewhere."""
    pytest.importorskip("zensical", reason="the site needs the extra dev")
    site = tmp_path / "site"
    command = [sys.executable, str(ROOT / "docs" / "site.py"), str(site)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    made = {page.stem for page in site.glob("*.html")}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= made
    for page in site.glob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        outside = [one for one in loaded.addresses if re.match(r"(https?:)?//", one)]
        assert not outside, f"{page.name} loads {outside}"


def test_code_can_be_read() -> None:
    """Python that a page shows is Python; the page of docstrings has a test of its own."""
    for page in [page for page in PAGES if page.name != "api.md"]:
        for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            compile(code, page.name, "exec")
