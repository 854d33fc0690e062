"""What tests of shards share: the run of one process, and runs in shards."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_run import configured, score

from probe.results.scores import Store
from probe.results.shards import parse_shard
from probe.runs.run import run


@pytest.fixture(scope="module", name="whole")
def whole_run(base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one process, a window a unit."""
    return score(base, tmp_path_factory.mktemp("whole"), batch=1)


def shards(base: dict[str, Any], results: Path, *texts: str, **changes: Any) -> Path:
    """Score a run shard after shard; its folder."""
    config = configured(base, **({"batch": 1} | changes))
    for text in texts:
        folder = run(config, Store(results / config.name, parse_shard(text)))
    return folder


def status(folder: Path) -> str:
    """What run.json says of how far a run is."""
    found: str = json.loads((folder / "run.json").read_text(encoding="utf-8"))["status"]
    return found
