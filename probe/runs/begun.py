"""A run that has begun in its folder, and the scoring of what is missing of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch

from probe.results.footer import Key
from probe.results.record import GPU_FLOPS, GPU_PEAK, PEAK, add_costs
from probe.results.scores import Store
from probe.runs.experiment import Experiment
from probe.runs.loaded import Say, Scoring, score_unit
from probe.runs.plan import Missing, Unit, units
from probe.runs.rows import FarEnd, Progress, rows

RECORD_SECONDS = 30  # between two writes of run.json: of it costs alone change from unit to unit
Listener = Callable[[Progress], None]


@dataclass(frozen=True, eq=False)
class Begun:
    """A run that has begun in its folder.

    Args:
        experiment: What is scored.
        store: Where it goes.
        record: What run.json said as it began.
        left: What was left to score of it then, by the numbers of the windows.
        has_rows: Whether something had been scored.
    """

    experiment: Experiment
    store: Store
    record: dict[str, Any]
    left: Mapping[int, Missing]
    has_rows: bool

    def units(self, batch: int) -> list[Unit]:
        """What is missing, in units of so many windows."""
        return list(units(self.experiment, batch, self.left, self.store.lock.shard))

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Write down what is known of the model once it is loaded: keys ``FACTS`` of the record."""

        def change(record: dict[str, Any]) -> None:
            attention = record.get("attention", {}) | facts.get("attention", {})
            record |= dict(facts) | {"attention": attention}

        self.store.update_record(change)

    def spend(self, costs: Mapping[str, Any]) -> None:
        """Add costs to those of other calls, and of other shards."""
        self.store.update_record(
            lambda record: record.update(costs=add_costs(record["costs"], costs))
        )


class Workers(Protocol):
    """Who scores the units of a run."""

    def dtype(self, experiment: Experiment) -> str:
        """The dtype of the weights, before any are loaded; refuse what cannot be scored."""

    def score(self, begun: Begun, listen: Listener, say: Say) -> None:
        """Score everything that is missing, and keep each unit as soon as it is done."""


def keys_of(unit: Unit) -> list[Key]:
    """What the rows of a unit hold."""
    return [key for one in unit for key in one.keys]


def score_missing(begun: Begun, engine: Scoring, batch: int, listen: Listener) -> None:
    """Score unit after unit, and keep each.

    Args:
        begun: The run.
        engine: What scores.
        batch: Windows of a unit.
        listen: Called after every unit.
    """
    todo = begun.units(batch)
    total, done, far = sum(map(len, todo)), 0, FarEnd(begun.experiment)
    costs, written = _Costs(engine), time.perf_counter()
    try:
        for unit in todo:
            scored, losses = score_unit(engine, begun.experiment, unit)
            begun.store.write_part(rows(unit, scored, losses), keys_of(unit))
            far.add(scored, losses)
            done += len(unit)
            now = time.perf_counter()
            if now - written >= RECORD_SECONDS:  # it names every document: not with every unit
                begun.spend(costs.more())
                written = now
            seconds = now - costs.started
            listen(Progress(done, total, engine.costs.tokens, seconds, far.mean, far.is_far))
    finally:
        begun.spend(costs.more())


class _Costs:
    """What an engine has spent, from one look to the next."""

    def __init__(self, engine: Scoring) -> None:
        self.engine, self.started = engine, time.perf_counter()
        self._told: dict[str, Any] = {}

    def more(self) -> dict[str, Any]:
        """What it has spent since the last look, and the seconds with planning and writing."""
        now = {**asdict(self.engine.costs), "run_seconds": time.perf_counter() - self.started}
        more = {name: value - self._told.get(name, 0) for name, value in now.items()}
        self._told = now
        return recorded(more, self.engine)


def recorded(costs: Mapping[str, Any], engine: Scoring, share: float = 1.0) -> dict[str, Any]:
    """What has come to an engine's costs, as run.json has it: with what is known of its device.

    Args:
        costs: What has come to them.
        engine: The engine.
        share: What part of its device it has.
    """
    found = {name: value for name, value in costs.items() if name != "flops" or value}
    device = engine.device
    if device is not None and device.type == "cuda":
        found[PEAK] = torch.cuda.max_memory_allocated(device)
    if engine.peak is not None and costs.get("flops"):
        found |= {GPU_FLOPS: costs["flops"], GPU_PEAK: costs["seconds"] * engine.peak * share}
    return found
