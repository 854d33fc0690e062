"""What a run tells while it goes on: windows, tokens, and where the curve ends so far."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.branches import Scored
from probe.experiment import Experiment
from probe.losses import Losses
from probe.rows import intact_nll


@dataclass(frozen=True)
class Progress:
    """What is known after a unit.

    Args:
        windows: Windows finished by this call.
        total: Windows to be finished by it.
        tokens: Tokens forwarded by it.
        seconds: Since its first unit began.
        far_delta: Mean delta of the first condition, nats: over the far half of the reach, or, of
            an attention pattern, over all targets.
        far: Whether it is that of the far half.
    """

    windows: int
    total: int
    tokens: int
    seconds: float
    far_delta: float | None
    far: bool = True


class FarEnd:
    """The running estimate of the curve's far end, for the progress line."""

    def __init__(self, experiment: Experiment) -> None:
        first = [d.condition for d in experiment.draws if not d.condition.is_noise][:1]
        self.condition = first[0].text if first else None
        self.is_far = not (first and first[0].is_attended)
        self.start = experiment.protocol.reach // 2
        self.sum, self.count = 0.0, 0

    def add(self, scored: Sequence[Sequence[Scored]], losses: Sequence[Sequence[Losses]]) -> None:
        """Add the rows of a unit."""
        for branches, found in zip(scored, losses, strict=True):
            low, intact = intact_nll(branches, found)
            for one, loss in zip(branches, found, strict=True):
                if one.condition == self.condition:
                    at = one.branch.origin - low
                    self._add(one, loss, intact[at : at + one.branch.targets])

    def _add(self, one: Scored, loss: Losses, intact: NDArray[np.float32]) -> None:
        skip = max(0, self.start - (one.position - one.boundary))
        delta = loss.nll[skip:] - intact[skip:]
        self.sum += float(delta.sum())
        self.count += len(delta)

    @property
    def mean(self) -> float | None:
        """Mean delta, nats, ``None`` where nothing was measured."""
        return self.sum / self.count if self.count else None
