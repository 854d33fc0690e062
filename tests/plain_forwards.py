"""Branches of a window, and the plain way to their losses: every branch forwarded whole."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from models import BOS, VOCABULARY, plain_logp, random_ids
from numpy.typing import NDArray
from plans import Plan, grid, sweep

from probe.corpus.windows import Window
from probe.engine.branch import Branch
from probe.engine.losses import Losses
from probe.models.causal import CausalModel
from probe.perturbations.condition import parse
from probe.perturbations.samplers import vocabulary
from probe.protocols.branches import Draw, FirstToken, intact, perturbed

LENGTH = 64
PLANS: dict[str, Plan] = {
    "sweep": sweep(LENGTH, 28, runs={1: 1, 4: 2}, all_runs=True),
    "grid": grid(LENGTH, [0, 1, 24], count=4, end_offset=3),
}
FIRST_TOKENS = {
    "keep": FirstToken("keep", BOS),
    "own": FirstToken("keep", None),
    "none": FirstToken("none", BOS),
    "published": FirstToken("published", BOS),
}
SAME_LENGTH = (
    "noise",
    "truncate",
    "shuffle",
    "shuffle(span=16)",
    "shuffle_spans(span=8)",
    "reverse",
    "replace(source='vocabulary')",
)
Paths = Counter[str]


def tolerance(family: str) -> float:
    """Largest difference of a loss, nats.

    Recurrent layers sum in another order when a text is cut elsewhere, and the gated delta rule
    with random weights magnifies rounding: the last bit of the embeddings, up or down at random,
    moves its losses by 1.5e-4 to 4.6e-4 nats (four draws).
    """
    return {"mamba2": 5e-5, "qwen3_next": 5e-4}.get(family, 1e-5)


def window(index: int = 0, length: int = LENGTH) -> Window:
    nothing = np.empty(0, dtype=np.int32)
    return Window("a", index, 7, random_ids(length, seed=index), None, nothing, nothing)


def branches_of(
    window: Window,
    *,
    plan: str = "sweep",
    first_token: str = "keep",
    conditions: Sequence[str] = SAME_LENGTH,
) -> list[Branch]:
    """The branches of a window, intact first."""
    return [*_branches(window.index, len(window.ids), plan, first_token, tuple(conditions))]


@cache
def _branches(
    index: int, length: int, plan: str, first_token: str, conditions: tuple[str, ...]
) -> tuple[Branch, ...]:
    """Made once: the same ones are sent through every family."""
    own = window(index, length)
    protocol, first = PLANS[plan], FIRST_TOKENS[first_token]
    sources = {"vocabulary": vocabulary(range(3, VOCABULARY))}
    return (
        intact(own, protocol.targets, first).branch,
        *(
            perturbed(own, run, Draw(parse(text), seed=1), first, sources=sources).branch
            for text in conditions
            for run in protocol.runs(True)
        ),
    )


class Plain:
    """The plain way: every branch forwarded whole, those of one length side by side."""

    def __init__(self, model: CausalModel, windows: Iterable[Sequence[Branch]]) -> None:
        by_length: dict[int, dict[bytes, NDArray[np.int64]]] = {}
        for branch in (branch for own in windows for branch in own):
            by_length.setdefault(len(branch.ids), {})[branch.ids.tobytes()] = branch.ids
        self._whole = {
            key: logp
            for group in by_length.values()
            for key, logp in zip(
                group, plain_logp(model.model, np.stack([*group.values()])), strict=True
            )
        }

    def logp(self, branch: Branch) -> NDArray[np.float64]:
        """Log-probabilities at a branch's targets, shape ``(targets, V)``."""
        return self._whole[branch.ids.tobytes()][branch.first - 1 : branch.stop - 1]

    def nll(self, branch: Branch) -> NDArray[np.float64]:
        """Losses of a branch's targets, shape ``(targets,)``."""
        found: NDArray[np.float64] = -self.logp(branch)[np.arange(branch.targets), branch.labels]
        return found


def assert_right(
    plain: Plain,
    windows: Iterable[Sequence[Branch]],
    scored: Iterable[Sequence[Losses]],
    within: float,
) -> None:
    """Every loss is that of the plain way."""
    for branches, found in zip(windows, scored, strict=True):
        for branch, losses in zip(branches, found, strict=True):
            assert len(losses.nll) == branch.targets
            assert np.abs(losses.nll - plain.nll(branch)).max() <= within
