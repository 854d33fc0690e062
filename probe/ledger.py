"""Hidden states in, losses out: which targets a walk has scored, and what is still awaited."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from probe.branch import Branch
from probe.losses import Head, Losses, token_losses


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
    wait until they are known.

    Args:
        branches: The branches, alike in all windows.
        ids: Their token ids, each of shape ``(windows, n)``.
        head: Hidden states to logits.
        vocabulary: Number of logits.
        measures: What to compute.
        reference: Number of the intact branch; without it there is no ``kl``.
    """

    def __init__(
        self,
        branches: Sequence[Branch],
        ids: Sequence[NDArray[np.int64]],
        *,
        head: Head,
        vocabulary: int,
        measures: Sequence[str],
        reference: int | None,
    ) -> None:
        self.branches, self.ids, self.windows = branches, ids, len(ids[0])
        self.head, self.vocabulary, self.measures = head, vocabulary, tuple(measures)
        self.reference = reference if "kl" in measures else None
        self.intact: torch.Tensor | None = None
        self.known = np.zeros(0 if reference is None else branches[reference].targets, dtype=bool)
        self.waiting: list[Request] = []
        self.parts: list[list[tuple[int, Losses]]] = [[] for _ in branches]

    def add(self, requests: Sequence[Request]) -> None:
        """Score what one forward gave, as far as it can be scored yet."""
        if self.reference is None:
            self._score(requests)
            return
        mine = [request for request in requests if request.branch == self.reference]
        self._keep(mine)
        self._score(mine, intact=True)
        others = [request for request in requests if request.branch != self.reference]
        self._score([request for request in others if self._is_known(request)])
        self.waiting += [request for request in others if not self._is_known(request)]

    def settle(self) -> None:
        """Score what has waited for the intact branch."""
        self._score(self.waiting)
        self.waiting = []

    def losses(self) -> list[list[Losses]]:
        """What was found, by window and branch."""
        found: list[list[Losses]] = [[] for _ in range(self.windows)]
        for parts in self.parts:
            ordered = [losses for _, losses in sorted(parts, key=lambda part: part[0])]
            for window in range(self.windows):
                found[window].append(_join(ordered, window, self.windows))
        return found

    def _keep(self, requests: Sequence[Request]) -> None:
        """Keep the hidden states of the intact branch."""
        for request in requests:
            if self.intact is None:
                shape = (self.windows, len(self.known), request.states.shape[-1])
                self.intact = request.states.new_empty(shape)
            rows = slice(request.start, request.start + request.states.shape[1])
            self.intact[:, rows] = request.states
            self.known[rows] = True

    def _is_known(self, request: Request) -> bool:
        return bool(self.known[self._reference_rows(request)].all())

    def _reference_rows(self, request: Request) -> slice:
        """Where the targets of a request stand among the intact branch's."""
        assert self.reference is not None
        place = self.branches[request.branch].origin + request.start
        at = place - self.branches[self.reference].origin
        return slice(at, at + request.states.shape[1])

    def _score(self, requests: Sequence[Request], *, intact: bool = False) -> None:
        if not requests:
            return
        compare = self.reference is not None and not intact
        found = token_losses(
            self.head,
            torch.cat([request.states.flatten(0, 1) for request in requests]),
            torch.cat([self._labels(request) for request in requests]),
            measures=self.measures,
            reference=self._reference_states(requests) if compare else None,
            vocabulary=self.vocabulary,
        )
        if intact:  # KL of the intact text to itself is 0, and not computed
            found = replace(found, kl=np.zeros_like(found.nll))
        at = 0
        for request in requests:
            count = self.windows * request.states.shape[1]
            self.parts[request.branch].append((request.start, found.take(slice(at, at + count))))
            at += count

    def _labels(self, request: Request) -> torch.Tensor:
        first = self.branches[request.branch].first + request.start
        labels = self.ids[request.branch][:, first : first + request.states.shape[1]]
        return torch.from_numpy(labels.ravel()).to(request.states.device)

    def _reference_states(self, requests: Sequence[Request]) -> torch.Tensor:
        assert self.intact is not None
        rows = [self._reference_rows(request) for request in requests]
        return torch.cat([self.intact[:, one].flatten(0, 1) for one in rows])


def _join(parts: Sequence[Losses], window: int, windows: int) -> Losses:
    """One window's losses of a branch, from parts that hold every window's, window by window."""

    def rows_of(part: Losses) -> slice:
        count = len(part.nll) // windows
        return slice(window * count, (window + 1) * count)

    return Losses.join([part.take(rows_of(part)) for part in parts])
