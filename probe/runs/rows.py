"""From the losses of a unit to the rows of the results contract."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.corpus.windows import Window
from probe.engine.losses import Losses
from probe.protocols.branches import Scored
from probe.results.scores import SCHEMA
from probe.runs.experiment import Experiment
from probe.runs.plan import Unit, intact_branches

BLOCK = 1 << 18  # rows that are columns at once


def rows(
    unit: Unit, scored: Sequence[Sequence[Scored]], losses: Sequence[Sequence[Losses]]
) -> Iterator[dict[str, Any]]:
    """The rows of a unit, as columns of the results contract.

    Args:
        unit: The unit.
        scored: Branches of each window, the intact ones among them.
        losses: Their losses.

    Yields:
        The columns of at most about ``BLOCK`` rows; at least once.
    """
    waiting: list[dict[str, np.ndarray]] = []
    count, written = 0, False
    for missing, branches, found in zip(unit, scored, losses, strict=True):
        window, (low, intact) = missing.window, _intact_nll(branches, found)
        for one, loss in zip(branches, found, strict=True):
            if one.condition == "intact" and not missing.intact:
                continue
            at = one.branch.origin - low
            own = intact[at : at + one.branch.targets]
            waiting.append(_columns(window, one, loss, own))
            count += one.branch.targets
            if count >= BLOCK:
                yield _joined(waiting)
                waiting, count, written = [], 0, True
    if count or not written:
        yield _joined(waiting)


def _intact_nll(
    scored: Sequence[Scored], losses: Sequence[Losses]
) -> tuple[int, NDArray[np.float32]]:
    """The first target that a window's intact branches hold, and what is measured of each."""
    own = [
        (one.branch.origin, loss.measured)
        for one, loss in zip(scored, losses, strict=True)
        if one.condition == "intact"
    ]
    low = min(origin for origin, _ in own)
    found = np.full(max(origin + len(nll) for origin, nll in own) - low, np.nan, dtype=np.float32)
    for origin, nll in own:
        found[origin - low : origin - low + len(nll)] = nll
    return low, found


def references(scored: Sequence[Scored]) -> int | list[int]:
    """Number of the intact branch, or the numbers of several."""
    found = intact_branches(scored)
    return found[0] if len(found) == 1 else found


def _joined(columns: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if not columns:
        return {name: np.array([]) for name in SCHEMA.names}
    return {name: np.concatenate([one[name] for one in columns]) for name in columns[0]}


def _columns(
    window: Window, one: Scored, loss: Losses, intact: np.ndarray
) -> dict[str, np.ndarray]:
    count = one.branch.targets
    position = one.position + np.arange(count)
    right = None if one.boundary_right is None else np.full(count, one.boundary_right)
    nothing = np.full(count, None, dtype=object)  # a model without a head has no loss
    optional = {
        "nll": nothing if loss.nll is None else loss.nll,
        "nll_intact": nothing if loss.nll is None else intact,
        "top1": loss.top1,
        "entropy": loss.entropy,
        "kl": loss.kl,
        "embedding": loss.embedding,
        "embedding_pooled": loss.embedding_pooled,
        "chunk": None if one.chunk is None else np.full(count, one.chunk),
        "boundary_right": right,
        "of": None if one.of is None else np.full(count, one.of or None, dtype=object),
    }
    return {
        "document": np.full(count, window.document, dtype=object),
        "window": np.full(count, window.index),
        "position": position,
        "far_start": np.full(count, one.far_start),
        "boundary": np.full(count, one.boundary),
        "distance": one.distances,
        "condition": np.full(count, one.condition, dtype=object),
        "repeat": np.full(count, one.repeat),
    } | {name: values for name, values in optional.items() if values is not None}


@dataclass(frozen=True)
class Progress:
    """What is known after a unit.

    Args:
        windows: Windows finished by this call.
        total: Windows to be finished by it, as far as is known.
        tokens: Tokens forwarded by it.
        seconds: Since its first unit began.
        far_delta: Mean delta of the first condition, nats: over the far half of the reach, or, of
            an attention pattern, over all targets; ``None`` where no loss is measured.
        far: Whether it is that of the far half.
        workers: How many score.
        width: Of a run that stops once an interval is narrow: how narrow it is, in words.
    """

    windows: int
    total: int
    tokens: int
    seconds: float
    far_delta: float | None
    far: bool = True
    workers: int = 1
    width: str = ""


class FarEnd:
    """The running estimate of the curve's far end, for the progress line."""

    def __init__(self, experiment: Experiment) -> None:
        first = [d.condition for d in experiment.draws if not d.condition.is_noise][:1]
        self.condition = first[0].text if first else None
        self.is_far = not (first and first[0].is_attended)
        self.start = experiment.plan.reach // 2
        self.sum, self.count = 0.0, 0

    def add(self, scored: Sequence[Sequence[Scored]], losses: Sequence[Sequence[Losses]]) -> None:
        """Add the rows of a unit."""
        for branches, found in zip(scored, losses, strict=True):
            low, intact = _intact_nll(branches, found)
            for one, loss in zip(branches, found, strict=True):
                if one.condition == self.condition and loss.nll is not None:
                    at = one.branch.origin - low
                    delta = loss.nll - intact[at : at + one.branch.targets]
                    delta = delta[max(0, self.start - one.distance) :]
                    self.sum += float(delta.sum())
                    self.count += len(delta)

    @property
    def mean(self) -> float | None:
        """Mean delta, nats, ``None`` where nothing was measured."""
        return self.sum / self.count if self.count else None
