"""What reaches a terminal: no name is obeyed, any encoding will do, mistakes are one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from simulated import Simulation, write_run

from probe.commands import _visible
from probe.commands.main import KEPT, group

HOSTILE = "evil\x1b[2J\u202egpj\nError: all is lost\x07"
ESCAPED = r"evil\x1b[2J\u202egpj\nError: all is lost\x07"
CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    f"shuffle(to='{HOSTILE}')": lambda d: np.where(d < 16, 0.3, 0.0),
}
OBEYED = {*map(chr, range(32)), *"\x7f\x9b\u202a\u202b\u202e\u2066\u2067\u200f"} - {"\n"}


@pytest.fixture(scope="module", name="run")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model, data, name and condition would clear the screen and lie."""
    names = dict.fromkeys(("name", "model", "data"), HOSTILE)
    simulation = Simulation(CURVES, windows=1, length=256, boundaries=(128,), reach=128, **names)
    return write_run(tmp_path_factory.mktemp("hostile") / "run", simulation)


def probe(*arguments: object, charset: str = "utf-8") -> Result:
    return CliRunner(charset=charset).invoke(group, [str(argument) for argument in arguments])


def assert_harmless(result: Result) -> None:
    assert result.exit_code == 0, result.output
    text = result.stdout + result.stderr
    assert not OBEYED & set(text)
    assert not [line for line in text.splitlines() if line.startswith("Error: all is lost")]


COMMANDS = {
    "report": ("report", "{run}", "--class", "kind"),
    "two reports": ("report", "{run}", "{run}", "--class", "kind"),
    "compare": ("compare", "{run}", "{run}"),
    "keys": ("keys", "{run}"),
    "plot": ("plot", "{run}", "--condition", "truncate"),
    "plot of all": ("plot", "{run}", "{run}"),
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_names_are_escaped(arguments: tuple[str, ...], run: Path) -> None:
    """Names of model, data, run and condition are shown on one line, and nothing is hidden."""
    result = probe(*(argument.format(run=run) for argument in arguments))
    assert_harmless(result)
    assert ESCAPED in result.stdout or arguments[0] in ("plot", "keys")


@pytest.mark.parametrize("charset", ["latin-1", "ascii", "cp1252"])
@pytest.mark.parametrize("arguments", [("compare", "{run}", "{run}"), ("list",)])
def test_any_encoding(charset: str, arguments: tuple[str, ...], run: Path) -> None:
    """An output without our signs gets them spelled, what it cannot have at all escaped."""
    result = probe(*(argument.format(run=run) for argument in arguments), charset=charset)
    assert result.exit_code == 0, result.output
    if "compare" in arguments and charset != "cp1252":
        text = result.stdout_bytes.decode("ascii")
        assert "B - A, paired" in text
        assert "\n0-7 " in text


def test_a_mistake_in_any_encoding(tmp_path: Path) -> None:
    """Mistakes, click's own too, are told with what an output can have."""
    for arguments, words in (
        (("report", tmp_path / "na−me\x1b\udcff"), r"na-me\x1b\udcff"),
        (("rep−ort",), "rep-ort"),
        (("report", "--optio−n\x1b"), r"--optio-n\x1b"),
        (("plot", "x", "--kind", "−"), "'-' is not one of"),
    ):
        result = probe(*arguments, charset="latin-1")
        assert result.exit_code in (1, 2)
        assert words in result.stderr
        assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_fail(capsys: pytest.CaptureFixture[str]) -> None:
    """A list of mistakes keeps its lines; a newline of a name is none of them."""
    _visible.fail("x has 2 mistake(s):\n  a: 1\n  b: 2")
    _visible.fail("no run folder at 'a\nError: b'")
    _visible.note("a\nb\x1b")
    assert capsys.readouterr().err.splitlines() == [
        *("Error: x has 2 mistake(s):", "  a: 1", "  b: 2"),
        r"Error: no run folder at 'a\nError: b'",
        r"note: a\nb\x1b",
    ]


def raising(error: BaseException) -> Any:
    def fails(*_: object, **__: object) -> None:
        raise error

    return fails


def test_interrupted(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a run that is stopped goes on; of the others nothing is promised. Status 130."""
    monkeypatch.setattr("probe.analysis.summary.summarise", raising(KeyboardInterrupt()))
    monkeypatch.setattr("probe.commands.run.read", raising(KeyboardInterrupt()))
    result = probe("compare", run)
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")
    result = probe("run", tmp_path / "x.yaml")
    assert (result.exit_code, result.stderr) == (130, f"{KEPT}\n")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SystemExit(0), "unexpected SystemExit: 0 (PROBE_DEBUG=1 shows where)"),
        (ValueError("a\nb\x1b"), r"unexpected ValueError: a b\x1b (PROBE_DEBUG=1 shows where)"),
        (OSError("odd"), "odd"),
        (OSError(2, "No such file", "x"), "x: No such file"),
    ],
)
def test_other_errors(
    error: BaseException, words: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw is one line and status 1, also where code of a user's calls exit."""
    monkeypatch.setattr("probe.analysis.summary.summarise", raising(error))
    result = probe("compare", run)
    assert (result.exit_code, result.stderr) == (1, f"Error: {words}\n")


def test_a_class_that_exits(run: Path, tmp_path: Path) -> None:
    """A predicate that ends the program is a mistake like any other: the class is named."""
    mine = tmp_path / "mine.py"
    mine.write_text("def bad(window):\n    raise SystemExit(0)\n", encoding="utf-8")
    result = probe("plot", run, "--kind", "classes", "--class", f"{mine}:bad")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: token class '{mine}:bad', window 0 of ")
    assert line.endswith(": SystemExit: 0")
