"""Runs on Ray, on this machine: whoever is killed, it is the run of one process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import probe
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

pytest.importorskip("ray")
pytestmark = pytest.mark.cluster
CODE = "from probe.commands.main import main; main()"


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


def test_two_workers(start: Any, whole: Path, tmp_path: Path) -> None:
    assert start().wait() == 0, (tmp_path / "told.txt").read_text()
    folder = tmp_path / "results" / "tiny"
    assert parts(folder) == parts(whole)
    assert status(folder) == "complete"


def test_a_worker_is_killed(start: Any, whole: Path, tmp_path: Path) -> None:
    driver, folder = start(), tmp_path / "results" / "tiny"
    victims = wait_for(lambda: actors(driver.pid))
    os.kill(victims[0], signal.SIGKILL)
    assert driver.wait() == 0, (tmp_path / "told.txt").read_text()
    assert parts(folder) == parts(whole)


@pytest.mark.parametrize("also_worker", [False, True])
def test_the_driver_is_killed(also_worker: bool, start: Any, whole: Path, tmp_path: Path) -> None:
    """Its workers go with it, and the same command goes on from the parts."""
    driver, folder = start(), tmp_path / "results" / "tiny"
    wait_for(lambda: parts(folder) or driver.poll() is not None)
    for victim in actors(driver.pid) if also_worker else []:
        os.kill(victim, signal.SIGKILL)
    driver.kill()
    driver.wait()
    kept = parts(folder)
    assert start().wait() == 0, (tmp_path / "told.txt").read_text()
    assert {name: parts(folder)[name] for name in kept} == kept
    assert parts(folder) == parts(whole)


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
