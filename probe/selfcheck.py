"""The self-check: does each technique of the engine give this model's own losses?

Several families are silently wrong with one of them, so none is used before it has proved itself
on the model at hand, on a window of this run. What fails is switched off alone.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache

from probe.engine import Techniques
from probe.models.cache import is_plain, rows, snapshot
from probe.models.causal import CausalModel
from probe.models.lower import Layers
from probe.packing import packed_mask
from probe.tree import Node

TAIL = 288  # tokens whose losses are compared
HEAD = 288  # tokens whose logits are compared with the model's own
FLOAT32_MAX = 5e-4  # nats, the largest difference of one loss; what is wrong is off by far more
FLOAT32_MEAN = 2e-5  # nats: rounding has no direction
ROUNDED_MEAN, ROUNDED_SD = 0.02, 0.1  # nats, in bfloat16 and float16, where single losses differ


@dataclass(frozen=True)
class Outcome:
    """What one technique gave.

    Args:
        technique: A field of :class:`probe.engine.Techniques`.
        passed: Whether it may be used.
        mean: Mean difference from whole forwards, nats.
        sd: Standard deviation of the difference, nats.
        worst: Largest difference, nats.
        reason: Why it may not be used; empty when it may.
    """

    technique: str
    passed: bool
    mean: float = 0.0
    sd: float = 0.0
    worst: float = 0.0
    reason: str = ""

    def __str__(self) -> str:
        if self.passed:
            exact = "exact" if self.worst < FLOAT32_MAX else "equal to rounding"
            return f"{self.technique}: {exact}, |difference| at most {self.worst:.2g} nats"
        return f"{self.technique}: switched off, {self.reason}"


@dataclass(frozen=True)
class Report:
    """The outcomes, and the techniques that follow from them."""

    outcomes: tuple[Outcome, ...]

    @property
    def techniques(self) -> Techniques:
        """What may be used on this model."""
        return Techniques(**{o.technique: o.passed for o in self.outcomes})

    def as_json(self) -> list[dict[str, object]]:
        """For run.json."""
        return [asdict(outcome) for outcome in self.outcomes]


def check(model: CausalModel, ids: NDArray[np.int64], *, lower: bool = False) -> Report:
    """Try every technique on a text.

    Args:
        model: The model.
        ids: Token ids of one window with its kept first token, shape ``(n,)``; a window as long
            as the run's, since some families go wrong only beyond a length.
        lower: Whether lower layers are to be left out, which only attention patterns have need of.

    Returns:
        One outcome per technique, in the order of :class:`probe.engine.Techniques`.
    """
    with torch.inference_mode(), model.exact_head():
        trial = _Trial(model, ids)
        techniques = {
            "continuation": trial.continuation,
            "forks": trial.forks,
            "rows": trial.rows,
            "packing": trial.packing,
            "head": trial.head,
        }
        if lower:
            techniques["lower"] = trial.lower
        return Report(tuple(trial.run(name, tried) for name, tried in techniques.items()))


class _Unusable(Exception):
    """A technique that cannot be tried, with the reason."""


class _Trial:
    """One model and one text: the whole forward, and the prefix that everything goes on from."""

    def __init__(self, model: CausalModel, ids: NDArray[np.int64]) -> None:
        self.model = model
        self.ids = torch.from_numpy(np.ascontiguousarray(ids)).to(model.device)
        self.tail = max(2, min(TAIL, len(ids) // 3))
        self.at = len(ids) - self.tail
        self.whole = model.states(self.ids[None])[0][0]
        self.other = self.ids.flip(0)  # another text of the same tokens
        self.cache: Cache | None = None
        if model.cache_name is not None:
            _, self.cache = model.states(self.ids[None, : self.at])

    def run(self, name: str, trial: Callable[[], torch.Tensor]) -> Outcome:
        try:
            difference = trial().float()
        except _Unusable as error:
            return Outcome(name, False, reason=str(error))
        except Exception as error:  # whatever a family raises, the technique is not for it
            line = (str(error).splitlines() or [""])[0]
            return Outcome(name, False, reason=f"the model raised {type(error).__name__}: {line}")
        return self._judge(name, difference)

    def _judge(self, name: str, difference: torch.Tensor) -> Outcome:
        mean, worst = float(difference.mean()), float(difference.abs().max())
        sd = float(difference.std()) if len(difference) > 1 else 0.0
        if self.model.model.dtype == torch.float32:
            passed = worst <= FLOAT32_MAX and abs(mean) <= FLOAT32_MEAN
        else:
            passed = abs(mean) <= ROUNDED_MEAN and sd <= ROUNDED_SD
        reason = "" if passed else f"its losses differ by up to {worst:.2g} nats"
        return Outcome(name, passed, mean, sd, worst, reason)

    # -- the techniques; each returns differences of losses, shape (m,) ---------------------

    def continuation(self) -> torch.Tensor:
        states, _ = self.model.states(self._end[None], self._branch(), positions=self._positions())
        return self._difference(states[0], self.at)

    def forks(self) -> torch.Tensor:
        first, second = self._branch(), self._branch()
        self.model.states(self.other[None, : self.tail], first, positions=self._positions())
        states, _ = self.model.states(self._end[None], second, positions=self._positions())
        return self._difference(states[0], self.at)

    def rows(self) -> torch.Tensor:
        index = torch.zeros(2, dtype=torch.long, device=self.model.device)
        both = torch.stack([self.other[: self.tail], self._end])
        forked = rows(self._branch(), index)
        states, _ = self.model.states(both, forked, positions=self._positions())
        return self._difference(states[1], self.at)

    def packing(self) -> torch.Tensor:
        cache = self._branch()
        if not self.model.takes_positions:
            raise _Unusable("the model takes no position ids")
        if not is_plain(cache):
            raise _Unusable("its cache does not keep every key (sliding or recurrent layers)")
        early = self.at // 2
        size = min(self.tail, self.at - early)
        leaves = [
            Node(early, early + size, 0, [0]),
            Node(self.at, self.at + self.tail, 1, [1]),
            Node(self.at, self.at + self.tail, 2, [2]),
        ]
        ids = torch.cat([self.ids[early : early + size], self.other[: self.tail], self._end])
        positions = torch.cat([torch.arange(leaf.start, leaf.stop) for leaf in leaves])
        mask = packed_mask(leaves, self.at, self.model.model.dtype).to(self.model.device)
        states, _ = self.model.states(
            ids[None], cache, positions=positions[None].to(self.model.device), mask=mask
        )
        parts = torch.split(states[0], [len(leaf) for leaf in leaves])
        return torch.cat([self._difference(parts[0], early), self._difference(parts[2], self.at)])

    def head(self) -> torch.Tensor:
        some = self.ids[: HEAD + 1]
        own = torch.log_softmax(self.model.logits(some[None])[0].float(), dim=-1)
        ours = torch.log_softmax(self.model.head(self.whole[: len(some)]).float(), dim=-1)
        return (ours - own)[:-1].gather(1, some[1:, None])[:, 0]

    def lower(self) -> torch.Tensor:
        layers = Layers(self.model)
        half = layers.count // 2
        if half == 0:
            raise _Unusable("the model has no list of layers")
        with layers.kept([half - 1]) as outputs:
            self.model.states(self.ids[None], keep=False)
        with layers.below(half, outputs):
            states, _ = self.model.states(self.ids[None], keep=False)
        return self._difference(states[0, self.at :], self.at)

    # -- helpers ----------------------------------------------------------------------------

    @property
    def _end(self) -> torch.Tensor:
        return self.ids[self.at :]

    def _branch(self) -> Cache:
        if self.cache is None:
            raise _Unusable("the model returns no cache")
        return snapshot(self.cache)

    def _positions(self) -> torch.Tensor | None:
        if not self.model.takes_positions:
            return None
        return torch.arange(self.at, len(self.ids), device=self.model.device)[None]

    def _difference(self, states: torch.Tensor, start: int) -> torch.Tensor:
        """Losses of the tokens after ``start`` from *states*, less those of the whole forward."""
        labels = self.ids[start + 1 : start + len(states)]
        whole = self.whole[start : start + len(labels)]
        return self._nll(states[: len(labels)], labels) - self._nll(whole, labels)

    def _nll(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        chunks = zip(torch.split(states, 128), torch.split(labels, 128), strict=True)
        return torch.cat(
            [
                -torch.log_softmax(self.model.head(s).float(), -1).gather(1, y[:, None])[:, 0]
                for s, y in chunks
            ]
        )
