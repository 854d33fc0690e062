"""A run: plan, check the model, score what is missing, keep every finished unit."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probe.branches import Scored
from probe.config import Config
from probe.engine import Costs, Engine
from probe.errors import ProbeError
from probe.experiment import Experiment, prepare
from probe.losses import Losses
from probe.models.causal import CausalModel
from probe.models.load import load_model, resolve_device, resolve_dtype
from probe.planning import Unit, planned_batch, units
from probe.record import begin, refuse_other_windows
from probe.selfcheck import Report, check
from probe.store import Key, Store


@dataclass(frozen=True)
class Progress:
    """What is known after a unit.

    Args:
        windows: Windows finished by this call.
        total: Windows to be finished by it.
        tokens: Tokens forwarded by it.
        far_delta: Mean delta over the far half of the reach, nats, of the first condition.
    """

    windows: int
    total: int
    tokens: int
    far_delta: float | None


Listener = Callable[[Progress], None]
Say = Callable[[str], None]


def run(
    config: Config,
    results: Path = Path("results"),
    *,
    listen: Listener = lambda _: None,
    say: Say = lambda _: None,
) -> Path:
    """Score a configuration; go on where an earlier call stopped.

    Args:
        config: The configuration.
        results: The folder that holds the run folders.
        listen: Called after every unit of work.
        say: Called with lines worth telling a user.

    Returns:
        The run folder.

    Raises:
        UsageError: If the configuration does not fit model, data or an existing folder.
        ProbeError: If the model gives losses that are not finite, or the disk is full.
    """
    store = Store(results / config.name)
    with store.locked():
        for aside in store.clean():
            say(f"{aside.name} was unreadable and is put aside; its rows are scored again")
        before = store.read_record()
        experiment = prepare(config, before["data"]["pool"] if before else None)
        dtype = resolve_dtype(config.model.dtype, resolve_device(config.model.device))
        record = begin(experiment, dtype, before, store.folder)
        refuse_other_windows(store, experiment.windows)
        store.write_record(record)  # first: windows that no record explains fit no later call
        store.write_windows(experiment.windows)
        held, _ = store.held()
        left = list(units(experiment, 1, held))
        if left:
            _score_missing(experiment, store, record, listen, say)
        record["status"] = "complete"
        store.write_record(record)
    return store.folder


def _score_missing(
    experiment: Experiment, store: Store, record: dict[str, Any], listen: Listener, say: Say
) -> None:
    """Load the model, check it, and score unit after unit."""
    config = experiment.config
    model = load_model(
        experiment.source,
        dtype=record["model"]["dtype"],
        device=config.model.device,
        attention=config.model.attention,
        trust_remote_code=config.model.trust_remote_code,
    )
    report = check_model(model, experiment)
    for outcome in report.outcomes:
        if not outcome.passed:
            say(str(outcome))
    record["check"] = report.as_json()
    record["model"] |= {
        "class": type(model.model).__name__,
        "parameters": model.model.num_parameters(),
        "device": str(model.device),
    }
    store.write_record(record)
    engine = Engine(model, report.techniques, tuple(config.measures))
    spent = dict(record["costs"])
    held, _ = store.held()
    todo = list(units(experiment, batch_size(config, model), held))
    total, done, far = sum(len(unit.windows) for unit in todo), 0, FarEnd(experiment)
    started = time.perf_counter()
    for unit in todo:
        scored, losses = score_unit(engine, experiment, unit)
        keys, columns = rows(unit, scored, losses)
        store.write_part(columns, keys)
        far.add(scored, losses)
        done += len(unit.windows)
        record["costs"] = _sum(spent, engine.costs, time.perf_counter() - started, model.device)
        store.write_record(record)
        listen(Progress(done, total, engine.costs.tokens, far.mean))


def check_model(model: CausalModel, experiment: Experiment) -> Report:
    """The self-check on the first window of a run."""
    window = experiment.windows[0]
    lead = experiment.first_token.lead(window, window.ids)[: experiment.first_token.extra]
    return check(model, np.concatenate([lead, window.ids]))


def batch_size(config: Config, model: CausalModel) -> int:
    """Windows walked together.

    On CUDA the keys and values of the windows may take a quarter of the free memory.
    """
    if config.batch != "auto" or model.device.type != "cuda":
        return planned_batch(config)
    text = model.model.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    token = 2 * text.num_hidden_layers * heads * width * model.model.dtype.itemsize
    free, _ = torch.cuda.mem_get_info(model.device)
    return int(min(16, max(1, free // 4 // (2 * token * config.windows.length))))


def score_unit(
    engine: Engine, experiment: Experiment, unit: Unit
) -> tuple[list[list[Scored]], list[list[Losses]]]:
    """Score the branches of a unit's windows.

    Raises:
        ProbeError: If a loss is not finite.
    """
    scored = [
        experiment.branches(window, draws)
        for window, draws in zip(unit.windows, unit.draws, strict=True)
    ]
    losses = engine.score([[one.branch for one in window] for window in scored], reference=0)
    for window, branches, found in zip(unit.windows, scored, losses, strict=True):
        for one, loss in zip(branches, found, strict=True):
            if not np.isfinite(loss.nll).all():
                raise ProbeError(
                    f"the model's losses are not finite: {window.document!r}, window "
                    f"{window.index}, condition {one.condition!r} (dtype "
                    f"{str(engine.model.model.dtype).removeprefix('torch.')}); allowed: finite "
                    "losses; a wider --dtype may help. Units scored before are kept"
                )
    return scored, losses


def rows(
    unit: Unit, scored: Sequence[Sequence[Scored]], losses: Sequence[Sequence[Losses]]
) -> tuple[list[Key], dict[str, Any]]:
    """The rows of a unit, as columns of the results contract.

    Args:
        unit: The unit.
        scored: Branches of each window, the intact one first.
        losses: Their losses.

    Returns:
        What the rows hold, and the columns.
    """
    keys: dict[Key, None] = {}
    parts: dict[str, list[Any]] = {}
    for window, new, branches, found in zip(unit.windows, unit.intact, scored, losses, strict=True):
        reference = branches[0]
        for one, loss in zip(branches, found, strict=True):
            if one is reference and not new:
                continue
            keys[Key(window.document, window.index, one.condition, one.repeat)] = None
            at = one.branch.origin - reference.branch.origin
            intact = found[0].nll[at : at + one.branch.targets]
            columns = _columns(window.document, window.index, one, loss, intact)
            for name, values in columns.items():
                parts.setdefault(name, []).append(values)
    return list(keys), {name: np.concatenate(values) for name, values in parts.items()}


def _columns(
    document: str, window: int, one: Scored, loss: Losses, intact: np.ndarray
) -> dict[str, np.ndarray]:
    count = one.branch.targets
    position = one.position + np.arange(count)
    known = one.boundary >= 0
    measured = {
        "nll": loss.nll,
        "nll_intact": intact,
        "top1": loss.top1,
        "entropy": loss.entropy,
        "kl": loss.kl,
    }
    return {
        "document": np.full(count, document, dtype=object),
        "window": np.full(count, window),
        "position": position,
        "far_start": np.full(count, one.far_start),
        "boundary": np.full(count, one.boundary),
        "distance": position - one.boundary if known else np.full(count, -1),
        "condition": np.full(count, one.condition, dtype=object),
        "repeat": np.full(count, one.repeat),
    } | {name: values for name, values in measured.items() if values is not None}


class FarEnd:
    """The running estimate of the curve's far end, for the progress line."""

    def __init__(self, experiment: Experiment) -> None:
        names = [d.condition.text for d in experiment.draws if not d.condition.is_noise]
        self.condition = names[0] if names else None
        self.start = experiment.protocol.reach // 2
        self.sum, self.count = 0.0, 0

    def add(self, scored: Sequence[Sequence[Scored]], losses: Sequence[Sequence[Losses]]) -> None:
        """Add the rows of a unit."""
        for branches, found in zip(scored, losses, strict=True):
            for one, loss in zip(branches, found, strict=True):
                if one.condition == self.condition:
                    self._add(one, loss, branches[0], found[0])

    def _add(self, one: Scored, loss: Losses, reference: Scored, intact: Losses) -> None:
        skip = max(0, self.start - (one.position - one.boundary))
        at = one.branch.origin - reference.branch.origin
        delta = loss.nll[skip:] - intact.nll[at + skip : at + one.branch.targets]
        self.sum += float(delta.sum())
        self.count += len(delta)

    @property
    def mean(self) -> float | None:
        """Mean delta, nats, ``None`` where nothing was measured."""
        return self.sum / self.count if self.count else None


def _sum(
    before: dict[str, Any], now: Costs, seconds: float, device: torch.device
) -> dict[str, Any]:
    """What all calls took: the engine's costs, and the seconds with planning and writing."""
    spent = {**asdict(now), "run_seconds": seconds}
    total = {name: before.get(name, 0) + value for name, value in spent.items()}
    if device.type == "cuda":
        total["peak_memory"] = torch.cuda.max_memory_allocated(device)
    return total
