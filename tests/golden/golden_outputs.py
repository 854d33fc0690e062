"""What a command prints and writes, in a form that can be kept and compared."""

import contextlib
import html
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest.mock import patch

from click.testing import CliRunner
from matplotlib.figure import Figure

from probe import __version__
from probe.commands.main import group

COMMAND, PRINTED, FILES = "command.txt", "printed.txt", "files.txt"
TABLES, PAGES, FIGURES = (".csv", ".json"), (".html.txt",), (".svg.txt",)
MEASURED = re.compile(r"(^About |\\|difference\\| at most ).*$", re.MULTILINE)
BLOCKS = frozenset(
    ("h1", "h2", "h3", "h4", "p", "li", "tr", "caption", "figcaption", "summary", "dt", "dd")
)
BLOCKS |= {"title", "div", "section", "table", "details", "label", "pre", "nav", "option", "text"}
_SAVE = Figure.savefig
UNSEEN = frozenset(("script", "style", "head"))


def outputs(arguments: Sequence[str], folder: Path) -> dict[str, str]:
    """Run a command and gather what it prints and writes.

    Args:
        arguments: As on the command line, paths relative to *folder*.
        folder: The working directory; what the command writes beneath it is gathered.

    Returns:
        Texts by name: the command, what it printed, the names of the files that it wrote or
        changed, its CSV and JSON files, its pages and SVG figures as their texts, of
        other files the name.
    """
    before = _changes(folder)
    with contextlib.chdir(folder), patch.object(Figure, "savefig", _coarse):
        result = CliRunner(env={"COLUMNS": "100"}).invoke(group, list(arguments))
    files = [name for name, change in _changes(folder).items() if before.get(name) != change]
    found = {COMMAND: f"probe {shlex.join(arguments)}\n", PRINTED: _printed(result)}
    if files:
        found[FILES] = "".join(f"{name}\n" for name in sorted(files))
    for name in files:
        file = folder / name
        if name.endswith(".csv"):
            found[name] = file.read_text(encoding="utf-8")
        elif name.endswith(".json") and file.name != "run.json":
            found[name] = json_lines(json.loads(file.read_text(encoding="utf-8")))
        elif name.endswith(".html"):
            found[f"{name}.txt"] = page_text(file.read_text(encoding="utf-8"))
        elif name.endswith(".svg"):
            found[f"{name}.txt"] = figure_text(file.read_text(encoding="utf-8"))
    return found


def _coarse(figure: Figure, file: Any, **how: Any) -> None:
    """Save a figure; bitmaps with few dots, for of them nothing is compared and dots take time."""
    _SAVE(figure, file, **how | ({"dpi": 20} if how.get("format") == "png" else {}))


def json_lines(content: Any) -> str:
    """A mapping as JSON of nine digits, an entry a line, its tables as columns and rows."""
    lines = []
    for key, value in content.items():
        value = _short(value)
        texts = [json.dumps(value, ensure_ascii=False)]
        if isinstance(value, dict) and list(value) == ["columns", "rows"]:
            rows = [json.dumps(row, ensure_ascii=False) for row in value["rows"]]
            head = json.dumps(value["columns"], ensure_ascii=False)
            texts = [f'{{"columns": {head}, "rows": [', ",\n".join(rows), "]}"]
        lines.append(f"{json.dumps(key)}: " + "\n".join(texts))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _short(value: Any) -> Any:
    """The same with nine digits, and lists of equal mappings as tables."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) > 1 and all(
        isinstance(one, dict) and one.keys() == value[0].keys() for one in value
    ):
        return {"columns": list(value[0]), "rows": [_short(list(one.values())) for one in value]}
    return [_short(one) for one in value]


def _changes(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    stats = {path.relative_to(folder).as_posix(): path.stat() for path in files}
    return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()}


def _printed(result: object) -> str:
    """Standard output and, under lines that say so, standard error and another status than 0."""
    out, err, status = result.stdout, result.stderr, result.exit_code  # type: ignore[attr-defined]
    err = "\n".join(line for line in re.split(r"[\r\n]+", err) if line and "window/s" not in line)
    err = "\n".join(line for line in err.split("\n") if "/window" not in line and "%|" not in line)
    told = out + (f"--- standard error\n{err}\n" if err else "")
    told += f"--- status {status}\n" if status else ""
    return MEASURED.sub(r"\1(measured)", told).replace(__version__, "(version)")


class _Page(HTMLParser):
    """Gathers visible text, a block a line; titles of figures are among it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = [""]
        self.unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.unseen += tag in UNSEEN
        if tag in BLOCKS:
            self.lines.append("# " if tag in ("h1", "h2", "h3", "h4") else "")
        if tag in ("td", "th") and self.lines[-1]:
            self.lines[-1] += " | "

    def handle_endtag(self, tag: str) -> None:
        self.unseen -= tag in UNSEEN
        if tag in BLOCKS:
            self.lines.append("")

    def handle_data(self, data: str) -> None:
        if not self.unseen:
            self.lines[-1] += data


def page_text(page: str) -> str:
    """The visible text of a page: headings, paragraphs, tables, and what its figures say."""
    parser = _Page()
    parser.feed(page)
    parser.close()
    lines = (" ".join(line.split()) for line in parser.lines)
    text = "".join(f"{line}\n" for line in lines if line and line != "#")
    return text.replace(__version__, "(version)")


def figure_text(svg: str) -> str:
    """The texts of a figure of matplotlib, in their order."""
    return "".join(f"{text}\n" for text in _texts(svg))


def _texts(svg: str) -> Iterator[str]:
    for text in re.findall(r"<text[^>]*>(.*?)</text>", svg, flags=re.DOTALL):
        yield html.unescape(text).replace("\n", " ")
