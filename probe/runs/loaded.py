"""The model of a run: loaded, checked, with the engine that is exact on it, scoring units."""

import gc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from probe.attention.apply import apply_pattern, check_support
from probe.attention.costs import Shape
from probe.config import Config, ModelConfig
from probe.corpus.windows import Window
from probe.engine.branch import Branch, References, Source
from probe.engine.compiled import CompiledBody, try_compiled
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
from probe.models.causal import CausalModel
from probe.models.device import free_memory, slow_dtype
from probe.models.load import load_model
from probe.models.placement import Layout
from probe.models.position_ids import refuse_ignored_positions
from probe.models.scorer import Scorer
from probe.protocols.base import Plan
from probe.protocols.branches import Scored
from probe.runs.experiment import Experiment
from probe.runs.pattern_costs import attention_costs, forward_times
from probe.runs.plan import Unit, planned_batch
from probe.runs.rows import references
from probe.text import shown


class Scoring(Protocol):
    """What scores branches: an engine over a model, here or behind a server."""

    costs: Costs

    @property
    def dtype(self) -> str:
        """Of the model's weights, as far as it is known."""

    @property
    def device(self) -> torch.device | None:
        """Where the model is; ``None`` for elsewhere."""

    @property
    def peak(self) -> float | None:
        """FLOP/s of its GPUs, where they are known."""

    def score(
        self, windows: Sequence[Sequence[Branch]], *, reference: References = None
    ) -> list[list[Losses]]:
        """Losses of every target of every branch, see :meth:`probe.engine.engine.Engine.score`."""


Say = Callable[[str], None]
Loader = Callable[[Experiment], Scorer]
FACTS = ("check", "attention", "model")
"""Keys of the record that tell of the model once it is loaded."""


def load(experiment: Experiment) -> Scorer:
    """Load the model of an experiment as its configuration says; UsageError for a served one."""
    settings = experiment.config.model
    if settings.served is not None:
        raise UsageError(f"model.served is {settings.served!r}: its weights are not loaded here")
    return load_model(
        experiment.source,
        dtype=settings.dtype,
        device=settings.device,
        attention=settings.attention,
        trust_remote_code=settings.trust_remote_code,
        layout=Layout(settings.device_map, settings.quantization, settings.adapter),
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
            if self._model is not None:  # it goes before the next one is loaded
                self._settings = self._model = None
                gc.collect()  # hooks on modules refer to the modules
                torch.cuda.empty_cache()  # else the next run finds the memory taken
            self._model, self._settings = load(experiment), settings
        return self._model


def refuse_other_model(experiment: Experiment, model: Scorer) -> None:
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


def checked_engine(
    experiment: Experiment, model: Scorer, record: dict[str, Any], say: Say
) -> Engine:
    """Check the model, put what came of it into the record, and take what is exact on it."""
    config = experiment.config
    _rest_on_host(model, experiment, say)
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
    if config.model.compile:  # last: all that comes before is asked of the plain body
        engine.forward = _compiled(engine, experiment, record, say)
    return engine


def _compiled(
    engine: Engine, experiment: Experiment, record: dict[str, Any], say: Say
) -> CompiledBody | None:
    """The model's body as torch compiles it, where that is exact and faster on a window."""
    config, longest = experiment.config, _longest_first(experiment)[0]
    document = experiment.documents[experiment.windows.places[longest].document]
    outcome, body = try_compiled(
        engine.model,
        _forwarded(experiment, experiment.windows[longest]),
        engine.techniques,
        say,
        source=experiment.plan.source_of(document),
        # Windows of several lengths are walked alone.
        windows=1 if config.windows.tokens is None else batch_size(config, engine.model),
    )
    record["check"].append(asdict(outcome))
    say(str(outcome))
    return body


def _longest_first(experiment: Experiment) -> list[int]:
    """Numbers of the windows; of whole documents some are far longer than others."""
    places = experiment.windows.places
    return sorted(range(len(places)), key=lambda at: -places[at].length)


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
    places, order = experiment.windows.places, _longest_first(experiment)
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
    length = config.windows.tokens
    if config.batch != "auto" or length is None:
        return planned_batch(config)
    most = _windows_that_fit(model, length)
    return planned_batch(config) if most is None else int(min(16, max(1, most // 4)))


def _rest_on_host(model: Scorer, experiment: Experiment, say: Say) -> None:
    """Let keys and values rest in this machine's memory where the device does not hold them.

    A quarter of what is free is left to everything else that a forward needs.
    """
    length = max(place.length for place in experiment.windows.places)
    most, batch = _windows_that_fit(model, length), experiment.config.batch
    if not isinstance(model, CausalModel) or not model.can_rest or most is None:
        return
    model.rests_on_host = 0.75 * most < (1 if batch == "auto" else batch)
    if model.rests_on_host:
        say(
            f"keys and values of windows of {length:,} tokens do not fit into the device's free "
            "memory: they rest in this machine's, which is slow; a smaller batch, or a device_map "
            "over more devices, may hold them"
        )


def _windows_that_fit(model: Scorer, length: int) -> float | None:
    """How many windows' keys and values the free memory of the GPUs holds.

    A window's are there twice as they grow, by new tensors. ``None`` on other devices, and of
    models without keys and values.
    """
    text, free = model.model.config.get_text_config(), free_memory(model.model)
    queries = getattr(text, "num_attention_heads", None)
    if free is None or not queries:
        return None
    heads = getattr(text, "num_key_value_heads", None) or queries
    width = getattr(text, "head_dim", None) or text.hidden_size // queries
    token = int(2 * text.num_hidden_layers * heads * width * model.model.dtype.itemsize)
    return free / (2 * token * length)


def score_unit(
    engine: Scoring, experiment: Experiment, unit: Unit
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
                    f"{engine.dtype}); allowed: finite "
                    f"{what}; the model in a wider dtype may give them"
                )
    return scored, losses
