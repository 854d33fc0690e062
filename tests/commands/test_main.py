"""The `probe` command: no name is obeyed, any encoding will do, mistakes are one line."""

import json
import logging
import re
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import yaml
from click.testing import Result
from command_line import INSIDE, mistake, mistakes, probe, process, write
from simulated import Simulation, write_run
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    text_folder,
)

from probe.commands import _visible, main
from probe.training.train_arm import SAVE_SECONDS

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


@pytest.mark.slow
@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_names_are_escaped(arguments: tuple[str, ...], run: Path) -> None:
    """Names of model, data, run and condition are shown on one line, and nothing is hidden."""
    result = probe(*(argument.format(run=run) for argument in arguments))
    assert_harmless(result)
    assert ESCAPED in result.stdout or arguments[0] in ("plot", "keys")


@pytest.mark.slow
@pytest.mark.parametrize("charset", ["latin-1", "ascii", "cp1252"])
@pytest.mark.parametrize("arguments", [("compare", "{run}", "{run}"), ("list",)])
def test_any_encoding(charset: str, arguments: tuple[str, ...], run: Path) -> None:
    """An output without our signs gets them spelled, what it cannot have at all escaped."""
    result = probe(*(argument.format(run=run) for argument in arguments), charset=charset)
    assert result.exit_code == 0, result.output
    if "compare" in arguments and charset != "cp1252":
        text = result.stdout_bytes.decode("ascii")
        assert "B - A is 0 nats" in text
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
    """Only a run or study that is stopped goes on; of others nothing is promised. Status 130."""
    monkeypatch.setattr("probe.analysis.open_run.open_run", raising(KeyboardInterrupt()))
    monkeypatch.setattr("probe.commands.run.read", raising(KeyboardInterrupt()))
    result = probe("compare", run)
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")
    result = probe("run", tmp_path / "x.yaml")
    assert (result.exit_code, result.stderr) == (130, f"{main.KEPT}\n")
    monkeypatch.setattr("probe.training.study.load", raising(KeyboardInterrupt()))
    result = probe("train", tmp_path / "x.yaml")
    assert (result.exit_code, result.stderr) == (130, f"{main.TRAINED}\n")
    assert f"every {SAVE_SECONDS / 60:g} minutes" in main.TRAINED


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
    monkeypatch.setattr("probe.analysis.open_run.open_run", raising(error))
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


# -- what is not there ----------------------------------------------------------------------------

MISSING = {
    "run": "run nosuch.yaml",
    "plan": "plan nosuch.yaml",
    "a folder": "run folder",
    "report": "report nosuch",
    "no run": "report folder",
    "compare": "compare nosuch nosuch",
    "plot": "plot nosuch --kind curve",
    "keys": "keys nosuch",
    "from": "plan base.yaml --from nosuch",
    "check": "check ./nosuch",
    "text": "show shuffle --text nosuch.txt",
    "show": "show shuffle --model ./nosuch",
    "show code": "show shuffle --perturbations nosuch.py",
    "list code": "list --perturbations nosuch.py",
    "model": "plan base.yaml --model ./nosuch",
    "model above": "plan base.yaml --model ../nosuch/folder",
    "model at home": "plan base.yaml --model ~/nosuch",
    "model folder": "plan base.yaml --model nosuch/",
    "model path": "plan base.yaml --model no/such/folder",
    "gguf": "plan base.yaml --model nosuch.gguf",
    "package": "plan base.yaml --model package://nosuch/a.gguf",
    "data": "plan base.yaml --data ./nosuch",
    "data path": "plan base.yaml --data no/such/folder",
    "data file": "plan base.yaml --data nosuch.txt",
    "rows": "plan base.yaml --data nosuch.jsonl",
    "glob": "plan base.yaml --data nosuch/*.txt",
    "files": "plan base.yaml --set data.data_files=nosuch*",
    "column": "plan base.yaml --set data.text_column=nosuch",
    "ids": "plan base.yaml --set data.ids_column=nosuch",
    "group": "plan base.yaml --set data.group_column=nosuch",
    "split": "plan base.yaml --set data.split=nosuch",
}
NAMED = {"code": "perturbations=[nosuch.py]", "class": "analysis.classes=['nosuch.py:f']"}


@pytest.fixture(name="folder")
def folder_with_a_configuration(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", MISSING.values(), ids=MISSING)
def test_what_is_missing_is_named(command: str) -> None:
    """Whichever command misses whatever: it is named, and nothing is written."""
    line = mistake(probe(*command.split()), 2)
    assert "such" in line or "folder" in line
    assert len(line) < 300
    assert sorted(path.name for path in Path().iterdir()) == ["base.yaml", "folder"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("setting", NAMED.values(), ids=NAMED)
def test_what_a_configuration_names(setting: str) -> None:
    """A file of code that is not there is a mistake of the configuration."""
    first, second = mistakes(probe("plan", "base.yaml", "--set", setting), 2)
    assert first == "base.yaml has 1 mistake(s):"
    assert "'nosuch.py' cannot be read: No such file or directory" in second


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("option", ["--model", "--data", "--set=data.data_files="])
@pytest.mark.parametrize("name", ["x" * 5_000, "x/" * 5_000])
def test_names_that_are_too_long(option: str, name: str) -> None:
    """A name that no file can have is cut, as any other value."""
    arguments = (option + name,) if "=" in option else (option, name)
    lines = mistakes(probe("plan", "base.yaml", *arguments), 2)
    assert "File name too long" in lines[-1]
    assert max(map(len, lines)) < 400


MEANT = {
    "rnu": "run",
    "Report": "report",
    "run --quite my.yaml": "--quiet",
    "plan my.yaml --form x": "--from",
    "plot a --kind curv": "curve",
    "plot a --kind heatmap --by documnt": "document",
    "check m --dtype float23": "float32",
    "--log-level inof list": "info",
    "show shufle": "shuffle",
}


@pytest.mark.parametrize("line", MEANT)
def test_what_was_meant(line: str) -> None:
    """Of commands, options, choices and conditions that there are not the nearest is named."""
    result = probe(*line.split())
    assert (result.exit_code, result.stdout) == (2, "")
    told = result.stderr.splitlines()[-1]
    assert told.startswith("Error: ")
    assert f"; did you mean {MEANT[line]!r}?" in told


# -- how much is said -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
def test_quiet(before: bool, run: Path) -> None:
    """A command that writes files then prints nothing, before or behind its name; others do."""
    arguments = ["report", run, "--class", "kind"]
    loud = probe(*arguments)
    quiet = probe("-q", *arguments) if before else probe(*arguments, "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert loud.stdout
    assert probe("list", "-q").stdout == probe("list").stdout


@pytest.mark.slow
def test_quiet_is_no_secret(run: Path) -> None:
    """Mistakes are told with their status, and the next call is as loud as ever."""
    assert mistake(probe("-q", "report", "nosuch"), 2) == "no run folder at 'nosuch'"
    assert probe("plot", run).stdout.startswith("Figure: ")


@pytest.mark.filterwarnings("always")
def test_log_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of libraries from a level on are lines that no name can hide in; then all is gone."""
    loud = logging.getLogger("loud")
    loud.setLevel(logging.DEBUG)

    def speaks(**_: object) -> None:
        logging.getLogger("httpx").info("GET \x1b[2J\nError: all is lost")
        logging.getLogger("httpx").debug("no news")
        loud.warning("louder than the root")
        warnings.warn("old", FutureWarning, stacklevel=1)
        _visible.note("ours")

    context = click.Context(main.group)
    command = main.group.get_command(context, "list")
    monkeypatch.setattr(command, "callback", speaks)
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    line = r"info: httpx: GET \x1b[2J Error: all is lost"
    found = probe("list", "--log-level", "info").stderr.splitlines()
    assert found[0] == line
    assert found[1] == "warning: loud: louder than the root"
    assert found[2].startswith("warning: py.warnings: ")
    assert found[3:] == ["note: ours"]
    assert "no news" in probe("--log-level", "debug", "list").stderr
    assert probe("--log-level", "debug", "list", "--log-level", "error").stderr == ""
    assert probe("list", "--quiet").stderr == ""
    assert (root.level, root.handlers) == before


# -- the process ----------------------------------------------------------------------------------


def test_usage() -> None:
    """A command or an option that does not exist is told as click tells it: status 2."""
    for arguments in (["measure"], ["run", "tiny.yaml", "--fast"], ["run"], ["report"]):
        result = probe(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.slow
def test_a_mistake_in_another_process(base: dict[str, Any], tmp_path: Path) -> None:
    """``python cli.py`` says and returns what the command in this process does."""
    config = write(tmp_path / "wrong.yaml", base, windows__stride=8)
    done = process("cli.py", "run", str(config), caches=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == probe("run", config).stderr


def test_help_is_there_at_once(tmp_path: Path) -> None:
    """``probe --help`` names every command and loads no library that takes seconds."""
    done = process("-c", INSIDE, "--help", caches=tmp_path)
    assert done.returncode == 0
    for name in main.COMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, re.M)
    loaded = set(json.loads(done.stderr)["loaded"])
    slow = {"torch", "transformers", "datasets", "pandas", "numpy", "scipy", "matplotlib", "duckdb"}
    assert not slow & loaded


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_threads_wait_passively(given: str | None, tmp_path: Path) -> None:
    """The command line tells OpenMP's threads not to spin, unless the user has said how."""
    extra = {} if given is None else {"OMP_WAIT_POLICY": given}
    done = process("-c", INSIDE, "--version", caches=tmp_path, **extra)
    held = json.loads(done.stderr)
    assert held["policy"] == (given or "PASSIVE")
    assert "torch" not in held["loaded"]
