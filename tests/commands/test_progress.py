"""Progress: a bar on a terminal, a line a minute elsewhere, nothing where a call is quiet."""

import io
import sys

import click
import pytest

from probe.commands import progress
from probe.commands._visible import QUIET
from probe.commands.progress import Progress


class Stderr(io.StringIO):
    """What stands for standard error."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def written(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool, quiet: bool = False, lines: bool = False
) -> str:
    """What stands on standard error when two of three windows are done."""
    stream = Stderr(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    monkeypatch.setenv("COLUMNS", "100")
    with click.Context(click.Command("x")) as context:
        context.meta[QUIET] = quiet
        with Progress("window", doing="Counting", lines=lines) as bar:
            bar.show(2, 3, "5 tokens/s", 1.0)
    return stream.getvalue()


def test_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal has a bar, also where lines were asked for, and it is gone in the end."""
    for lines in (False, True):
        text = written(monkeypatch, terminal=True, lines=lines)
        assert "Counting:" in text
        assert "windows" not in text
        assert text.endswith("\r")


def test_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere it is a line, where that was asked for."""
    told = written(monkeypatch, terminal=False, lines=True)
    assert told == "2 of 3 windows, 5 tokens/s\n"
    assert written(monkeypatch, terminal=False) == ""


def test_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a line a unit."""
    stream = Stderr(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Progress("window", lines=True) as bar:
        for now in range(0, 150, 10):
            bar.show(now, 1000)
    assert stream.getvalue() == "60 of 1,000 windows\n120 of 1,000 windows\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing at all."""
    assert written(monkeypatch, terminal=terminal, quiet=True, lines=True) == ""
