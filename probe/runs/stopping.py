"""A run that stops once an interval is narrow: documents in growing batches, a look after each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

from probe.analysis.looks import (
    Look,
    Target,
    confidence_after,
    look,
    needed_in_words,
    numbers,
)
from probe.analysis.open_run import open_run
from probe.analysis.settings import Analysis
from probe.config import Config
from probe.errors import UsageError
from probe.results.footer import Key
from probe.results.record import Record
from probe.results.scores import Store
from probe.results.shards import Shard
from probe.runs.experiment import Experiment
from probe.text import counted


class Stopping:
    """Which documents of a run are scored next, by what is known of an interval.

    Documents come in the order of the sample. What has been found stands in ``run.json``, so that
    a run that was cut off goes on with the same batch and stops after the same document.

    Args:
        experiment: The run, whose configuration has a precision.
        store: Its folder.
        record: What run.json says as it begins.
        held: What had been scored then.

    Attributes:
        target: The interval, and how narrow it must be.
        looks: What was found, in order.
    """

    def __init__(
        self, experiment: Experiment, store: Store, record: Mapping[str, Any], held: set[Key]
    ) -> None:
        self._store, self._config = store, experiment.config
        self.target = target_of(experiment)
        self.looks = [Look(**one) for one in record["precision"]["looks"]]
        self.needed: str | None = record["precision"]["needed"]
        self._most = len(experiment.documents)
        order = {name: number for number, name in enumerate(experiment.documents)}
        self._used = max((order[document] + 1 for document, *_ in held), default=0)
        places = experiment.windows.places
        self._windows = [order[place.document] for place in places]

    @property
    def is_reached(self) -> bool:
        """Whether the interval of all that was scored is narrow enough."""
        last = self.looks[-1] if self.looks else None
        return last is not None and last.documents >= self._used and last.is_enough(self.target)

    @property
    def is_over(self) -> bool:
        """Whether no further document is to be scored."""
        return self.is_reached or bool(self.looks and self.looks[-1].documents >= self._most)

    @property
    def goal(self) -> int:
        """How many documents, the first ones, are to be scored by now."""
        last = self.looks[-1].documents if self.looks else 0
        if self.is_over:
            return last
        # A look takes in all rows that there are: none while a later document has some.
        least = max(last + 1, self._used)
        return next(number for number in numbers(self._most) if number >= min(least, self._most))

    @property
    def batches(self) -> Iterator[range]:
        """Numbers of the documents up to the goal, by batch, whoever scored them."""
        goal = self.goal
        ends = [0, *(number for number in numbers(self._most) if number < goal), goal]
        return (range(first, stop) for first, stop in pairwise(ends))

    @property
    def expected(self) -> int:
        """How many documents there will be if the width falls with the root of their number."""
        needed = self.looks[-1].needed(self.target) if self.looks else None
        return max(self.goal, min(needed or 0, self._most))

    @property
    def windows_behind(self) -> int:
        """Windows behind the goal that are expected to be scored as well."""
        goal, expected = self.goal, self.expected
        return sum(goal <= number < expected for number in self._windows)

    def look(self) -> None:
        """Read the interval off the folder, now that all up to the goal is scored; keep it."""
        goal, record = self.goal, self._store.read_record() or {}
        confidence = confidence_after(goal, self._config.analysis.confidence)
        analysis = replace(
            Analysis.from_record(Record.model_validate(record)), confidence=confidence
        )
        with open_run(self._store.folder, analysis=analysis, write=False) as run:
            found = look(run, self.target)
            self.looks.append(replace(found, documents=goal))
            if self.is_over and not self.is_reached:
                self.needed = needed_in_words(run, self.target)
        said = _as_record(self.target, self.looks, self.needed)
        self._store.update_record(lambda now: now.update(precision=said))

    def status(self) -> str:
        """How narrow the interval was at the last look, and how far it is from enough."""
        if not self.looks:
            return f"first look at {counted(self.goal, 'document')}"
        last = self.looks[-1]
        at = f"at {counted(last.documents, 'document')}"
        if last.half_width is None:
            return f"no interval with two ends {at}"
        width, asked = self.target.width_text(last.half_width), self.target.width_text()
        return f"{width} {at}, {asked} at about {self.expected:,}"

    def verdict(self) -> str:
        """Why nothing more is scored, and what was reached."""
        last = self.looks[-1]
        width = last.half_width
        found = "no interval with two ends" if width is None else self.target.width_text(width)
        documents = counted(last.documents, "document")
        if self.is_reached:
            rest = self._most - last.documents
            left = f"; {counted(rest, 'document')} more not needed" if rest else ""
            return f"{self.target}: {found} after {documents}, precise enough{left}"
        return (
            f"{self.target}: {found} after {documents}, all that were to be scored, not "
            f"{self.target.width_text()}; documents needed for that: {self.needed}"
        )


def target_of(experiment: Experiment) -> Target:
    """The interval that ends a run once it is narrow.

    Args:
        experiment: The run, whose configuration has a precision.

    Raises:
        UsageError: If its windows, which may be cut at characters, do not measure it.
    """
    assert experiment.config.precision is not None
    target, plan = experiment.config.precision.target(experiment.config), experiment.plan
    if target.distances is not None:
        first, last = target.distances
        start = plan.curve_start(experiment.shared[target.condition])
        if first < start or last >= plan.reach:
            raise UsageError(
                f"precision.nats is of distances {first:,} to {last:,}; allowed: {start:,} to "
                f"{plan.reach - 1:,}, where the run has a curve of {target.condition}"
            )
    return target


def refuse_parts(config: Config, shard: Shard | None, *, by_one: bool) -> None:
    """Refuse a precision where no process sees all rows as they are scored.

    Raises:
        UsageError: If there is one, and the run is a shard of others or is not scored here.
    """
    if config.precision is None or (shard is None and by_one):
        return
    option = f"--shard {shard}" if shard is not None else "--ray"
    raise UsageError(
        f"precision with {option}: a run stops by what all its documents say together, in one "
        "process; allowed: without that option, or precision: null"
    )


def recorded(config: Config, before: Mapping[str, Any]) -> dict[str, Any]:
    """The key ``precision`` of run.json as a run begins; nothing without one.

    What an earlier call found is taken over where it was read in the same way, off such rows.

    Args:
        config: The configuration.
        before: The record of an earlier call, empty of a new run.
    """
    if config.precision is None:
        return {}
    target, earlier = config.precision.target(config), before.get("precision")
    now, was = config.model_dump(mode="json"), before.get("config", {})
    same = all(now[name] == was.get(name) for name in ("analysis", "conditions", "repeats"))
    if not (isinstance(earlier, dict) and same and target.interval.items() <= earlier.items()):
        return {"precision": _as_record(target, [], None)}
    looks = [Look(**one) for one in earlier["looks"]]
    if earlier["half_width"] != target.half_width:  # the last one is done again, for what it says
        return {"precision": _as_record(target, looks[:-1], None)}
    return {"precision": _as_record(target, looks, earlier["needed"])}


def _as_record(target: Target, looks: Sequence[Look], needed: str | None) -> dict[str, Any]:
    return {
        **target.interval,
        "half_width": target.half_width,
        "looks": [asdict(one) for one in looks],
        "needed": needed,
    }
