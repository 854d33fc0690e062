"""A run: begun in its folder, scored by whoever does so, complete when nothing is missing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from probe.config import Config
from probe.corpus.windows import FEWEST_DOCUMENTS, Window
from probe.errors import ProbeError, UsageError
from probe.models.device import resolve_device, resolve_dtype
from probe.models.scorer import Scorer
from probe.results.scores import Store
from probe.results.shards import Shard
from probe.runs.begun import Begun, Listener, Workers, score_missing
from probe.runs.experiment import Experiment, prepare
from probe.runs.identity import begin, readable, refuse_other_windows
from probe.runs.loaded import (
    FACTS,
    Loader,
    Say,
    batch_size,
    checked_engine,
    load,
    refuse_other_model,
)
from probe.runs.plan import missing, numbers_of
from probe.runs.population import population, wanted
from probe.runs.rows import Progress
from probe.runs.served import Served
from probe.runs.stopping import Stopping, refuse_parts, target_of
from probe.text import counted

__all__ = ["Here", "Progress", "notes", "run"]


def run(
    config: Config,
    results: Path | Store = Path("results"),
    *,
    model: Scorer | None = None,
    workers: Workers | None = None,
    listen: Listener = lambda _: None,
    say: Say = lambda _: None,
) -> Path:
    """Score a configuration; go on where an earlier call stopped.

    Args:
        config: The configuration.
        results: The folder that holds the run folders; or one of them, of which a shard is to be
            scored, beside processes that score others: the run is complete once all are there.
        model: A model that is loaded already, as in a notebook; by default it is loaded as the
            configuration says, and not at all where nothing is missing.
        workers: Who scores what is missing; by default the model, in this process.
        listen: Called after every unit of work.
        say: Called with lines worth telling a user.

    Returns:
        The run folder.

    Raises:
        UsageError: If the configuration does not fit model, data or an existing folder.
        ProbeError: If the model gives losses that are not finite, or the disk is full.
    """
    store = results if isinstance(results, Store) else Store(results / config.name)
    shard = store.lock.shard
    with store.locked():
        if store.lock.missing:
            say(
                f"{store.folder}: its file system has no locks; see to it that no other process "
                f"scores {'all of the run' if shard is None else f'shard {shard}'} there"
            )
            if shard is not None:
                say(
                    "once all shards are scored, the same command without --shard completes the run"
                )
        workers = _workers(config, model, workers)
        refuse_parts(config, shard, by_one=isinstance(workers, Here | Served))
        before = readable(store.read_record(), store.folder)
        experiment = prepare(config, _pool(before))
        dtype = workers.dtype(experiment)
        with store.lock.alone():
            if shard is not None:  # another one may have begun meanwhile
                before = readable(store.read_record(), store.folder)
                if (pool := _pool(before)) is not None and tuple(pool) != experiment.pool:
                    experiment = prepare(config, pool)
            begun = _begin(experiment, dtype, before, store, say)
        own = len(begun.units(1) or begun.next_units(1))
        for line in notes(experiment, own, shard, begun.stopping):
            say(line)
        if own:
            workers.score(begun, listen, say)
        with store.lock.alone():
            if shard is not None:
                store.merge()
            left = missing(experiment, store.held()[0]) if own else begun.left
            # Two shards may have scored one window, which nobody can clear up without locks.
            sure = shard is None or not store.lock.missing
            # Of one that may stop, all was scored up to where it did.
            left = left if begun.stopping is None else {}
            if sure and not left and begun.record["status"] != "complete":
                _complete(begun)
        if begun.stopping is not None:
            say(begun.stopping.verdict())
    return store.folder


def _complete(begun: Begun) -> None:
    """Say that nothing is missing, unless another shard has come with more to score."""
    stored = begun.store.read_record() or begun.record
    if _is_of(stored, begun.experiment):
        begun.store.write_record(stored | {"status": "complete"})


def _workers(config: Config, model: Scorer | None, workers: Workers | None) -> Workers:
    """Who scores: whoever is given, the server, or one model here.

    Raises:
        UsageError: If a server holds the model, and another one is given.
    """
    if config.model.served is None:
        return workers or Here(model)
    if model is not None or not (workers is None or isinstance(workers, Here | Served)):
        raise UsageError(
            f"model.served is {config.model.served!r}: it is scored by requests; allowed: no model "
            "besides, no --ray"
        )
    return workers if isinstance(workers, Served) else Served()


def _is_of(record: dict[str, Any], experiment: Experiment) -> bool:
    """Whether a record, which another shard may have written, asks for no more than this run."""
    config = record["config"]
    asked = set(config["conditions"]), config["repeats"]
    documents = {one["id"] for one in record["data"]["documents"]}
    own = {condition.text for condition in experiment.config.parsed}, experiment.config.repeats
    return asked == own and documents == set(experiment.documents)


def _pool(before: dict[str, Any] | None) -> list[str] | None:
    """Documents that replaced text is taken from, as the run began with; ``None`` of a new one."""
    return before["data"]["pool"] if before else None


def _begin(
    experiment: Experiment, dtype: str, before: dict[str, Any] | None, store: Store, say: Say
) -> Begun:
    """See that a folder fits, write down what is scored, and clear up what was cut off."""
    if experiment.config.precision is not None:
        target_of(experiment)
    record = begin(experiment, dtype, before, store.folder)
    known, unread = store.known_windows()
    if unread is not None:
        say(f"{unread.name} was unreadable and is put aside; the file is written again")
    refuse_other_windows(known, experiment.windows, store.folder)
    store.identity = record["identity_hash"]
    store.refuse_parts_of_others()
    held, _ = store.held(store.unreadable())
    if left := missing(experiment, held):
        experiment.check_sources(left)
    for aside in store.clean():
        say(f"{aside.name} was unreadable and is put aside; its rows are scored again")
    if not left and (before or {}).get("status") == "complete":
        record["status"] = "complete"
    if record != before:  # first: windows that no record explains fit no later call
        store.write_record(record)
    places = [(one.document, one.window) for one in experiment.windows.places]
    if list(known) != places or not store.has_own_windows:
        store.write_windows(experiment.windows)
    store.write_frequencies(experiment.frequencies)
    if documents := wanted(experiment):

        def windows() -> Iterator[Window]:
            say(f"reading up to {documents} documents of the data, whose text narrows intervals")
            return population(experiment, documents)

        try:
            store.write_population(windows, documents)
        except ProbeError as error:  # what is scored does not need them
            say(f"documents that are not scored narrow no interval: {error}")
    may_stop = experiment.config.precision is not None
    stopping = Stopping(experiment, store, record, held) if may_stop else None
    return Begun(experiment, store, record, left, bool(held), stopping)


def notes(
    experiment: Experiment,
    left: int,
    shard: Shard | None = None,
    stopping: Stopping | None = None,
) -> Iterator[str]:
    """What a user should know before a run goes on: what is left out, and what is there already.

    Args:
        experiment: The run.
        left: Windows with something still to be scored.
        shard: The part of the run that they are of.
        stopping: When it may stop: then they are those before the next look.
    """
    omitted = experiment.corpus.left_out
    reasons = {
        "too short": omitted.too_short,
        "empty": omitted.empty,
        "without what the protocol needs": omitted.no_window,
    }
    for words, reason in reasons.items():
        if reason.count:
            named = ", ".join(reason.ids[:3]) + (", …" if reason.count > 3 else "")
            yield f"left out, {words}: {reason.count} ({named})"
    if (count := len(experiment.documents)) < FEWEST_DOCUMENTS:
        then = experiment.config.protocol.few_documents
        yield f"{counted(count, 'document')}: an interval needs {FEWEST_DOCUMENTS}, so that {then}"
    if count < (asked := experiment.config.data.max_documents or 0):
        yield f"{counted(count, 'document')} of {asked:,} asked for: no more can be used"
    batch = None if stopping is None else range(stopping.goal)
    whole = len(numbers_of(experiment, shard, batch))
    if 0 < left < whole:
        before = "" if stopping is None else f" before the look at {stopping.goal:,} documents"
        yield f"resuming: {left} of {counted(whole, 'window')} remaining{before}"


class Here:
    """One model in this process, which scores unit after unit.

    Args:
        model: A model that is loaded already.
        loader: What loads one otherwise, by default as the configuration says.
    """

    def __init__(self, model: Scorer | None = None, loader: Loader | None = None) -> None:
        self._model, self._loader = model, loader

    def dtype(self, experiment: Experiment) -> str:
        """That of the model, or of the configuration on this machine.

        Raises:
            UsageError: If the model that is loaded is another one than that of the configuration.
        """
        if self._model is not None:
            refuse_other_model(experiment, self._model)
            return str(self._model.model.dtype).removeprefix("torch.")
        settings = experiment.config.model
        return resolve_dtype(settings.dtype, resolve_device(settings.device))

    def score(self, begun: Begun, listen: Listener, say: Say) -> None:
        """Score unit after unit, and keep each."""
        experiment, record = begun.experiment, begun.record
        model = self._model or (self._loader or load)(experiment)
        engine = checked_engine(experiment, model, record, say)
        begun.tell({key: record[key] for key in FACTS})
        score_missing(begun, engine, batch_size(experiment.config, model), listen)
