"""A run: plan, check the model, score what is missing, keep every finished unit."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probe.attention.apply import apply_pattern, check_support
from probe.attention.costs import Shape
from probe.config import Config, ModelConfig
from probe.corpus.windows import FEWEST_DOCUMENTS, Window
from probe.engine.branch import Source
from probe.engine.engine import Costs, Engine
from probe.engine.losses import Losses
from probe.engine.selfcheck import (
    FEWEST_TARGETS,
    Outcome,
    Report,
    check,
    judged,
)
from probe.errors import ProbeError, UsageError
from probe.models.device import resolve_device, resolve_dtype, slow_dtype
from probe.models.load import load_model
from probe.models.position_ids import refuse_ignored_positions
from probe.models.scorer import Scorer
from probe.protocols.base import Plan
from probe.protocols.branches import Scored
from probe.results.record import PEAK, add_costs
from probe.results.scores import Key, Store
from probe.results.shards import Shard
from probe.runs.experiment import Experiment, prepare
from probe.runs.identity import begin, readable, refuse_other_windows
from probe.runs.pattern_costs import attention_costs, forward_times
from probe.runs.plan import Unit, numbers_of, planned_batch, units
from probe.runs.rows import FarEnd, Progress, references, rows
from probe.text import counted, shown

RECORD_SECONDS = 30  # between two writes of run.json: of it costs alone change from unit to unit
Listener = Callable[[Progress], None]
Say = Callable[[str], None]
Loader = Callable[[Experiment], Scorer]


def run(
    config: Config,
    results: Path | Store = Path("results"),
    *,
    model: Scorer | None = None,
    loader: Loader | None = None,
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
        loader: What loads it then, by default :func:`load`.
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
        experiment = prepare(config, _pool(store))
        if model is not None:
            _refuse_other_model(experiment, model)
        dtype = _dtype(config, model)
        with store.lock.alone():
            if (pool := _pool(store)) is not None and tuple(pool) != experiment.pool:
                experiment = prepare(config, pool)  # another shard has begun meanwhile
            record = _begin(experiment, dtype, store, say)
            held, _ = store.held()
        left = list(units(experiment, 1, held, shard))
        for line in notes(experiment, len(left), shard):
            say(line)
        if left:
            loaded = model or (loader or load)(experiment)
            engine = _checked_engine(experiment, loaded, record, say)
            known = {key: record[key] for key in ("check", "attention", "model")}
            store.update_record(lambda stored: stored.update(known))
            _score_missing(experiment, engine, store, held, shard, listen)
        with store.lock.alone():
            if shard is not None:
                store.merge()
            held, _ = store.held()
            stored = store.read_record() or record
            # Another shard may have come with more documents, or other conditions.
            same = stored["config"] == record["config"]
            if same and not any(units(experiment, 1, held)):
                store.write_record(stored | {"status": "complete"})
    return store.folder


def _pool(store: Store) -> list[str] | None:
    """Documents that replaced text is taken from, as the run began with; ``None`` of a new one."""
    before = readable(store.read_record(), store.folder)
    return before["data"]["pool"] if before else None


def _begin(experiment: Experiment, dtype: str, store: Store, say: Say) -> dict[str, Any]:
    """See that a folder fits, write down what is scored, and clear up what was cut off.

    Returns:
        The record of the run.
    """
    before = readable(store.read_record(), store.folder)
    record = begin(experiment, dtype, before, store.folder)
    if (unread := store.put_windows_aside()) is not None:
        say(f"{unread.name} was unreadable and is put aside; the file is written again")
    refuse_other_windows(store, experiment.windows)
    experiment.check_sources()
    for aside in store.clean():
        say(f"{aside.name} was unreadable and is put aside; its rows are scored again")
    store.identity = record["identity_hash"]
    store.refuse_parts_of_others()
    store.write_record(record)  # first: windows that no record explains fit no later call
    store.write_windows(experiment.windows)
    store.write_frequencies(experiment.frequencies)
    return record


def notes(experiment: Experiment, left: int, shard: Shard | None = None) -> Iterator[str]:
    """What a user should know before a run goes on: what is left out, and what is there already.

    Args:
        experiment: The run.
        left: Windows with something still to be scored.
        shard: The part of the run that they are of.
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
    whole = len(numbers_of(experiment, shard))
    if 0 < left < whole:
        yield f"resuming: {left} of {counted(whole, 'window')} remaining"


def _dtype(config: Config, model: Scorer | None) -> str:
    if model is not None:
        return str(model.model.dtype).removeprefix("torch.")
    return resolve_dtype(config.model.dtype, resolve_device(config.model.device))


def _refuse_other_model(experiment: Experiment, model: Scorer) -> None:
    """Refuse a loaded model that can only be another than the one that is named, and recorded.

    Raises:
        UsageError: If so.
    """
    named, given = (one.get_text_config() for one in (experiment.source.config, model.model.config))
    for name in ("model_type", "num_hidden_layers", "hidden_size", "vocab_size"):
        values = [getattr(one, name, None) for one in (named, given)]
        if values[0] != values[1]:
            raise UsageError(
                f"model has {name} {shown(values[1])}; allowed: the model of model.path "
                f"{shown(experiment.config.model.path)}, whose config.json says {shown(values[0])}"
            )


def load(experiment: Experiment) -> Scorer:
    """Load the model of an experiment as its configuration says."""
    settings = experiment.config.model
    return load_model(
        experiment.source,
        dtype=settings.dtype,
        device=settings.device,
        attention=settings.attention,
        trust_remote_code=settings.trust_remote_code,
    )


class LastModel:
    """Loads models for one run after another, and holds the last alone: two might not fit.

    Runs of one model that follow one another load it once.
    """

    def __init__(self) -> None:
        self._settings: ModelConfig | None = None
        self._model: Scorer | None = None

    def __call__(self, experiment: Experiment) -> Scorer:
        """The model of an experiment, loaded where it is not the last one."""
        settings = experiment.config.model
        if self._model is None or settings != self._settings:
            self._settings = self._model = None  # before the next one is loaded
            self._model, self._settings = load(experiment), settings
        return self._model


def _checked_engine(
    experiment: Experiment, model: Scorer, record: dict[str, Any], say: Say
) -> Engine:
    """Check the model, put what came of it into the record, and take what is exact on it."""
    config = experiment.config
    if slow := slow_dtype(record["model"]["dtype"], model.device):
        say(slow)
    for warning in model.warnings:
        say(warning)
    report = check_model(model, experiment)
    for outcome in report.outcomes:
        if not outcome.passed:
            say(str(outcome))
    record["check"] = report.as_json()
    _record_patterns(experiment, model, record, say)
    record["model"] |= {
        "class": type(model.model).__name__,
        "parameters": model.model.num_parameters(),
        "device": str(model.device),
        "warnings": list(model.warnings),
    }
    flex = config.patterns == "flex"
    engine = Engine(model, report.techniques, tuple(config.measures), flex)
    experiment.plan = experiment.plan.fitted(model, engine.costs.add)
    if (plain := experiment.plan.plain) != experiment.plan:
        proof = _proof(Engine(model, report.techniques), experiment, plain)
        record["check"].append(asdict(proof))
        if not proof.passed:
            experiment.plan = plain
            say(str(proof))
    return engine


def _proof(engine: Engine, experiment: Experiment, plain: Plan) -> Outcome:
    """Whether targets that are masked at once have the losses of targets masked one at a time.

    Args:
        engine: One of its own: what this costs is no part of the run.
        experiment: The run, with the plan to be tried.
        plain: The plan that is right on any model.
    """

    def losses(plan: Plan, window: Window) -> NDArray[np.float32]:
        scored = plan.branches(window, (), experiment.inputs(window))
        (found,) = engine.score([[one.branch for one in scored]])
        order = np.argsort([one.position for one in scored])
        return np.concatenate([found[number].measured for number in order])

    difference = np.zeros(0, dtype=np.float32)
    for window in experiment.windows:
        change = losses(experiment.plan, window) - losses(plain, window)
        difference = np.append(difference, change)
        if len(difference) >= FEWEST_TARGETS:
            break
    outcome = judged("targets_per_forward", difference, "one target at a time, its loss differs")
    if len(difference) >= FEWEST_TARGETS:
        return outcome
    few = f"{len(difference)} targets are too few to try it on; needed: {FEWEST_TARGETS}"
    return replace(outcome, passed=False, reason=few)


def _score_missing(
    experiment: Experiment,
    engine: Engine,
    store: Store,
    held: set[Key],
    shard: Shard | None,
    listen: Listener,
) -> None:
    """Score unit after unit, and keep each."""
    model, spent = engine.model, dict[str, Any]()
    todo = list(units(experiment, batch_size(experiment.config, model), held, shard))
    total, done, far = sum(map(len, todo)), 0, FarEnd(experiment)
    started = written = time.perf_counter()

    def keep_costs() -> None:
        """Add what this call has taken since it did so last: shards add to one record."""
        now = _spent(engine.costs, time.perf_counter() - started, model.device)
        more = {name: value - spent.get(name, 0) for name, value in now.items() if name != PEAK}
        more |= {PEAK: now[PEAK]} if PEAK in now else {}
        store.update_record(lambda record: record.update(costs=add_costs(record["costs"], more)))
        spent.update(now)

    try:
        for unit in todo:
            scored, losses = score_unit(engine, experiment, unit)
            store.write_part(rows(unit, scored, losses), [key for one in unit for key in one.keys])
            far.add(scored, losses)
            done += len(unit)
            now = time.perf_counter()
            if now - written >= RECORD_SECONDS:  # it names every document: not with every unit
                keep_costs()
                written = now
            listen(Progress(done, total, engine.costs.tokens, now - started, far.mean, far.is_far))
    finally:
        keep_costs()


def _record_patterns(
    experiment: Experiment, model: Scorer, record: dict[str, Any], say: Say
) -> None:
    """What patterns cost by formula, and by the clock where they are to skip what is hidden."""
    before: dict[str, dict[str, Any]] = record.setdefault("attention", {})
    for name, costs in attention_costs(experiment, model).items():
        before[name] = before.get(name, {}) | costs
    if experiment.config.patterns == "flex":
        known = [name for name, costs in before.items() if "seconds" in costs]
        times, lines = forward_times(experiment, model, known)
        for line in lines:
            say(line)
        for name, measured in times.items():
            before[name] |= measured


def check_model(
    model: Scorer, experiment: Experiment, checker: Callable[..., Report] | None = None
) -> Report:
    """The self-check on the longest window of a run, as much of it as is ever forwarded at once.

    Args:
        model: The model.
        experiment: The run.
        checker: What checks the model and every technique on it, by default :func:`check`.

    Raises:
        ProbeError: If the model sees what follows a token.
        UsageError: If a condition keeps positions or limits attention, and the model does not
            support that.
    """
    patterns = [c.pattern for c in experiment.config.parsed if c.pattern is not None]
    places = experiment.windows.places  # of whole documents some are far longer than others
    order = sorted(range(len(places)), key=lambda at: -places[at].length)
    texts = (_forwarded(experiment, experiment.windows[at]) for at in order)
    ids = next(texts)
    lower = any(pattern.first_layer for pattern in patterns)
    conditions = experiment.config.parsed
    kept = {c.text: c.name for c in conditions if experiment.plan.gives_positions(c)}
    document = experiment.documents[places[order[0]].document]
    with _reading(model, experiment.plan.source_of(document)):
        report = (checker or check)(model, ids, lower=lower, more=texts)
        report.refuse_acausal(model)
        refuse_ignored_positions(model, ids, kept)
    support = check_support(model.model, patterns[0]) if patterns else None
    for pattern in patterns:
        with apply_pattern(model.model, pattern, boundary=1, places=(0,), support=support):
            if pattern.needs_boundary:
                limits = Shape.of(model.model.config).limits
                pattern.refuse_windows([one.reach for one in limits], len(ids))
    return report


def _reading(model: Scorer, source: Source | None) -> AbstractContextManager[None]:
    """Let the decoder read a source, if there is one."""
    if source is None:
        return nullcontext()
    return model.reading(torch.from_numpy(source.content)[None].to(model.device))


def _forwarded(experiment: Experiment, window: Window) -> NDArray[np.int64]:
    """The tokens of a window, as many as are forwarded at once, behind what stands in front."""
    lead = experiment.first_token.lead(window, window.ids)[: experiment.first_token.extra]
    behind = np.array(experiment.plan.model.behind, dtype=np.int64)
    return np.concatenate([lead, window.ids[: experiment.plan.longest_forward], behind])


def batch_size(config: Config, model: Scorer) -> int:
    """Windows walked together.

    On CUDA the keys and values of the windows may take a quarter of the free memory.
    """
    length = config.windows.length
    if config.batch != "auto" or model.device.type != "cuda" or length is None:
        return planned_batch(config)
    text = model.model.config.get_text_config()
    queries = getattr(text, "num_attention_heads", None)
    if not queries:  # no keys and values to count: recurrent
        return planned_batch(config)
    heads = getattr(text, "num_key_value_heads", None) or queries
    width = getattr(text, "head_dim", None) or text.hidden_size // queries
    token = 2 * text.num_hidden_layers * heads * width * model.model.dtype.itemsize
    free, _ = torch.cuda.mem_get_info(model.device)
    return int(min(16, max(1, free // 4 // (2 * token * length))))


def score_unit(
    engine: Engine, experiment: Experiment, unit: Unit
) -> tuple[list[list[Scored]], list[list[Losses]]]:
    """Score the branches of a unit's windows.

    Raises:
        ProbeError: If a loss is not finite.
    """
    scored = [experiment.branches(one.window, one.draws) for one in unit]
    own = references(scored[0])
    losses = engine.score([[one.branch for one in window] for window in scored], reference=own)
    for missing, branches, found in zip(unit, scored, losses, strict=True):
        for one, loss in zip(branches, found, strict=True):
            if not np.isfinite(loss.measured).all():
                what = "hidden states" if loss.nll is None else "losses"
                raise ProbeError(
                    f"the model's {what} are not finite: {missing.window.document!r}, window "
                    f"{missing.window.index}, condition {one.condition!r} (dtype "
                    f"{str(engine.model.model.dtype).removeprefix('torch.')}); allowed: finite "
                    f"{what}; the model in a wider dtype may give them"
                )
    return scored, losses


def _spent(costs: Costs, seconds: float, device: torch.device) -> dict[str, Any]:
    """What this call took: the engine's costs, and the seconds with planning and writing."""
    spent = {**asdict(costs), "run_seconds": seconds}
    if device.type == "cuda":
        spent[PEAK] = torch.cuda.max_memory_allocated(device)
    return spent
