"""What the commands print: every character visible, lines of a known width, marks."""

import logging
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import click

from probe.text import json_text, printable

JSON, QUIET, LEVEL = "probe.json", "probe.quiet", "probe.level"
"""What a call was asked for: JSON and nothing else on standard output; no more than is asked for;
the level from which on records are printed. They stand in the ``meta`` of click's context, which
all contexts of a call share."""
WRITERS = ("init", "run", "report", "plot", "push")
"""Commands whose answer stands in files: where they are to be quiet, they print nothing."""
SPELLED = {
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "≤": "<=",
    "≥": ">=",
    "±": "+-",
    "×": "x",
    "“": '"',
    "”": '"',
    "’": "'",
}
"""Signs of our own texts, and what stands for them where the output cannot have them."""


class Glyph(NamedTuple):
    """A character and how it is shown.

    Args:
        char: The character of the text.
        shown: One or more printable characters.
        columns: How wide *shown* is on a terminal.
        marked: Whether it is part of something that stands out.
    """

    char: str
    shown: str
    columns: int
    marked: bool


def glyphs(pieces: Iterable[tuple[str, bool]]) -> Iterator[Glyph]:
    """Make text visible: what Python's ``repr`` escapes is escaped, a newline is ⏎.

    Args:
        pieces: Texts, and whether each is marked.
    """
    for text, marked in pieces:
        for char in text:
            shown = "⏎" if char == "\n" else printable(char)
            columns = _columns(char) if shown == char else len(shown)
            yield Glyph(char, shown, columns, marked)


def lines(text: Iterable[Glyph], columns: int) -> Iterator[list[Glyph]]:
    """Break visible text behind newlines, and behind spaces where a line would be too wide.

    Args:
        text: The glyphs.
        columns: Widest line, at least 10, the longest escape; a word beyond it is cut.
    """
    line: list[Glyph] = []
    used = 0
    for glyph in text:
        while line and used + glyph.columns > columns and glyph.char != " ":
            spaces = (i for i in range(len(line), 0, -1) if line[i - 1].char == " ")
            cut = next(spaces, len(line))
            yield line[:cut]
            line = line[cut:]
            used = sum(kept.columns for kept in line)
        line.append(glyph)
        used += glyph.columns
        if glyph.char == "\n":
            yield line
            line, used = [], 0
    if line:
        yield line


def paint(line: list[Glyph], *, styled: bool) -> str:
    """Write a line, its marked glyphs bold and underlined if it is *styled*."""
    end = next((i for i in range(len(line), 0, -1) if line[i - 1].char != " "), 0)
    return "".join(
        click.style(text, bold=True, underline=True) if marked and styled else text
        for marked, run in groupby(line[:end], key=lambda glyph: glyph.marked)
        for text in ["".join(glyph.shown for glyph in run)]
    )


def terminal_columns() -> int:
    """Width of the terminal, 80 where there is none."""
    return max(20, shutil.get_terminal_size((80, 24)).columns)


def is_styled() -> bool:
    """Whether standard output is a terminal that may be sent styles."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def asked(what: str) -> bool:
    """Whether this call was asked for :data:`JSON`, or to be :data:`QUIET`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(what))


def say(text: str = "", *, err: bool = False, styled: bool = False) -> None:
    """Print a text; of names in it a terminal obeys nothing, and any encoding will do.

    Where JSON is asked for, standard output is its alone; where quiet is, standard error is the
    mistakes' alone.

    Args:
        text: One line or several.
        err: Print it to standard error.
        styled: Print it as it is: it comes from `paint`, which escaped it.
    """
    if asked(QUIET) if err else asked(JSON) or (asked(QUIET) and _writes()):
        return
    _print(text, err=err, styled=styled)


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output: see :func:`probe.text.json_text`."""
    click.echo(json_text(value, ascii_only=True), nl=False)


def note(line: str) -> None:
    """Print a note, one line, to standard error; it has the level of a warning."""
    context = click.get_current_context(silent=True)
    if context is None or context.meta.get(LEVEL, logging.WARNING) <= logging.WARNING:
        alert(f"note: {printable(line)}")


def fail(message: str) -> None:
    """Print a mistake to standard error.

    A message is one line, or a list of mistakes, each indented in a line of its own: any other
    newline is that of a name.
    """
    first, *others = message.split("\n")
    lines = [first]
    for line in others:
        lines.append(f"\n{line}" if line.startswith("  ") else f"\\n{line}")
    alert(f"Error: {''.join(lines)}")


def alert(text: str) -> None:
    """Print what nobody should miss to standard error, be it quiet or not."""
    _print(text, err=True)


def _writes() -> bool:
    return click.get_current_context().find_root().invoked_subcommand in WRITERS


def _print(text: str, *, err: bool, styled: bool = False) -> None:
    stream = sys.stderr if err else sys.stdout
    shown = text if styled else printable(text, keep="\n")
    click.echo(_encodable(shown, stream.encoding or "utf-8"), err=err, color=styled)


def _encodable(text: str, encoding: str) -> str:
    """The text in what an output can have; the rest is spelled, or else escaped."""
    known = {char: _in(char, encoding) for char in set(text)}
    return "".join(known[char] for char in text)


def _in(char: str, encoding: str) -> str:
    try:
        char.encode(encoding)
    except UnicodeEncodeError:
        return SPELLED.get(char) or char.encode("ascii", "backslashreplace").decode("ascii")
    return char


def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
