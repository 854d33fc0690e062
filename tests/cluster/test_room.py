"""How many workers a cluster has room for, and what each of them takes."""

from typing import Any

import pytest

from probe.cluster.ray import RayWorkers
from probe.errors import UsageError

pytest.importorskip("ray")
HEAD, GPUS, CORES = {"CPU": 64.0}, {"CPU": 16.0, "GPU": 8.0}, {"CPU": 8.0}


@pytest.mark.parametrize(
    ("nodes", "count", "gpus", "workers", "cpus", "each"),
    [
        ([HEAD, GPUS, GPUS], None, None, 16, 2, 1),  # the head's cores are no GPU node's
        ([HEAD, GPUS, GPUS], 4, None, 4, 2, 1),
        ([GPUS], None, 4.0, 2, 8, 4),
        ([GPUS], None, 0.5, 16, 1, 0.5),
        ([GPUS, {"CPU": 0.0, "GPU": 1.0}], None, None, 9, 0, 1),
        ([CORES, CORES], None, None, 4, 4, 0),
        ([{"CPU": 2.0}], None, None, 1, 2, 0),
        ([{"CPU": 2.0}], 2, None, 2, 1, 0),
        ([CORES, CORES], 3, None, 3, 4, 0),
        ([GPUS], None, 0.0, 4, 4, 0),
    ],
)
def test_room(
    nodes: list[dict[str, float]],
    count: int | None,
    gpus: float | None,
    workers: int,
    cpus: int,
    each: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead: dict[str, Any] = {"Alive": False, "Resources": {"CPU": 999.0, "GPU": 999.0}}
    alive = [{"Alive": True, "Resources": resources} for resources in nodes]
    monkeypatch.setattr("ray.nodes", lambda: [dead, *alive])
    found = RayWorkers(None, count, gpus).room()
    assert found == (workers, {"num_cpus": cpus, "num_gpus": each})


def test_nodes_with_gpus_that_are_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker has stays: its nodes may come again, and others are not taken for them."""
    nodes = [{"Alive": True, "Resources": GPUS}, {"Alive": True, "Resources": HEAD}]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    workers = RayWorkers()
    assert workers.room() == (8, {"num_cpus": 2, "num_gpus": 1})
    nodes[0]["Alive"] = False
    assert workers.room() == (1, {"num_cpus": 1, "num_gpus": 1})


@pytest.mark.parametrize("gpus", [2.5, float("nan")])
def test_gpus_of_a_worker(gpus: float) -> None:
    with pytest.raises(UsageError, match="GPUs a worker; allowed: a part of one, or a whole"):
        RayWorkers(None, None, gpus)
