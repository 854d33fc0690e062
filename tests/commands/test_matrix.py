"""A matrix on the command line: scored, resumed and compared, or planned, with one command."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from command_line import probe, write
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    environment,
    model_folders,
    no_network,
    parts,
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_go_on(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """One data set is not there: two runs are named, two are scored and compared; status 1."""
    content["matrix"]["data"][1] = {"path": "text", "data_files": "nowhere/*.txt"}
    config, results = write(tmp_path / "grid.yaml", content), tmp_path / "results"
    found = probe("run", config, "--results", results)
    assert found.exit_code == 1
    errors = [line for line in found.stderr.splitlines() if line.startswith("Error: ")]
    assert errors[0].startswith("Error: tiny--nowhere: data: 'nowhere/*.txt' matches no")
    assert errors[2] == ("Error: 2 of 4 runs failed: tiny--nowhere, tiny-without-bos--nowhere")
    assert "2 runs: 2 models on 1 data set." in found.stdout
    assert "Traceback" not in found.output


@pytest.mark.slow
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


@pytest.mark.slow
def test_shards(content: dict[str, Any], tmp_path: Path) -> None:
    """A shard of every run; whoever is last compares, and the rows are those of one process."""
    config, results = write(tmp_path / "grid.yaml", content, batch=1), tmp_path / "results"
    given = ["run", config, "--results", results]
    folder = results / "grid"
    first = probe(*given, "--shard", "0/2")
    assert first.exit_code == 0, first.output
    names = sorted(path.parent.name for path in folder.glob("*/run.json"))
    assert len(names) == 4
    *lines, last = first.stdout.splitlines()
    assert sorted(lines) == [
        f"Shard 0/2 is scored, others are missing: {folder / name}" for name in names
    ]
    assert last == (
        "Nothing is compared: 4 of 4 runs not complete; the shard that completes the last of them "
        "compares all, or the same command without --shard, which scores what is missing"
    )
    assert not list(folder.glob("comparison.*"))
    second = probe(*given, "--shard", "1/2")
    assert second.exit_code == 0, second.output
    assert "missing" not in second.stdout
    whole = probe("run", config, "--results", tmp_path / "whole")
    assert second.stdout == whole.stdout.replace(str(tmp_path / "whole"), str(results))
    for name in names:
        assert parts(folder / name) == parts(tmp_path / "whole" / "grid" / name)
    for file in ("comparison.csv", "comparison.md", "comparison.svg"):
        assert (folder / file).read_bytes() == (tmp_path / "whole" / "grid" / file).read_bytes()
    again = probe(*given, "--shard", "0/2")
    assert again.stdout == second.stdout


@pytest.mark.slow
def test_a_shard_of_which_a_run_fails(content: dict[str, Any], tmp_path: Path) -> None:
    """It is named, the others are scored, and nothing is compared."""
    content["matrix"]["data"][1] = {"path": "text", "data_files": "nowhere/*.txt"}
    config, results = write(tmp_path / "grid.yaml", content), tmp_path / "results"
    found = probe("run", config, "--results", results, "--shard", "0/1")
    assert found.exit_code == 1
    errors = [line for line in found.stderr.splitlines() if line.startswith("Error: ")]
    assert errors[2] == ("Error: 2 of 4 runs failed: tiny--nowhere, tiny-without-bos--nowhere")
    assert found.stdout.count("Nothing is compared: 2 of 4 runs not complete; ") == 1
    assert not list(results.glob("grid/comparison.*"))
    refused = probe("run", config, "--results", results, "--shard", "1/1")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == "Error: shard is 1/1; allowed: 0/1 to 0/1\n"


@pytest.mark.slow
def test_two_shards_at_once(content: dict[str, Any], tmp_path: Path) -> None:
    """Processes that end together: each run is there once, and whoever is last compares."""
    content["matrix"]["model"].pop()
    config, code = (
        write(tmp_path / "grid.yaml", content, batch=1),
        ("from probe.commands.main import main; main()"),
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, "run", str(config), "--shard", "auto"],
            cwd=tmp_path,
            env=environment(tmp_path) | {"RANK": f"{rank}", "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert any("2 runs: 1 model on 2 data sets." in text for text in told)
    folder = tmp_path / "results" / "grid"
    whole = probe("run", config, "--results", tmp_path / "whole")
    assert whole.exit_code == 0, whole.output
    for run in (tmp_path / "whole" / "grid").glob("*/run.json"):
        assert parts(folder / run.parent.name) == parts(run.parent)
    for file in ("comparison.csv", "comparison.md", "comparison.svg"):
        assert (folder / file).read_bytes() == (tmp_path / "whole" / "grid" / file).read_bytes()
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.slow
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
