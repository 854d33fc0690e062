"""A run that is killed at any moment goes on where it stopped, and ends with the same rows."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killed_runs import Tries, process_of_tries  # noqa: F401 (a fixture)
from tiny_run import (  # noqa: F401 (fixtures)
    CHECKOUT,
    base_configuration,
    changed,
    environment,
    model_folders,
    no_network,
    parts,
    scores,
    text_folder,
)

from probe.commands.main import KEPT

KEY = ["document", "window", "condition", "repeat", "boundary", "position"]
UNITS = 23  # windows of the texts, three of a document where there is room
PAUSE = 0.03  # seconds after a unit


class Scorer:
    """Scores one configuration in tries."""

    def __init__(self, tries: Tries, content: dict[str, Any]) -> None:
        self.tries, self.content = tries, content

    def score(self, results: Path, **end: float) -> dict[str, Any]:
        """Score once more into *results*: to the end, or to that of ``killed.py``'s keys."""
        found = self.tries(configuration=self.content, results=results, **end)
        assert found["status"] == (-signal.SIGKILL if end else 0)
        return found


@pytest.fixture(scope="module")
def scorer(base: dict[str, Any], tries: Tries) -> Scorer:
    """A run of ``UNITS`` units."""
    content = changed(
        base,
        windows__per_document=3,
        protocol__runs={"1": 1},
        conditions=["truncate", "replace(source='document')"],
        batch=1,
    )
    return Scorer(tries, content)


@pytest.fixture(scope="module")
def uninterrupted(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run, finished in one go."""
    results = tmp_path_factory.mktemp("uninterrupted")
    assert scorer.score(results)["units"] == UNITS
    return results / "tiny"


def assert_same(folder: Path, other: Path) -> None:
    """The same parts to the byte, every row once, and nothing besides."""
    assert parts(folder) == parts(other)
    assert not scores(folder).duplicated(KEY).any()
    names = {path.relative_to(folder) for path in folder.rglob("*")}
    assert names == {path.relative_to(other) for path in other.rglob("*")}
    assert (folder / "windows.parquet").read_bytes() == (other / "windows.parquet").read_bytes()
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"] == "complete"


def test_killed_at_random_moments(scorer: Scorer, uninterrupted: Path, tmp_path: Path) -> None:
    """Killed at ten random moments and taken up each time, a run ends as if nothing had been.

    Four moments lie anywhere before the first unit is kept, six in the units after it.
    """
    rng = np.random.default_rng(0)
    start = scorer.score(tmp_path / "warm", after_first=0)["first"]
    held = []
    for early in rng.permutation([True] * 4 + [False] * 6):
        if early:
            scorer.score(tmp_path, seconds=rng.uniform(0, start), pause=start)
        else:
            # The pauses bound how much is kept: three units here, one above, 22 in all.
            scorer.score(tmp_path, after_first=rng.uniform(0, 2 * PAUSE), pause=PAUSE)
        held.append(len(parts(tmp_path / "tiny")))
    assert held == sorted(held)
    assert 6 <= held[-1] < UNITS
    last = scorer.score(tmp_path)
    assert last["units"] == UNITS - held[-1]
    assert_same(tmp_path / "tiny", uninterrupted)


@pytest.mark.parametrize("write", range(1, 7))
def test_killed_in_a_write(write: int, scorer: Scorer, uninterrupted: Path, tmp_path: Path) -> None:
    """Killed in the middle of any of its first writes, a run is taken up as well."""
    scorer.score(tmp_path, write=write)
    assert len(list(tmp_path.rglob("*.tmp"))) == 1
    scorer.score(tmp_path)
    assert_same(tmp_path / "tiny", uninterrupted)


@pytest.mark.slow
def test_terminated(base: dict[str, Any], tmp_path: Path) -> None:
    """SIGTERM is like Ctrl-C: what was measured is kept and nothing half-written, status 143."""
    content = changed(base, windows__per_document=None, conditions=["shuffle"], repeats=60, batch=1)
    config, results = tmp_path / "tiny.yaml", tmp_path / "results"
    config.write_text(json.dumps(content), encoding="utf-8")
    command = [sys.executable, str(CHECKOUT / "cli.py"), "run", str(config)]
    with subprocess.Popen(
        [*command, "--results", str(results)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    ) as process:
        until = time.monotonic() + 120
        while not list(results.glob("tiny/scores/*.parquet")) and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        printed, told = process.communicate()
    assert (process.returncode, printed) == (143, "")
    assert told.splitlines()[-1] == KEPT
    assert json.loads((results / "tiny" / "run.json").read_text())["status"] == "unfinished"
    assert parts(results / "tiny")
    assert not list(results.rglob("*.tmp"))
