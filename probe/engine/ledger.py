"""Hidden states in, losses out: which targets a walk has scored, and what is still awaited."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from probe.engine.branch import Branch
from probe.engine.losses import Losses, Reference, token_losses
from probe.models.cache import release
from probe.models.causal import CausalModel

HELD = 6 << 20  # numbers in the hidden states that are put by to be scored together


class IntactStates:
    """Hidden states of the intact text by a target's place in the window.

    Args:
        branches: The intact branches.
        windows: Windows walked together.
    """

    def __init__(self, branches: Sequence[Branch], windows: int) -> None:
        self.windows = windows
        self.low = min(branch.origin for branch in branches)
        high = max(branch.origin + branch.targets for branch in branches)
        self.known = np.zeros(high - self.low, dtype=bool)
        self.states: torch.Tensor | None = None

    def add(self, place: int, states: torch.Tensor) -> None:
        """Store what predicts consecutive targets.

        Args:
            place: Place of the first of them.
            states: Shape ``(windows, m, d)``.
        """
        if self.states is None:
            shape = (self.windows, len(self.known), states.shape[-1])
            self.states = states.new_empty(shape)
        rows = self.rows(place, states.shape[1])
        self.states[:, rows] = states
        self.known[rows] = True

    def rows(self, place: int, count: int) -> slice:
        """Where consecutive targets stand in ``states``."""
        return slice(place - self.low, place - self.low + count)

    def holds(self, place: int, count: int) -> bool:
        """Whether all of some consecutive targets are known."""
        return bool(self.known[self.rows(place, count)].all())

    def numbers(self, place: int, count: int) -> np.ndarray:
        """Rows of consecutive targets in all windows' states, one window behind the other.

        Returns:
            Shape ``(windows * count,)``, int64.
        """
        rows = np.arange(place - self.low, place - self.low + count)
        return (np.arange(self.windows)[:, None] * len(self.known) + rows).ravel()


@dataclass(frozen=True, eq=False)
class Measurement:
    """What is computed of targets, and what they are compared with.

    Args:
        measures: Which of ``nll``, ``kl``, ``top1`` and ``entropy``.
        references: Numbers of the intact branches among those that are walked.
        intact: Their hidden states, as far as they are known; without there is no ``kl``.
        several: Whether targets have intact branches of their own.
    """

    measures: Sequence[str]
    references: Sequence[int]
    intact: IntactStates | None
    several: bool = False


class Request(NamedTuple):
    """Targets of one branch whose hidden states one forward gave.

    Args:
        branch: Number of the branch.
        start: Index of the first of them among the branch's targets.
        states: Hidden states that predict them, shape ``(windows, m, d)``.
    """

    branch: int
    start: int
    states: torch.Tensor


class Ledger:
    """Keeps the losses of all targets of a batch of windows.

    KL needs the intact branch's hidden states of the same targets: requests that come before them
    wait until they are known. Where targets have intact branches of their own, requests are put by
    until there are many, so that the intact distribution of a target is made once for all of them.

    Args:
        model: The model, of which the head alone is used.
        branches: The branches, alike in all windows.
        ids: Their token ids, each of shape ``(windows, n)``.
        measurement: What is computed.
        own_logits: Whether what is scored are the model's own logits, not its hidden states.
    """

    def __init__(
        self,
        model: CausalModel,
        branches: Sequence[Branch],
        ids: Sequence[NDArray[np.int64]],
        measurement: Measurement,
        *,
        own_logits: bool = False,
    ) -> None:
        self.branches, self.ids, self.windows = branches, ids, len(ids[0])
        self.head = (lambda logits: logits) if own_logits else model.head
        self.vocabulary, self.measures = model.vocabulary, tuple(measurement.measures)
        self.references, self.intact = frozenset(measurement.references), measurement.intact
        self.waiting: list[Request] = []
        hold = measurement.several and self.intact is not None
        self.held: list[Request] | None = [] if hold else None
        self.parts: list[list[tuple[int, Losses]]] = [[] for _ in branches]

    def add(self, requests: Sequence[Request]) -> None:
        """Score what one forward gave, as far as it can be scored yet."""
        if self.intact is None:
            self._score(requests)
            return
        references = [request for request in requests if request.branch in self.references]
        for request in references:
            self.intact.add(self._place(request), request.states)
        others = [request for request in requests if request.branch not in self.references]
        known = [request for request in others if self._is_known(request)]
        self.waiting += [request for request in others if not self._is_known(request)]
        if self.held is None:
            self._score(references, intact=True)
            self._score(known)
            return
        self.held += references + known
        if sum(request.states.numel() for request in self.held) >= HELD:
            self._score_held()
            if not requests[0].states.is_cuda:
                release()

    def settle(self) -> None:
        """Score what has waited for the intact branch."""
        if self.held is None:
            self._score(self.waiting)
        else:
            self.held += self.waiting
            self._score_held()
        self.waiting = []

    def losses(self) -> list[list[Losses]]:
        """The losses by window and branch."""
        losses: list[list[Losses]] = [[] for _ in range(self.windows)]
        for parts in self.parts:
            ordered = [part for _, part in sorted(parts, key=lambda part: part[0])]
            for window in range(self.windows):
                losses[window].append(_join(ordered, window, self.windows))
        return losses

    def _place(self, request: Request) -> int:
        """Place in the window of the first target of a request."""
        return self.branches[request.branch].origin + request.start

    def _is_known(self, request: Request) -> bool:
        assert self.intact is not None
        return self.intact.holds(self._place(request), request.states.shape[1])

    def _score(self, requests: Sequence[Request], *, intact: bool = False) -> None:
        if not requests:
            return
        compare = self.intact is not None and not intact
        losses = token_losses(
            self.head,
            torch.cat([request.states.flatten(0, 1) for request in requests]),
            torch.cat([self._labels(request) for request in requests]),
            measures=self.measures,
            reference=self._reference(requests) if compare else None,
            vocabulary=self.vocabulary,
        )
        if intact:  # KL of the intact text to itself is 0, and not computed
            losses = replace(losses, kl=np.zeros_like(losses.nll))
        self._note([(r.branch, r.start, r.states.shape[1]) for r in requests], losses)

    def _score_held(self) -> None:
        """Score what was put by, the rows of one target side by side."""
        requests, self.held = self.held, []
        if not requests or self.intact is None or self.intact.states is None:
            return
        spans = [(r.branch, r.start, r.states.shape[1]) for r in requests]
        rows = [self.intact.numbers(self._place(r), r.states.shape[1]) for r in requests]
        is_intact = np.concatenate(
            [
                np.full(len(numbers), branch in self.references)
                for numbers, (branch, *_) in zip(rows, spans, strict=True)
            ]
        )
        labels = torch.cat([self._labels(request) for request in requests])
        states = torch.cat([request.states.flatten(0, 1) for request in requests])
        del requests  # their states would be held twice
        numbers = np.concatenate(rows)
        order = np.argsort(numbers, kind="stable")
        at = torch.from_numpy(order).to(states.device)
        states = states[at]
        losses = token_losses(
            self.head,
            states,
            labels[at],
            measures=self.measures,
            reference=Reference(
                self.intact.states.flatten(0, 1),
                torch.from_numpy(numbers[order]).to(states.device),
            ),
            vocabulary=self.vocabulary,
        )
        losses = losses.take(np.argsort(order))
        if losses.kl is not None:
            losses = replace(losses, kl=np.where(is_intact, np.float32(0), losses.kl))
        self._note(spans, losses)

    def _note(self, spans: Sequence[tuple[int, int, int]], losses: Losses) -> None:
        """Keep losses that stand one behind the other: branch, first target, targets."""
        at = 0
        for branch, start, targets in spans:
            count = self.windows * targets
            self.parts[branch].append((start, losses.take(slice(at, at + count))))
            at += count

    def _labels(self, request: Request) -> torch.Tensor:
        first = self.branches[request.branch].first + request.start
        labels = self.ids[request.branch][:, first : first + request.states.shape[1]]
        return torch.from_numpy(labels.ravel()).to(request.states.device)

    def _reference(self, requests: Sequence[Request]) -> Reference:
        assert self.intact is not None
        assert self.intact.states is not None
        rows = [self.intact.rows(self._place(r), r.states.shape[1]) for r in requests]
        return Reference(torch.cat([self.intact.states[:, span].flatten(0, 1) for span in rows]))


def _join(parts: Sequence[Losses], window: int, windows: int) -> Losses:
    """One window's losses of a branch, from parts that hold every window's, window by window."""

    def rows_of(part: Losses) -> slice:
        count = len(part.nll) // windows
        return slice(window * count, (window + 1) * count)

    return Losses.join([part.take(rows_of(part)) for part in parts])
