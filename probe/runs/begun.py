"""A run that has begun in its folder, and the scoring of what is missing of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Protocol

import torch

from probe.results.footer import Key
from probe.results.record import GPU_FLOPS, GPU_PEAK, PEAK, add_costs
from probe.results.scores import Store
from probe.runs.experiment import Experiment
from probe.runs.loaded import Say, Scoring, score_unit
from probe.runs.plan import Missing, Unit, units
from probe.runs.rows import FarEnd, Progress, rows
from probe.runs.stopping import Stopping

RECORD_SECONDS = 30  # between two writes of run.json: of it costs alone change from unit to unit
Listener = Callable[[Progress], None]


@dataclass(frozen=True, eq=False)
class Begun:
    """A run that has begun in its folder.

    Args:
        experiment: What is scored.
        store: Where it goes.
        record: What run.json said as it began.
        left: What is left to score of it, by the numbers of the windows.
        has_rows: Whether something had been scored as it began.
        stopping: When it may stop before all is scored; ``None`` for never.
    """

    experiment: Experiment
    store: Store
    record: dict[str, Any]
    left: dict[int, Missing]
    has_rows: bool
    stopping: Stopping | None = None

    def units(self, batch: int) -> list[Unit]:
        """What is missing, in units of so many windows: of a run that may stop, up to its goal."""
        shard = self.store.lock.shard
        if self.stopping is None:
            return list(units(self.experiment, batch, self.left, shard))
        parts = self.stopping.batches
        of_each = (units(self.experiment, batch, self.left, shard, part) for part in parts)
        return list(chain.from_iterable(of_each))

    def next_units(self, batch: int) -> list[Unit]:
        """What is missing now that all these units are scored: nothing, or the next batch's."""
        while self.stopping is not None and not self.stopping.is_over:
            self.stopping.look()
            if todo := self.units(batch):
                return todo
        return []

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
    todo, stopping = begun.units(batch), begun.stopping
    total, done, far = 0, 0, FarEnd(begun.experiment)
    costs, written = _Costs(engine), time.perf_counter()
    try:
        while todo:
            total += sum(map(len, todo))
            behind, width = (stopping.windows_behind, stopping.status()) if stopping else (0, "")
            for unit in todo:
                scored, losses = score_unit(engine, begun.experiment, unit)
                begun.store.write_part(rows(unit, scored, losses), keys_of(unit))
                for one in unit:
                    del begun.left[one.number]
                far.add(scored, losses)
                done += len(unit)
                now = time.perf_counter()
                if now - written >= RECORD_SECONDS:  # it names every document: not with every unit
                    begun.spend(costs.more())
                    written = now
                seconds, tokens = now - costs.started, engine.costs.tokens
                end = far.mean, far.is_far
                listen(Progress(done, total + behind, tokens, seconds, *end, width=width))
            todo = begun.next_units(batch)
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
