"""Runs on Ray: actors with a warm model each; whoever joins helps, whoever dies is replaced."""

import logging
import math
import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from probe import __version__
from probe.cluster.queue import MOST_LOSSES, Queue
from probe.config import check
from probe.corpus.sample import Corpus
from probe.engine.engine import Engine
from probe.errors import ProbeError, UsageError
from probe.models.device import resolve_device, resolve_dtype
from probe.results.footer import Key
from probe.results.record import add_costs
from probe.runs.begun import RECORD_SECONDS, Begun, Listener, keys_of, recorded
from probe.runs.experiment import Experiment, prepare
from probe.runs.identity import differences, identity
from probe.runs.loaded import FACTS, LastModel, Say, batch_size, checked_engine, score_unit
from probe.runs.plan import Missing, Unit
from probe.runs.rows import FarEnd, Progress, rows
from probe.text import counted, one_line, shown

CORES = 4
"""Cores of a worker without a GPU, where nothing is said of workers."""
ANSWER = 10.0
"""Seconds in which a cluster must answer."""
LONG = 120.0
"""Seconds without a worker after which a user is told."""
POLL = 1.0
"""Seconds between two looks at what has come, gone, or become slow."""
Part = Sequence[tuple[int, Sequence[Key]]]
"""A unit as it travels: the number of each window, and what is missing of it."""


@dataclass(frozen=True)
class Result:
    """What a worker gives back of a unit.

    Args:
        columns: Its rows, as columns of the results contract.
        costs: What it took.
        far: Sum and number of deltas at the far end, see :class:`probe.runs.rows.FarEnd`.
    """

    columns: list[dict[str, Any]]
    costs: Mapping[str, Any]
    far: tuple[float, int]


class Worker:
    """One model, and the units that are scored on it; Ray makes an actor of it.

    It may score one run after another, and has the model of the last one alone.
    """

    def __init__(self) -> None:
        self.model = LastModel()
        self.engine: Engine | None = None

    def ping(self) -> None:
        """Say that it is there."""

    def dtype(self, device: str) -> str:
        """The dtype that ``auto`` means here, on a device of the configuration."""
        return resolve_dtype("auto", resolve_device(device))

    def load(
        self, content: dict[str, Any], corpus: Corpus, record: dict[str, Any], about: dict[str, Any]
    ) -> tuple[dict[str, Any], int, list[str]]:
        """Load the model of a run, where it is not that of the last one, and check it.

        Args:
            content: The configuration, as plain values: files of the user's own are run here.
            corpus: The documents.
            record: Keys ``FACTS`` and ``identity`` of the run's record.
            about: The driver's version and folder, the documents that replaced text is taken from,
                and the cores and GPUs that the worker has.

        Returns:
            Those keys with what is known now; windows of a unit; lines worth telling a user.
        """
        import torch

        if about["version"] != __version__:
            raise ProbeError(
                f"a worker has context-probe {__version__}; allowed: {about['version']}, as here"
            )
        if Path(about["folder"]).is_dir():  # relative paths are seen from there
            os.chdir(about["folder"])
        torch.set_num_threads(max(1, about["cores"]))
        self.share = min(1.0, about["gpus"] or 1.0)  # of its GPU
        self.engine = None  # it holds the last model, which must go before the next one comes
        # What auto means was found out once, for all.
        dtype = record["identity"]["dtype"]
        config = check({**content, "model": {**content["model"], "dtype": dtype}})
        self.experiment = prepare(config, about["pool"], corpus=corpus)
        if other := differences(record["identity"], identity(self.experiment, dtype)):
            raise ProbeError(f"a worker would score another run: {'; '.join(other)}")
        model, said = self.model(self.experiment), list[str]()
        self.engine = checked_engine(self.experiment, model, record, said.append)
        return {key: record[key] for key in FACTS}, batch_size(config, model), said

    def score(self, part: Part) -> Result:
        """Score a unit."""
        experiment, engine = self.experiment, self.engine
        assert engine is not None
        before, started = asdict(engine.costs), time.perf_counter()
        unit = [_missing(experiment, *one) for one in part]
        scored, losses = score_unit(engine, experiment, unit)
        far = FarEnd(experiment)
        far.add(scored, losses)
        costs = {name: value - before[name] for name, value in asdict(engine.costs).items()}
        columns = list(rows(unit, scored, losses))
        costs["run_seconds"] = time.perf_counter() - started
        return Result(columns, recorded(costs, engine, self.share), (far.sum, far.count))


def _missing(experiment: Experiment, number: int, keys: Sequence[Key]) -> Missing:
    whole = Missing(experiment.windows, number, tuple(experiment.draws_at(number)), intact=True)
    intact, *own = whole.keys
    left = [draw for draw, key in zip(whole.draws, own, strict=True) if key in keys]
    return replace(whole, draws=tuple(left), intact=intact in keys)


class RayWorkers:
    """Actors on a cluster, or on this machine; see :class:`probe.runs.begun.Workers`.

    They are kept from one run to the next as long as Ray is connected.

    Args:
        address: Of a cluster: ``auto``, the one that this machine is part of, or ``host:6379``;
            ``None`` starts Ray here.
        count: How many; ``None`` is as many as the cluster has room for, those that join too.
        gpus: GPUs of each; ``None`` is one where there are any as the run begins.
        say: Called with lines worth telling a user before a run has begun.
    """

    def __init__(
        self,
        address: str | None = None,
        count: int | None = None,
        gpus: float | None = None,
        say: Say = lambda _: None,
    ) -> None:
        if gpus is not None and (not math.isfinite(gpus) or (gpus > 1 and gpus != int(gpus))):
            raise UsageError(f"{gpus:g} GPUs a worker; allowed: a part of one, or a whole number")
        self.address, self.count, self._gpus, self._say = address, count, gpus, say
        self.idle: list[Any] = []
        """Actors that no run has at the moment."""

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Ray, as long as the runs take.

        Raises:
            ProbeError: If the cluster does not answer, or has another version.
        """
        try:
            import ray
        except ImportError as error:
            raise UsageError(
                "Ray is not installed; allowed: pip install 'context-probe[cluster]'"
            ) from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        before = signal.getsignal(signal.SIGTERM)
        more: dict[str, Any] = {} if self.address else {"include_dashboard": False}
        where = self.address or "this machine"
        try:
            if match := re.fullmatch(r"(\S+):(\d+)", self.address or ""):
                # Ray itself would try for minutes.
                socket.create_connection((match[1], int(match[2])), timeout=ANSWER).close()
            ray.init(
                address=self.address or "local",
                logging_level=logging.ERROR,
                log_to_driver=False,
                **more,
            )
        except Exception as error:  # Ray's own, of gRPC, of the version
            raise ProbeError(f"Ray at {where}: {one_line(error)}") from error
        if signal.getsignal(signal.SIGTERM) != before and before is not None:
            signal.signal(signal.SIGTERM, before)  # Ray's own ends a program in other words
        try:
            yield
        finally:
            self.idle = []
            ray.shutdown()

    def dtype(self, experiment: Experiment) -> str:
        """That of the configuration, on a worker."""
        import ray

        settings = experiment.config.model
        if settings.dtype != "auto":
            return settings.dtype

        while True:  # one that is idle, as idle ones may hold all that the cluster has
            is_new = not self.idle
            actor = self.worker(self.room()[1])
            asked = actor.dtype.remote(settings.device)
            while not ray.wait([asked], timeout=LONG)[0]:
                self._say(f"no worker has started for {LONG:g} s: each needs {self.room()[1]}")
            try:
                found: str = ray.get(asked)
            except ray.exceptions.RayError as error:
                if isinstance(error, ray.exceptions.RayTaskError):  # of the run: it is well itself
                    self.idle.append(actor)
                elif not is_new:  # it is no more
                    continue
                raise _plain(error) from error
            self.idle.append(actor)
            return found

    def worker(self, room: Mapping[str, Any]) -> Any:
        """An actor: one that is idle, or else one that starts, and takes *room*."""
        import ray

        if self.idle:
            return self.idle.pop()
        made: Any = ray.remote(Worker)
        return made.options(**room, max_restarts=0).remote()

    def room(self) -> tuple[int, dict[str, Any]]:
        """How many workers the cluster has room for, and what each takes: as much as any node has.

        One worker is asked for where no node has what it takes: a node that has may be on its way.
        """
        import ray

        listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        nodes = [node["Resources"] for node in listed if node["Alive"]]
        most = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
        if self._gpus is None:  # for good: nodes with GPUs may be away for a while
            self._gpus = float(most > 0)
        each = self._gpus
        name = "GPU" if each else "CPU"
        able = [node for node in nodes if node.get(name, 0.0) >= (each or 1)]
        slots = [max(1, int(node[name] // (each or CORES))) for node in able]
        if self.count is not None and not each:
            slots = [math.ceil(self.count / max(1, len(able)))] * len(able)
        cores = [int(node.get("CPU", 0) // slot) for node, slot in zip(able, slots, strict=True)]
        room = {"num_cpus": max(0 if each else 1, min(cores, default=1)), "num_gpus": each}
        return self.count or max(1, sum(slots)), room

    def score(self, begun: Begun, listen: Listener, say: Say) -> None:
        """Score everything that is missing, and keep each unit as soon as it is done.

        Raises:
            ProbeError: If workers die as they start, a unit takes ``MOST_LOSSES`` of them with it,
                or a loss is not finite.
        """
        _Driver(self, begun, listen, say).drive()


class _Driver:
    """Hands units to actors and keeps what they give back; alone in writing the folder."""

    def __init__(self, workers: RayWorkers, begun: Begun, listen: Listener, say: Say) -> None:
        import ray

        self.workers, self.begun, self.listen, self.say = workers, begun, listen, say
        experiment = begun.experiment
        self.corpus = ray.put(experiment.corpus)
        self.actors: dict[Any, Any] = {}  # by the reference that is awaited of each
        self.idle: list[Any] = []
        self.started = set(workers.idle)  # before this run, so that they cannot die as they start
        self.windows = len(begun.units(1))
        self.units: list[Unit] = []
        self.queue: Queue | None = None
        self.ready: set[Any] = set()
        self.asked: dict[str, Any] = {}  # what pending workers were to have
        self.failed_starts, self.seen = 0, time.perf_counter()

    def drive(self) -> None:
        import ray

        far, started = FarEnd(self.begun.experiment), time.perf_counter()
        done, tokens, written, spent = 0, 0, started, dict[str, Any]()
        try:
            while self.queue is None or self.queue.left:
                self._grow()
                self._hand_out()
                self._tell_of_none()
                if not self.actors:  # all wait for a unit that may become slow
                    time.sleep(POLL)
                    continue
                ready, _ = ray.wait(list(self.actors), num_returns=1, timeout=POLL)
                for reference in ready:
                    actor = self.actors.pop(reference)
                    found = self._got(actor, reference)
                    if isinstance(found, tuple):
                        self._loaded(*found)
                    if not isinstance(found, Result):
                        continue
                    spent = add_costs(spent, found.costs)
                    assert self.queue is not None
                    unit = self.units[self.queue.unit_of(actor)]
                    if self.queue.done(actor, time.perf_counter()):
                        self.begun.store.write_part(found.columns, keys_of(unit))
                        far.sum, far.count = far.sum + found.far[0], far.count + found.far[1]
                        done, tokens = done + len(unit), tokens + found.costs["tokens"]
                        self._tell(done, tokens, started, far)
                if time.perf_counter() - written >= RECORD_SECONDS:
                    self.begun.spend(spent)
                    spent, written = {}, time.perf_counter()
        finally:
            self.begun.spend(spent)
            for actor in self.actors.values():  # still loading, or slower than a second one
                ray.kill(actor)
            self.workers.idle += self.idle
        if self.queue.given_up:
            unit = self.units[self.queue.given_up[0]]
            one = unit[0].window
            raise ProbeError(
                f"{counted(len(self.queue.given_up), 'unit')} took {MOST_LOSSES} workers with it, "
                f"the first window {one.index} of {shown(one.document)}; everything else is kept; "
                "allowed: workers with more memory, or a smaller batch"
            )

    def _got(self, actor: Any, reference: Any) -> Any:
        """What a worker gives back; it is idle then. ``None`` of one that is no more, or said so.

        Raises:
            ProbeError: If it is a mistake of the run, which every worker would make.
        """
        import ray

        try:
            found = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            ray.kill(actor)
            if actor in self.ready or not self.ready:  # of the run, not of one node
                raise _plain(error) from error
            self._lost(actor, error)
            return None
        except ray.exceptions.RayError as error:  # it, or its node, is no more
            self._lost(actor, error)
            return None
        self.ready.add(actor)
        self.idle.append(actor)
        self.failed_starts, self.seen = 0, time.perf_counter()
        return found

    def _tell_of_none(self) -> None:
        """Say so where there has been no worker for long."""
        if self.ready or time.perf_counter() - self.seen < LONG:
            return
        self.seen = time.perf_counter()
        self.say(f"no worker for {LONG:g} s: each needs {self.workers.room()[1]}")

    def _tell(self, done: int, tokens: int, started: float, far: FarEnd) -> None:
        total = sum(map(len, self.units))
        seconds, workers = time.perf_counter() - started, len(self.actors) + len(self.idle)
        self.listen(Progress(done, total, tokens, seconds, far.mean, far.is_far, workers))

    def _grow(self) -> None:
        """Start as many workers as there is room for, and units."""
        import ray

        count, room = self.workers.room()
        count = min(count, self.windows if self.queue is None else self.queue.left)
        if room != self.asked:  # those that wait for what no node has any more
            for reference, actor in list(self.actors.items()):
                if actor not in self.ready | self.started:
                    ray.kill(self.actors.pop(reference))
            self.asked = room
        begun = self.begun
        about = {
            "version": __version__,
            "folder": str(Path.cwd()),
            "pool": begun.experiment.pool,
            "cores": room["num_cpus"],
            "gpus": room["num_gpus"],
        }
        for _ in range(count - len(self.actors) - len(self.idle)):
            actor = self.workers.worker(room)
            known = {key: begun.record[key] for key in (*FACTS, "identity")}
            content = begun.experiment.config.model_dump(mode="json")
            self.actors[actor.load.remote(content, self.corpus, known, about)] = actor

    def _loaded(self, facts: Mapping[str, Any], batch: int, said: Sequence[str]) -> None:
        """A worker is ready; the first one says how large units are."""
        if self.queue is None:
            for line in said:
                self.say(line)
            self.begun.tell(facts)
            self.units = self.begun.units(batch)
            self.queue = Queue(range(len(self.units)))

    def _hand_out(self) -> None:
        waiting, self.idle = self.idle, []
        for actor in waiting:
            unit = None
            if self.queue is not None:
                unit = self.queue.take(actor, time.perf_counter())
            if unit is None:
                self.idle.append(actor)
            else:
                part = [(one.number, one.keys) for one in self.units[unit]]
                self.actors[actor.score.remote(part)] = actor

    def _lost(self, actor: Any, error: Exception) -> None:
        """A worker is no more; another one takes its place.

        Raises:
            ProbeError: If one after another dies as it starts.
        """
        if actor in self.ready | self.started:
            self.ready.discard(actor)
            self.started.discard(actor)
            if self.queue is not None:
                self.queue.lost(actor)
            # With its node others may be gone that have nothing to do: no unit is theirs then.
            self.actors |= {idle.ping.remote(): idle for idle in self.idle}
            self.idle = []
            return
        self.failed_starts += 1
        if self.failed_starts > MOST_LOSSES and not self.ready:
            raise ProbeError(
                f"workers die as they start, the last one: {_plain(error)}; allowed: more memory"
            ) from error
        self.say(f"a worker died as it started: {_plain(error)}")
        time.sleep(POLL)


def _plain(error: Exception) -> ProbeError:
    """An error that came through Ray, in the words in which it was raised."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ProbeError):
        return type(cause)(str(cause)) if type(cause) in (ProbeError, UsageError) else cause
    name = type(cause or error).__name__
    return ProbeError(f"on a worker: {name}: {one_line(cause or error)}")
