"""The command line: answers on stdout, a mistake on one line of stderr, and an exit status."""

import errno
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from models import tiny
from tiny_run import (  # noqa: F401 (fixtures)
    CHECKOUT,
    base_configuration,
    changed,
    character_tokenizer,
    environment,
    model_folders,
    no_network,
    parts,
    scores,
    text_folder,
    text_of,
)

from probe.commands.main import group

PNG = b"\x89PNG\r\n\x1a\n"
FIGURES = ("figures/curve.png", "figures/curve.svg")
NUMBERS = ("summary.json", "curve.csv")
# Runs the command line as a user does, then says on stderr what the process holds.
INSIDE = """
import json, os, runpy, sys
sys.argv = ["cli.py", *sys.argv[1:]]
try:
    runpy.run_path("cli.py", run_name="__main__")
finally:
    held = {"loaded": sorted(sys.modules), "policy": os.environ.get("OMP_WAIT_POLICY")}
    print(json.dumps(held), file=sys.stderr)
"""


@dataclass(frozen=True)
class Finished:
    """A run that went through: its configuration, its results, what was said."""

    config: Path
    results: Path
    result: Result

    @property
    def folder(self) -> Path:
        return self.results / "tiny"

    def copy(self, results: Path) -> "Finished":
        """The same run in another place, for a test that changes it."""
        shutil.copytree(self.results, results)
        return Finished(self.config, results, self.result)


def probe(*arguments: object) -> Result:
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


def process(*command: str, caches: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        env=environment(caches) | extra,
    )


def write(file: Path, content: Mapping[str, Any], **changes: Any) -> Path:
    """The configuration that ``changed`` gives, as a file."""
    file.write_text(yaml.safe_dump(changed(content, **changes)), encoding="utf-8")
    return file


def rooted(value: Any, folder: Path) -> Any:
    return value.format(folder=folder) if isinstance(value, str) else value


def mistake(result: Result, status: int) -> str:
    """What a command that failed said: its status, one line, and nothing besides."""
    (line,) = mistakes(result, status)
    return line


def mistakes(result: Result, status: int) -> list[str]:
    """The lines of stderr behind ``Error:``, where nothing else was said."""
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    return result.stderr.removeprefix("Error: ").splitlines()


def last_line(result: Result, status: int) -> str:
    """The mistake of a run that had begun: below its notes and its bar."""
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert errors == result.stderr.splitlines()[-1:]
    return errors[0].removeprefix("Error: ")


def good(result: Result) -> str:
    """The answer of a command that went through."""
    assert result.exit_code == 0, result.output
    assert "Error" not in result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def finished(base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The base configuration, run once; tests only read it."""
    place = tmp_path_factory.mktemp("finished")
    config = write(place / "tiny.yaml", base)
    results = place / "results"
    return Finished(config, results, probe("run", config, "--results", results))


# -- mistakes -------------------------------------------------------------------------------------

IN_THE_CONFIGURATION = {
    "unknown key": ({"windows__stride": 8}, "windows.stride: unknown key (value 8)"),
    "unknown part": ({"widnows": {"length": 64}}, "widnows: unknown key"),
    "unknown condition": (
        {"conditions": ["truncate", "shufle"]},
        "conditions.1: condition 'shufle': unknown perturbation 'shufle'",
    ),
    "unknown parameter": ({"conditions": ["shuffle(length=8)"]}, "conditions.0: .*'length'"),
    "wrong parameter": ({"conditions": ["shuffle(span=1)"]}, "conditions.0: .*span.* 1"),
    "parameter out of range": ({"conditions": ["drop(rate=2)"]}, "conditions.0: .*rate.* 2"),
    "missing parameter": ({"conditions": ["drop"]}, "conditions.0: .*rate"),
    "no condition": ({"conditions": []}, "conditions: "),
    "window of another type": ({"windows__length": "long"}, "windows.length: .*'long'"),
}


@pytest.mark.parametrize(
    ("changes", "words"), IN_THE_CONFIGURATION.values(), ids=IN_THE_CONFIGURATION
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_mistakes_in_the_configuration(
    command: str, changes: dict[str, Any], words: str, base: dict[str, Any], tmp_path: Path
) -> None:
    """A mistake in the file has a line of its own with its path and the value: status 2."""
    config = write(tmp_path / "wrong.yaml", base, **changes)
    told, line = mistakes(probe(command, config), 2)
    assert told == f"{config} has 1 mistake(s):"
    assert re.match(f"  {_escaped(words)}", line), line


def test_every_mistake_at_once(base: dict[str, Any], tmp_path: Path) -> None:
    """Three mistakes are three lines."""
    config = write(tmp_path / "wrong.yaml", base, windows__stride=8, conditions=["x"], repeats=0)
    told, *lines = mistakes(probe("run", config), 2)
    assert told == f"{config} has 3 mistake(s):"
    assert [line.split(":")[0].strip() for line in lines] == [
        "windows.stride",
        "conditions.0",
        "repeats",
    ]


def _escaped(words: str) -> str:
    return words.replace("(", r"\(").replace(")", r"\)")


USAGE = {
    "data file": ({"data__data_files": "{folder}/none/*.txt"}, "data.data_files: .*none.* no file"),
    "column": ({"data__text_column": "body"}, "data.text_column: 'body' .*allowed: text"),
    "split": ({"data__split": "test"}, "data.split: 'test' .*allowed: train"),
    "data set": ({"data": {"path": "{folder}/none"}}, "cannot find data set '.*none'"),
    "positions": (
        {"windows__length": 1024, "data__data_files": "{folder}/long.txt"},
        "windows.length is 1024 .*1024 positions; allowed: up to 1023",
    ),
    "reach": ({"protocol__reach": 33}, "protocol.reach is 33; allowed: 1 to 32"),
    "model": ({"model__path": "nobody/no-such-model"}, "model.path 'nobody/no-such-model' "),
    "model folder": ({"model__path": "{folder}"}, "model.path is .*no config.json"),
    "model file": ({"model__path": "{folder}/none.gguf"}, "model.path is .*no such file"),
    "package": (
        {"model__path": "package://no_such_package/model.gguf"},
        "model.path is .*'no_such_package' is not installed; .*pip install",
    ),
    "device": ({"model__device": "abacus"}, "model.device is 'abacus'.*allowed: auto, cpu, cuda"),
}
THE_REST = {
    "empty data set": (
        {"data": {"path": "json", "data_files": "{folder}/empty.jsonl"}},
        "data set 'json' is empty: no row in '.*empty.jsonl'",
    ),
    "empty document": (
        {"data__data_files": "{folder}/empty.txt"},
        "no document .*'text' holds a token: 1 read, each empty or of characters that the",
    ),
    "short documents": (
        {"windows__length": 800},
        "no document .*'text' is long enough: 10 read, the longest has 700 tokens, .*needs 800",
    ),
}
FAULTS = {name: (2, *fault) for name, fault in USAGE.items()}
FAULTS |= {name: (1, *fault) for name, fault in THE_REST.items()}


@pytest.mark.parametrize(("status", "changes", "words"), FAULTS.values(), ids=FAULTS)
def test_what_does_not_fit(
    status: int, changes: dict[str, Any], words: str, base: dict[str, Any], tmp_path: Path
) -> None:
    """What is not there or does not fit is one line with the value and what is allowed."""
    (tmp_path / "empty.txt").touch()
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "long.txt").write_text(text_of(1100, 1), encoding="utf-8")
    here = {
        key: {inner: rooted(v, tmp_path) for inner, v in value.items()}
        if isinstance(value, dict)
        else rooted(value, tmp_path)
        for key, value in changes.items()
    }
    config = write(tmp_path / "tiny.yaml", base, **here)
    results = tmp_path / "results"
    line = mistake(probe("run", config, "--results", results), status)
    assert re.search(words, line), line
    assert not list(results.rglob("*.parquet"))


def test_no_configuration(tmp_path: Path) -> None:
    """A configuration that is not there, or is none, is named."""
    none, list_ = tmp_path / "none.yaml", tmp_path / "list.yaml"
    list_.write_text("[1, 2]", encoding="utf-8")
    assert mistake(probe("run", none), 2) == f"configuration {none}: No such file or directory"
    assert mistake(probe("plan", list_), 2).endswith("holds [1, 2]; allowed: keys with values")
    list_.write_text("name: [", encoding="utf-8")
    assert "is no YAML" in mistake(probe("run", list_), 2)


@pytest.mark.parametrize("setting", ["windows.length", "=8", ""])
def test_setting_without_equals(setting: str, finished: Finished) -> None:
    """``--set`` takes KEY=VALUE, and says so."""
    line = mistake(probe("run", finished.config, "--set", setting), 2)
    assert line == f"--set {setting}: allowed: KEY=VALUE, such as windows.length=8192"


def test_settings_are_checked(finished: Finished) -> None:
    """A key given by ``--set`` or by its twin is checked like one in the file."""
    told, *lines = mistakes(
        probe("run", finished.config, "--set", "windows.stride=8", "--dtype", "float8"), 2
    )
    assert told.endswith("2 mistake(s):")
    assert lines[0].startswith("  model.dtype: ")
    assert lines[0].endswith("got 'float8'")
    assert lines[1] == "  windows.stride: unknown key (value 8)"


def test_usage(finished: Finished) -> None:
    """A command or an option that does not exist is told as click tells it: status 2."""
    for arguments in (["measure"], ["run", str(finished.config), "--fast"], ["run"], ["report"]):
        result = probe(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_a_mistake_in_another_process(base: dict[str, Any], tmp_path: Path) -> None:
    """``python cli.py`` says and returns what the command in this process does."""
    config = write(tmp_path / "wrong.yaml", base, windows__stride=8)
    done = process("cli.py", "run", str(config), caches=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == probe("run", config).stderr


def test_no_model_to_check(tmp_path: Path) -> None:
    """``probe check`` of a model that is not there: one line, status 2."""
    assert "nobody/no-such-model" in mistake(probe("check", "nobody/no-such-model"), 2)
    assert "no config.json" in mistake(probe("check", tmp_path), 2)


def test_report_on_no_run(tmp_path: Path) -> None:
    """A folder that is no run, or is not there, is named: status 2."""
    none = tmp_path / "none"
    assert mistake(probe("report", none), 2) == f"no run folder at '{none}'"
    assert mistake(probe("report", tmp_path), 2).startswith(f"'{tmp_path}' is no run folder")
    assert not list(tmp_path.iterdir())


# -- faults of a run ------------------------------------------------------------------------------


def test_losses_that_are_no_number(base: dict[str, Any], tmp_path: Path) -> None:
    """A model that gives NaN ends the run with one line, and no score is kept of it."""
    model = tiny("llama", num_hidden_layers=2)
    model.model.norm.weight.data[:] = torch.nan
    model.save_pretrained(tmp_path / "broken")
    character_tokenizer(True).save_pretrained(tmp_path / "broken")
    config = write(tmp_path / "tiny.yaml", base, model__path=str(tmp_path / "broken"))
    line = last_line(probe("run", config, "--results", tmp_path / "results"), 1)
    assert line.startswith("the model's losses are not finite: ")
    assert "dtype float32" in line
    assert not parts(tmp_path / "results" / "tiny")


def test_folder_of_another_run(finished: Finished, tmp_path: Path) -> None:
    """A run of another identity is refused by its folder, which stays as it was."""
    run = finished.copy(tmp_path / "results")
    before = {file: file.read_bytes() for file in run.folder.rglob("*.*")}
    line = mistake(probe("run", run.config, "--results", run.results, "--set", "seed=1"), 2)
    assert line.startswith(f"{run.folder} holds another run: seed was 0, is 1; ")
    assert "choose another name" in line
    assert {file: file.read_bytes() for file in run.folder.rglob("*.*")} == before


def test_half_written_part(finished: Finished, tmp_path: Path) -> None:
    """A part that was cut off is put aside with a note, scored again, and the run ends well."""
    run = finished.copy(tmp_path / "results")
    before = parts(run.folder)
    cut = sorted(run.folder.glob("scores/*.parquet"))[1]
    half = before[cut.name][: len(before[cut.name]) // 2]
    cut.write_bytes(half)
    result = probe("run", run.config, "--results", run.results)
    good(result)
    aside = cut.with_suffix(".unreadable")
    assert f"note: {aside.name} was unreadable and is put aside" in result.output
    assert aside.read_bytes() == half
    assert parts(run.folder) == before


def test_full_disk(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space for a part: one line, the parts before it kept; the same command goes on."""
    results = tmp_path / "results"
    write = pq.ParquetWriter.write_table

    def full_at_the_third(writer: pq.ParquetWriter, table: pa.Table, **options: Any) -> None:
        write(writer, table, **options)
        if "condition" in table.column_names and len(parts(results / "tiny")) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full_at_the_third)
        line = last_line(probe("run", finished.config, "--results", results), 1)
    assert line.startswith(f"no space left for {results / 'tiny' / 'scores'}")
    assert "start the same command again" in line
    whole = parts(finished.folder)
    kept = parts(results / "tiny")
    assert len(kept) == 2
    assert kept.items() <= whole.items()
    assert not list(results.rglob("*.tmp"))
    good(probe("run", finished.config, "--results", results))
    assert parts(results / "tiny") == whole


# -- what goes well -------------------------------------------------------------------------------


def test_run(finished: Finished) -> None:
    """A run prints its answer, and leaves figure and numbers in its folder."""
    text = good(finished.result)
    assert text.splitlines()[0].count("tiny") == 1
    assert "Measured on 8 documents, 8 windows" in text
    assert text.endswith(
        f"\nFigure: {finished.folder / 'figures' / 'curve.png'}\n"
        f"Numbers: {finished.folder / 'summary.json'}, {finished.folder / 'curve.csv'}\n"
    )
    files = {name: (finished.folder / name).read_bytes() for name in (*FIGURES, *NUMBERS)}
    assert files["figures/curve.png"].startswith(PNG)
    assert b"<svg" in files["figures/curve.svg"]
    assert isinstance(json.loads(files["summary.json"]), dict)
    assert files["curve.csv"].count(b"\n") > 4
    assert not list(finished.folder.rglob("*.tmp"))


def test_a_second_run_scores_nothing(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command again loads no model, leaves every part alone, and says the same."""
    run = finished.copy(tmp_path / "results")
    files = {part: part.stat() for part in run.folder.glob("scores/*")}
    before = parts(run.folder)
    monkeypatch.setattr("probe.runs.run.load_model", None)
    again = good(probe("run", run.config, "--results", run.results))
    assert again == finished.result.stdout.replace(str(finished.results), str(run.results))
    assert parts(run.folder) == before
    assert {part: part.stat().st_mtime_ns for part in files} == {
        part: stat.st_mtime_ns for part, stat in files.items()
    }


def test_report_of_two(finished: Finished, base: dict[str, Any], tmp_path: Path) -> None:
    """Several runs are told one after another, and drawn over one another."""
    config = write(tmp_path / "other.yaml", base, name="other", conditions=["truncate"])
    other = tmp_path / "results" / "other"
    answer = good(probe("run", config, "--results", other.parent))
    run = finished.copy(tmp_path / "copies")
    own = finished.result.stdout.replace(str(finished.results), str(run.results))
    text = good(probe("report", run.folder, other))
    overlay = run.folder / "figures" / "curves.png"
    assert text.startswith(f"{own}\nContrasts (nats a token)\n")
    assert f"\n\n{answer}\nContrasts" in text
    assert text.count("Targets that far context helped and hurt\n") == 2
    assert text.count("Page: ") == 2
    assert f"\nAll runs: {overlay}\nAll runs: {run.folder / 'reports.html'}\n" in text
    assert overlay.read_bytes().startswith(PNG)
    lone = (run.folder / FIGURES[0]).read_bytes()
    assert overlay.read_bytes() not in (lone, (other / FIGURES[0]).read_bytes())


def test_run_without_a_curve(base: dict[str, Any], tmp_path: Path) -> None:
    """A run of noise alone gives its numbers and no figure, whether told alone or with others."""
    config = write(tmp_path / "tiny.yaml", base, conditions=["noise"])
    folder = tmp_path / "results" / "tiny"
    text = good(probe("run", config, "--results", folder.parent))
    assert "no condition with a curve was scored" in text
    numbers = f"Numbers: {folder / 'summary.json'}, {folder / 'curve.csv'}\n"
    assert text.endswith(f"\n\n{numbers}")
    again = good(probe("report", folder, folder))
    assert again.count(text) == 2
    assert again.count(f"Page: {folder / 'report.html'}\n") == 2
    assert not (folder / "figures").exists()


def test_plan(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is planned without any weight is what the run then forwards, to the token."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("probe.models.load.load_model", None)
    text = good(probe("plan", finished.config, "--no-time"))
    found = re.search(
        r"^([\d,]+) branches, ([\d,]+) tokens to forward; .*: ([\d,]+) \(", text, re.M
    )
    assert found is not None, text
    branches, tokens, plain = (int(number.replace(",", "")) for number in found.groups())
    record = json.loads((finished.folder / "run.json").read_text(encoding="utf-8"))
    assert tokens == record["costs"]["tokens"]
    assert plain > tokens
    rows = scores(finished.folder)
    run = ["document", "window", "condition", "repeat", "boundary"]
    assert branches == len(rows.drop_duplicates(run))
    assert targets_of(text) == {
        (condition, octave): count
        for (condition, octave), count in rows.groupby(["condition", rows.distance.map(octave_of)])
        .size()
        .items()
    }
    assert not list(tmp_path.iterdir())


def targets_of(text: str) -> dict[tuple[str, str], int]:
    """The table of a plan: targets by condition and octave."""
    lines = iter(text.split("\nTargets\n")[1].split("\n\n")[0].splitlines())
    _, *conditions = next(lines).split()
    rows = [line.replace(",", "").split() for line in lines]
    return {
        (condition, octave): int(count)
        for octave, *counts in rows
        for condition, count in zip(conditions, counts, strict=True)
        if count != "–"
    }


def octave_of(distance: int) -> str:
    """The distances that share their number of binary digits with one."""
    if distance < 2:
        return str(distance) if distance >= 0 else "none"
    first = 1 << (distance.bit_length() - 1)
    return f"{first}–{2 * first - 1}"


def test_estimated_time(finished: Finished) -> None:
    """Behind what it counts, a plan says how long that takes and on what; it scores nothing."""
    before = parts(finished.folder)
    text = good(probe("plan", finished.config))
    counted = good(probe("plan", finished.config, "--no-time"))
    assert text.startswith(counted)
    estimate = text.removeprefix(counted).strip()
    assert re.fullmatch(
        r"About \d+ s on cpu in float32 \([\d,]+ tokens/s, [\d,]+ targets/s\), "
        r"[\d,]+ MiB of weights and [\d,]+ MiB of cache a window",
        estimate,
    ), estimate
    assert parts(finished.folder) == before


def test_check(models: Mapping[bool, Path], tmp_path: Path) -> None:
    """Status 0 where branching is exact, 1 where every branch is forwarded whole."""
    arguments = ("--length", 96, "--dtype", "float32", "--device", "cpu")
    text = good(probe("check", models[True], *arguments))
    assert text.startswith("tiny (LlamaForCausalLM, float32, 96 tokens)\n  ")
    tiny("mamba").save_pretrained(tmp_path / "recurrent")
    result = probe("check", tmp_path / "recurrent", *arguments)
    assert result.stdout.startswith("recurrent (MambaForCausalLM, float32, 96 tokens)\n  ")
    assert last_line(result, 1).startswith("branching is not exact on this model")


def test_a_model_of_one_position(tmp_path: Path) -> None:
    """Too few to try anything on: one line, status 2."""
    tiny("llama", max_position_embeddings=1).save_pretrained(tmp_path)
    line = mistake(probe("check", tmp_path, "--device", "cpu"), 2)
    assert "has 1 positions; allowed: 8 or more" in line


def test_unknown_attention(models: Mapping[bool, Path]) -> None:
    """An attention that transformers does not know is told with the model: status 2."""
    line = mistake(probe("check", models[True], "--attention", "abacus", "--device", "cpu"), 2)
    assert line.startswith(f"model.path '{models[True]}' cannot be loaded: ")
    assert "abacus" in line


# -- the process ----------------------------------------------------------------------------------


def test_help_is_there_at_once(tmp_path: Path) -> None:
    """``probe --help`` names every command and loads no library that takes seconds."""
    done = process("-c", INSIDE, "--help", caches=tmp_path)
    assert done.returncode == 0
    for name in ("run", "plan", "report", "show", "list", "check"):
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
