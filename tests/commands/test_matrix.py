"""A matrix on the command line: scored, resumed and compared, or planned, with one command."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from command_line import probe, write
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    model_folders,
    no_network,
    text_folder,
    text_of,
)

from probe.results.files import read_csv
from probe.runs import loaded


@pytest.fixture(name="content")
def matrix_of(base: dict[str, Any], models: Mapping[bool, Path], tmp_path: Path) -> dict[str, Any]:
    """Two models and two sets of texts, one of them of its own."""
    more = tmp_path / "more"
    more.mkdir()
    for number in range(7):
        (more / f"{number}.txt").write_text(text_of(150, 90 + number), encoding="utf-8")
    axes = {
        "model": [str(folder) for folder in models.values()],
        "data": [base["data"], {"path": "text", "data_files": f"{more}/*.txt"}],
    }
    content = changed(base, name="grid", matrix=axes, conditions=["truncate"])
    del content["data"], content["model"]["path"]
    return content


def loads() -> Any:
    return patch.object(loaded, "load", wraps=loaded.load)


def test_all_are_scored_compared_and_resumed(content: dict[str, Any], tmp_path: Path) -> None:
    """Each model is loaded once, each run has its own folder; a second call loads nothing."""
    config, results = write(tmp_path / "grid.yaml", content), tmp_path / "results"
    with loads() as load:
        found = probe("run", config, "--results", results)
    assert found.exit_code == 0, found.output
    assert load.call_count == 2
    folders = sorted(path.parent for path in results.glob("grid/*/run.json"))
    assert len(folders) == 4
    assert all((folder / "summary.json").is_file() for folder in folders)
    assert {json.loads((f / "run.json").read_text())["name"] for f in folders} == {
        folder.name for folder in folders
    }
    out = found.stdout
    assert sum(line.startswith("tiny") for line in out.splitlines()) >= 4
    assert "4 runs: 2 models on 2 data sets." in out
    assert "Effective context (tokens) at 1 % of perplexity under truncate" in out
    cells = read_csv(results / "grid" / "comparison.csv")
    assert set(cells["run"]) == {folder.name for folder in folders}
    assert (results / "grid" / "comparison.md").read_text("utf-8").count("| model |") == 4
    assert (results / "grid" / "comparison.png").is_file()

    scored = sorted(results.glob("grid/*/scores/*.parquet"))
    before = {part: part.stat().st_mtime_ns for part in scored}
    with loads() as load:
        again = probe("run", config, "--results", results)
    assert again.exit_code == 0, again.output
    assert load.call_count == 0
    assert before == {part: part.stat().st_mtime_ns for part in scored}
    assert again.stdout == out

    compared = probe("compare", *folders, "--format", "json")
    assert len(json.loads(compared.stdout)["runs"]) == 4


def test_a_run_that_fails_is_named_and_the_others_go_on(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """One data set is not there: two runs are named, two are scored and compared; status 1."""
    content["matrix"]["data"][1] = {"path": "text", "data_files": "nowhere/*.txt"}
    config, results = write(tmp_path / "grid.yaml", content), tmp_path / "results"
    found = probe("run", config, "--results", results)
    assert found.exit_code == 1
    errors = [line for line in found.stderr.splitlines() if line.startswith("Error: ")]
    assert errors[0].startswith("Error: tiny--nowhere: data.data_files: 'nowhere/*.txt' matches no")
    assert errors[2] == ("Error: 2 of 4 runs failed: tiny--nowhere, tiny-without-bos--nowhere")
    assert "2 runs: 2 models on 1 data set." in found.stdout
    assert "Traceback" not in found.output


def test_a_file_about_all_that_cannot_be_written(content: dict[str, Any], tmp_path: Path) -> None:
    """It is named and costs nothing else: everything is scored."""
    content["matrix"] = {axis: entries[:1] for axis, entries in content["matrix"].items()}
    config, folder = write(tmp_path / "grid.yaml", content), tmp_path / "results" / "grid"
    for name in ("comparison.csv", "comparison.png"):
        (folder / name).mkdir(parents=True)
    found = probe("run", config, "--results", folder.parent)
    assert found.exit_code == 0, found.output
    for name in ("comparison.csv", "comparison.png"):
        assert f"note: cannot write {folder / name}: Is a directory" in found.stderr
    assert "1 run: 1 model on 1 data set." in found.stdout


def test_a_plan_sums_the_costs(content: dict[str, Any], tmp_path: Path) -> None:
    """A line a run, and all of them; with the time where it is asked for."""
    config = write(tmp_path / "grid.yaml", content)
    found = probe("plan", config, "--no-time")
    assert found.exit_code == 0, found.output
    head, *rows, whole = [line.split() for line in found.stdout.splitlines()]
    assert head == ["run", "documents", "windows", "branches", "tokens"]
    assert len(rows) == 4
    numbers = [[int(cell.replace(",", "")) for cell in row[1:]] for row in rows]
    expected = [f"{sum(column):,}" for column in zip(*numbers, strict=True)]
    assert whole == ["all", *expected]
    with loads() as load:
        timed = probe("plan", config)
    assert load.call_count == 2
    assert timed.stdout.splitlines()[0].endswith("seconds")
    assert probe("plan", config, "--from", "x").exit_code == 2
    assert probe("plan", config, "--json").exit_code == 2


def test_a_run_is_no_matrix(content: dict[str, Any], tmp_path: Path) -> None:
    """The folder of a run is not filled with other runs."""
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "run.json").write_text("{}", encoding="utf-8")
    config = write(tmp_path / "grid.yaml", content)
    found = probe("run", config, "--results", tmp_path)
    assert found.exit_code == 2
    assert "grid is the folder of a run; allowed: another name" in found.stderr


def test_mistakes_come_before_anything_is_scored(content: dict[str, Any], tmp_path: Path) -> None:
    """In any of the runs; nothing is made."""
    content["matrix"]["model"].append({"path": "x", "dtpe": "float32"})
    config = write(tmp_path / "grid.yaml", content)
    for command in ("run", "plan"):
        found = probe(command, config, *(["--results", tmp_path / "r"] if command == "run" else []))
        assert found.exit_code == 2
        assert "model.dtpe: unknown key" in found.stderr
    assert not (tmp_path / "r").exists()
