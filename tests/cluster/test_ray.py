"""Runs on Ray, on this machine: whoever is killed, it is the run of one process."""

import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import yaml
from command_line import probe, write
from shard_runs import status, whole_run  # noqa: F401 (a fixture)
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    environment,
    model_folders,
    no_network,
    parts,
    text_folder,
)

from benchmarks.kills import actors
from probe import __version__
from probe.cluster.ray import RayWorkers, Worker
from probe.runs import loaded
from probe.runs.experiment import Experiment, prepare
from probe.runs.identity import begin
from probe.runs.matrix import expand
from probe.runs.run import run

pytest.importorskip("ray")
pytestmark = pytest.mark.cluster
CODE = "from probe.commands.main import main; main()"


@pytest.fixture(name="grid")
def matrix_of(base: dict[str, Any], models: Mapping[bool, Path], texts: Path) -> dict[str, Any]:
    """Two models and two sets of texts."""
    few = {"path": "text", "data_files": f"{texts}/[0-4].txt", "label": "few"}
    axes = {"model": [str(folder) for folder in models.values()], "data": [base["data"], few]}
    content = changed(base, name="grid", batch=1, matrix=axes)
    del content["data"], content["model"]["path"]
    return content


@pytest.fixture(name="start")
def starting(
    base: dict[str, Any], tmp_path: Path
) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    """Starts the run on two workers, each with a core; what it printed is in ``told.txt``."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(changed(base, batch=1)), encoding="utf-8")
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        with (tmp_path / "told.txt").open("ab") as told:
            process = subprocess.Popen(
                [sys.executable, "-c", CODE, "run", str(path), "--ray", "--workers", "2"],
                cwd=tmp_path,
                env=environment(tmp_path),
                stdout=told,
                stderr=told,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(found: Callable[[], Any], seconds: float = 120) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if result := found():
            return result
        time.sleep(0.02)
    raise TimeoutError


def test_a_worker_is_killed(start: Any, whole: Path, tmp_path: Path) -> None:
    driver, folder = start(), tmp_path / "results" / "tiny"
    victims = wait_for(lambda: actors(driver.pid))
    os.kill(victims[0], signal.SIGKILL)
    assert driver.wait() == 0, (tmp_path / "told.txt").read_text()
    assert parts(folder) == parts(whole)
    assert status(folder) == "complete"


def test_the_driver_is_killed(start: Any, whole: Path, tmp_path: Path) -> None:
    """Its workers go with it, and the same command goes on from the parts."""
    driver, folder = start(), tmp_path / "results" / "tiny"
    wait_for(lambda: parts(folder) or driver.poll() is not None)
    driver.kill()
    driver.wait()
    kept = parts(folder)
    assert start().wait() == 0, (tmp_path / "told.txt").read_text()
    assert {name: parts(folder)[name] for name in kept} == kept
    assert parts(folder) == parts(whole)


def test_a_matrix(grid: dict[str, Any], tmp_path: Path) -> None:
    """The same two workers score all runs, and the rows are those of one process."""
    config = write(tmp_path / "grid.yaml", grid)
    command = [sys.executable, "-c", CODE, "run", str(config), "--ray", "--workers", "2"]
    seen: set[int] = set()
    with (tmp_path / "told.txt").open("wb") as told:
        driver = subprocess.Popen(
            command, cwd=tmp_path, env=environment(tmp_path), stdout=told, stderr=told
        )
        while driver.poll() is None:
            seen.update(actors(driver.pid))
            time.sleep(0.05)
    said = (tmp_path / "told.txt").read_text(encoding="utf-8")
    assert driver.returncode == 0, said
    # Where one is ready late, the other may have scored all; another run brings no new ones.
    assert 1 <= len(seen) <= 2
    assert "4 runs: 2 models on 2 data sets." in said
    assert probe("run", config, "--results", tmp_path / "whole").exit_code == 0
    for file in (tmp_path / "whole" / "grid").glob("*/run.json"):
        folder = file.parent
        assert parts(tmp_path / "results" / "grid" / folder.name) == parts(folder)


def test_a_worker_dies_between_runs(grid: dict[str, Any], tmp_path: Path) -> None:
    """Another one takes its place, also where it is asked what auto means."""
    import ray

    grid["model"]["dtype"] = "auto"
    matrix, workers, said = expand(grid), RayWorkers(None, 1), list[str]()
    with workers.connected():
        for config in matrix.runs[:3]:
            folder = run(config, tmp_path, workers=workers, say=said.append)
            assert status(folder) == "complete"
            (actor,) = workers.idle
            if config is not matrix.runs[0]:
                ray.kill(actor)
    assert not workers.idle
    assert not any("died" in line for line in said)


def test_the_last_model_goes_before_the_next_comes(grid: dict[str, Any], tmp_path: Path) -> None:
    """A worker has one model at a time, and loads it once for the runs of it."""
    worker, models = Worker(), list[Any]()
    real = loaded.load

    def load(experiment: Experiment) -> Any:
        assert not [model for model in models if model() is not None]
        model = real(experiment)
        models.append(weakref.ref(model.model))
        return model

    with patch.object(loaded, "load", load):
        for config in expand(grid).runs:
            experiment = prepare(config)
            record = begin(experiment, "float32", None, tmp_path)
            content = config.model_dump(mode="json")
            about = {"version": __version__, "folder": str(Path.cwd()), "pool": experiment.pool}
            about |= {"cores": torch.get_num_threads(), "gpus": 0.0}
            facts, batch, _ = worker.load(content, experiment.corpus, record, about)
            assert (batch, facts["model"]["class"]) == (1, "LlamaForCausalLM")
            window = experiment.windows[0]
            keys = [(window.document, window.index, "intact", 0)]
            assert worker.score([(0, keys)]).columns
    assert len(models) == 2


def test_a_run_that_fails(grid: dict[str, Any], tmp_path: Path) -> None:
    """The workers go on with the others."""
    grid["matrix"]["model"].insert(1, {"path": grid["matrix"]["model"][0], "device": "cuda:9"})
    grid["matrix"]["data"].pop()
    config, results = write(tmp_path / "grid.yaml", grid), tmp_path / "results"
    found = probe("run", config, "--results", results, "--ray", "--workers", "1")
    assert found.exit_code == 1
    assert found.stderr.count("model.device is 'cuda:9': ") == 1
    assert "Traceback" not in found.output
    assert "2 runs: 2 models on 1 data set." in found.stdout


def test_what_cannot_be(base: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")
    for options, words in [
        (["--workers", "2"], "--workers 2: allowed with --ray"),
        (["--ray", "--shard", "0/2"], "--shard 0/2: allowed without --ray"),
    ]:
        refused = probe("run", "tiny.yaml", *options)
        assert (refused.exit_code, words in refused.stderr) == (2, True), refused.stderr
    nobody = probe("run", "tiny.yaml", "--ray", "127.0.0.1:1")
    assert nobody.exit_code == 1
    assert nobody.stderr.strip() == "Error: Ray at 127.0.0.1:1: [Errno 111] Connection refused"
    assert not (tmp_path / "results").exists()
