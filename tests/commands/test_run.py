"""`probe run`: the answer on stdout, a mistake on one line of stderr, and an exit status."""

import errno
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command_line import (  # noqa: F401 (a fixture among them)
    FIGURES,
    NUMBERS,
    PNG,
    Finished,
    finished_run,
    good,
    last_line,
    mistake,
    mistakes,
    probe,
    write,
)
from models import tiny
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    character_tokenizer,
    model_folders,
    no_network,
    parts,
    text_folder,
    text_of,
)

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
    "data file": ({"data__data_files": "{folder}/none/*.txt"}, "data: .*none.* no file"),
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
        "no document .*'text' .* holds a token: 1 read, each empty or of characters",
    ),
    "short documents": (
        {"windows__length": 800},
        "no document .*'text' .* is long enough: 10 read, the longest has 700 tokens, .*needs 800",
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


def rooted(value: Any, folder: Path) -> Any:
    return value.format(folder=folder) if isinstance(value, str) else value


def test_no_configuration(tmp_path: Path) -> None:
    """A configuration that is not there, or is none, is named."""
    none, list_ = tmp_path / "none.yaml", tmp_path / "list.yaml"
    list_.write_text("[1, 2]", encoding="utf-8")
    assert mistake(probe("run", none), 2) == f"configuration {none}: No such file or directory"
    assert mistake(probe("plan", list_), 2).endswith("holds [1, 2]; allowed: keys with values")
    list_.write_text("name: [", encoding="utf-8")
    assert "is no YAML" in mistake(probe("run", list_), 2)


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


@pytest.mark.slow
def test_folder_of_another_run(finished: Finished, tmp_path: Path) -> None:
    """A run of another identity is refused by its folder, which stays as it was."""
    run = finished.copy(tmp_path / "results")
    before = {file: file.read_bytes() for file in run.folder.rglob("*.*")}
    line = mistake(probe("run", run.config, "--results", run.results, "--set", "seed=1"), 2)
    assert line.startswith(f"{run.folder} holds another run: seed was 0, is 1; ")
    assert "choose another name" in line
    assert {file: file.read_bytes() for file in run.folder.rglob("*.*")} == before


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert "run the same command again" in line
    whole = parts(finished.folder)
    kept = parts(results / "tiny")
    assert len(kept) == 2
    assert kept.items() <= whole.items()
    assert not list(results.rglob("*.tmp"))
    good(probe("run", finished.config, "--results", results))
    assert parts(results / "tiny") == whole


# -- what goes well -------------------------------------------------------------------------------


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_second_run_scores_nothing(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command again loads no model, leaves every part alone, and says the same."""
    run = finished.copy(tmp_path / "results")
    files = {part: part.stat() for part in run.folder.glob("scores/*")}
    before = parts(run.folder)
    monkeypatch.setattr("probe.runs.loaded.load_model", None)
    again = good(probe("run", run.config, "--results", run.results))
    assert again == finished.result.stdout.replace(str(finished.results), str(run.results))
    assert parts(run.folder) == before
    assert {part: part.stat().st_mtime_ns for part in files} == {
        part: stat.st_mtime_ns for part, stat in files.items()
    }


@pytest.mark.slow
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
