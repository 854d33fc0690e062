"""Hidden states in, losses out: which targets a walk has scored, and what is still awaited."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from probe.engine.branch import Branch, Intact
from probe.engine.losses import Head, Losses, token_losses
from probe.models.cache import release

HELD = 6 << 20  # numbers in the hidden states that are put by to be scored together


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
        branches: The branches, alike in all windows.
        ids: Their token ids, each of shape ``(windows, n)``.
        head: Hidden states to logits.
        vocabulary: Number of logits.
        measures: What to compute.
        references: Numbers of the intact branches.
        intact: Their hidden states, as far as they are known; without there is no ``kl``.
        hold: Put requests by; for targets that have intact branches of their own.
    """

    def __init__(
        self,
        branches: Sequence[Branch],
        ids: Sequence[NDArray[np.int64]],
        *,
        head: Head,
        vocabulary: int,
        measures: Sequence[str],
        references: Sequence[int],
        intact: Intact | None,
        hold: bool = False,
    ) -> None:
        self.branches, self.ids, self.windows = branches, ids, len(ids[0])
        self.head, self.vocabulary, self.measures = head, vocabulary, tuple(measures)
        self.references, self.intact = frozenset(references), intact
        self.waiting: list[Request] = []
        self.held: list[Request] | None = [] if hold and intact is not None else None
        self.parts: list[list[tuple[int, Losses]]] = [[] for _ in branches]

    def add(self, requests: Sequence[Request]) -> None:
        """Score what one forward gave, as far as it can be scored yet."""
        if self.intact is None:
            self._score(requests)
            return
        mine = [request for request in requests if request.branch in self.references]
        for request in mine:
            self.intact.keep(self._place(request), request.states)
        others = [request for request in requests if request.branch not in self.references]
        known = [request for request in others if self._is_known(request)]
        self.waiting += [request for request in others if not self._is_known(request)]
        if self.held is None:
            self._score(mine, intact=True)
            self._score(known)
            return
        self.held += mine + known
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
        """What was found, by window and branch."""
        found: list[list[Losses]] = [[] for _ in range(self.windows)]
        for parts in self.parts:
            ordered = [losses for _, losses in sorted(parts, key=lambda part: part[0])]
            for window in range(self.windows):
                found[window].append(_join(ordered, window, self.windows))
        return found

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
        self._note([(r.branch, r.start, r.states.shape[1]) for r in requests], found)

    def _score_held(self) -> None:
        """Score what was put by, the rows of one target side by side."""
        requests, self.held = self.held, []
        if not requests or self.intact is None or self.intact.states is None:
            return
        spans = [(r.branch, r.start, r.states.shape[1]) for r in requests]
        rows = [self.intact.numbers(self._place(r), r.states.shape[1]) for r in requests]
        own = [np.full(len(n), s[0] in self.references) for n, s in zip(rows, spans, strict=True)]
        labels = torch.cat([self._labels(request) for request in requests])
        states = torch.cat([request.states.flatten(0, 1) for request in requests])
        del requests
        numbers = np.concatenate(rows)
        order = np.argsort(numbers, kind="stable")
        at = torch.from_numpy(order).to(states.device)
        states = states[at]
        found = token_losses(
            self.head,
            states,
            labels[at],
            measures=self.measures,
            reference=self.intact.states.flatten(0, 1),
            rows=torch.from_numpy(numbers[order]).to(states.device),
            vocabulary=self.vocabulary,
        )
        found = found.take(np.argsort(order))
        if found.kl is not None:
            found = replace(found, kl=np.where(np.concatenate(own), np.float32(0), found.kl))
        self._note(spans, found)

    def _note(self, spans: Sequence[tuple[int, int, int]], found: Losses) -> None:
        """Keep losses that stand one behind the other: branch, first target, targets."""
        at = 0
        for branch, start, targets in spans:
            count = self.windows * targets
            self.parts[branch].append((start, found.take(slice(at, at + count))))
            at += count

    def _labels(self, request: Request) -> torch.Tensor:
        first = self.branches[request.branch].first + request.start
        labels = self.ids[request.branch][:, first : first + request.states.shape[1]]
        return torch.from_numpy(labels.ravel()).to(request.states.device)

    def _reference_states(self, requests: Sequence[Request]) -> torch.Tensor:
        assert self.intact is not None
        assert self.intact.states is not None
        rows = [self.intact.rows(self._place(r), r.states.shape[1]) for r in requests]
        return torch.cat([self.intact.states[:, one].flatten(0, 1) for one in rows])


def _join(parts: Sequence[Losses], window: int, windows: int) -> Losses:
    """One window's losses of a branch, from parts that hold every window's, window by window."""

    def rows_of(part: Losses) -> slice:
        count = len(part.nll) // windows
        return slice(window * count, (window + 1) * count)

    return Losses.join([part.take(rows_of(part)) for part in parts])
