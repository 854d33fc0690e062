"""Hidden states in, losses out: through the model's own head, and in the order a walk gives them.

`token_losses` works in chunks of rows; `state_changes` compares the states of encoders, which have
no head; a `Ledger` knows which targets of a walk are scored, and which still await the intact text.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from probe.engine.branch import Branch
from probe.models.causal import release
from probe.models.encoder import unit
from probe.models.scorer import Scorer, rows_at_once

EMBEDDING = "embedding"
MEASURES = ("nll", "kl", "top1", "entropy", EMBEDDING)
COMPARED = {"kl", EMBEDDING}
"""Measures against the intact pass."""
CACHE_ELEMENTS = 1 << 19  # what is compared at once on a CPU: more leaves its cache
PIECE = 32  # intact distributions made at once where several targets share one
HELD = 6 << 20  # numbers in the hidden states that are put by to be scored together

Head = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Reference:
    """The intact pass, whose distributions ``kl`` compares with.

    Args:
        states: Its hidden states, shape ``(n, d)``.
        rows: Row of *states* of each target, shape ``(m,)``, int64, where it is not the target's
            own number; targets of one row that stand side by side share its distribution.
    """

    states: torch.Tensor
    rows: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Losses:
    """What was asked for of ``m`` targets, each array of shape ``(m,)``.

    Args:
        nll: −ln p(target | context), nats, float32; ``None`` of a model that predicts nothing.
        kl: KL(intact ‖ condition) of the next-token distributions, nats, float32.
        top1: Whether the target is the most probable token.
        entropy: Of the next-token distribution, nats, float32.
        embedding: 1 − cosine of a token's last hidden state and its intact one, float32.
        embedding_pooled: The same of the mean of the states of all targets of a branch; equal for
            all of them.
    """

    nll: NDArray[np.float32] | None
    kl: NDArray[np.float32] | None = None
    top1: NDArray[np.bool_] | None = None
    entropy: NDArray[np.float32] | None = None
    embedding: NDArray[np.float32] | None = None
    embedding_pooled: NDArray[np.float32] | None = None

    @property
    def measured(self) -> NDArray[np.float32]:
        """What there is of every target: its loss, or how its state changed; shape ``(m,)``."""
        values = self.embedding if self.nll is None else self.nll
        assert values is not None
        return values

    def take(self, rows: slice | NDArray[np.int64]) -> "Losses":
        """The losses of some of the targets."""
        return Losses(**{"nll": None} | {name: v[rows] for name, v in self._arrays().items()})

    @staticmethod
    def join(parts: Sequence["Losses"]) -> "Losses":
        """The losses of consecutive targets, one part after another."""
        arrays = [part._arrays() for part in parts]
        joined = {name: np.concatenate([one[name] for one in arrays]) for name in arrays[0]}
        return Losses(**{"nll": None} | joined)

    def _arrays(self) -> dict[str, Any]:
        return {name: array for name, array in vars(self).items() if array is not None}


def token_losses(
    head: Head,
    states: torch.Tensor,
    labels: torch.Tensor,
    *,
    measures: Iterable[str] = ("nll",),
    reference: Reference | None = None,
    vocabulary: int,
) -> Losses:
    """Compute the losses of targets without ever holding the logits of all of them.

    Args:
        head: Hidden states ``(rows, d)`` to logits ``(rows, V)``.
        states: Hidden states that predict the targets, shape ``(m, d)``.
        labels: Ids of the targets, shape ``(m,)``, int64.
        measures: Which of ``nll``, ``kl``, ``top1`` and ``entropy``.
        reference: The intact pass of the targets; needed for ``kl``.
        vocabulary: ``V``, which decides the rows of a chunk.

    Returns:
        float32 losses; the softmax is taken in float32 whatever the model's dtype.
    """
    size = rows_at_once(vocabulary)
    distributions = _Distributions(head, reference, size) if reference is not None else None
    names = {"nll", *measures} - ({"kl"} if reference is None else set()) - {EMBEDDING}
    # In one place from the start: small results between large blocks would pin the heap.
    losses = {
        name: states.new_empty(len(labels), dtype=torch.bool if name == "top1" else torch.float32)
        for name in MEASURES
        if name in names
    }
    for start in range(0, len(labels), size):
        chunk = slice(start, start + size)
        logp = _log_softmax(head(states[chunk]))
        losses["nll"][chunk] = -logp.gather(1, labels[chunk, None])[:, 0]
        if "top1" in losses:
            losses["top1"][chunk] = logp.argmax(dim=-1) == labels[chunk]
        if "entropy" in losses:
            losses["entropy"][chunk] = torch.special.entr(logp.exp()).sum(dim=-1)
        if "kl" in losses and distributions is not None:
            _kl(logp, *distributions(chunk), into=losses["kl"][chunk])
    return Losses(**{name: values.cpu().numpy() for name, values in losses.items()})


def model_losses(
    model: Scorer,
    states: torch.Tensor,
    labels: torch.Tensor,
    *,
    measures: Iterable[str] = ("nll",),
    reference: Reference | None = None,
) -> Losses:
    """:func:`token_losses` through a model's own head, and ``nll`` alone by its own way.

    That takes less time, and rounds in another way: a run has all of its losses the same way.
    """
    if set(measures) <= {"nll"}:
        return Losses(model.nll(states, labels).cpu().numpy())
    return token_losses(
        model.head,
        states,
        labels,
        measures=measures,
        reference=reference,
        vocabulary=model.vocabulary,
    )


def state_changes(states: torch.Tensor, intact: torch.Tensor) -> Losses:
    """Compare the hidden states of consecutive tokens with those of the same tokens in intact text.

    1 − cosine is half the squared distance of two states at length 1: 0 where they are equal, and
    exact to float32 where they nearly are.

    Args:
        states: Shape ``(windows, m, d)``.
        intact: Same shape.

    Returns:
        Of each token, and of the mean of a window's tokens, one window behind the other.
    """
    tokens, pooled = (
        (unit(one) - unit(other)).square().sum(dim=-1) / 2
        for one, other in (
            (states, intact),
            (states.float().mean(dim=1), intact.float().mean(dim=1)),
        )
    )
    return Losses(
        None,
        embedding=tokens.flatten().cpu().numpy(),
        embedding_pooled=pooled.repeat_interleave(states.shape[1]).cpu().numpy(),
    )


class _Distributions:
    """The intact log-probabilities of a chunk of targets, each row of the reference once.

    They are made in pieces of one size and kept in one place: blocks of ever other sizes would
    leave holes in the heap that nothing fits into.
    """

    def __init__(self, head: Head, reference: Reference, size: int) -> None:
        self.head, self.size = head, size
        self.states, self.rows = reference.states, reference.rows
        self.held: torch.Tensor | None = None

    def __call__(self, chunk: slice) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Log-probabilities, and which of their rows is each target's, if it is not its own."""
        if self.rows is None:
            return _log_softmax(self.head(self.states[chunk])), None
        distinct, back = torch.unique_consecutive(self.rows[chunk], return_inverse=True)
        for start in range(0, len(distinct), PIECE):
            piece = distinct[start : start + PIECE]
            logp = _log_softmax(self.head(self.states[piece]))
            if self.held is None:
                self.held = logp.new_empty((self.size, logp.shape[1]))
            self.held[start : start + len(piece)] = logp
        assert self.held is not None
        return self.held, back


def _kl(
    logp: torch.Tensor, intact: torch.Tensor, back: torch.Tensor | None, *, into: torch.Tensor
) -> None:
    """KL of intact distributions to those of as many targets, shape ``(targets,)``."""
    size = len(logp) if logp.is_cuda else max(1, CACHE_ELEMENTS // logp.shape[1])
    for start in range(0, len(logp), size):
        block = slice(start, start + size)
        target = intact[block if back is None else back[block]]
        mass = target.exp()
        # A token without mass adds nothing; written out it would be NaN where both are -inf.
        terms = (target - logp[block]).mul_(mass).masked_fill_(mass == 0, 0.0)
        into[block] = terms.sum(dim=-1)


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits, dim=-1, dtype=torch.float32)


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

    def numbers(self, place: int, count: int) -> NDArray[np.int64]:
        """Rows of consecutive targets in all windows' states, one window behind the other.

        Returns:
            Shape ``(windows * count,)``, int64.
        """
        rows = np.arange(len(self.known))[self.rows(place, count)]
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

    @property
    def targets(self) -> int:
        """How many there are in each window."""
        return self.states.shape[1]


class Ledger:
    """Keeps the losses of all targets of a batch of windows.

    KL and changes of states need the intact branch's hidden states of the same targets: requests
    that come before them wait until they are known. Where targets have intact branches of their
    own, requests are put by until there are many, so that the intact distribution of a target is
    made once for all of them.

    Args:
        model: The model, of which the head alone is used.
        branches: The branches, alike in all windows.
        labels: Ids of their targets, each of shape ``(windows, targets)``.
        measurement: What is computed.
        own_logits: Whether what is scored are the model's own logits, not its hidden states.
    """

    def __init__(
        self,
        model: Scorer,
        branches: Sequence[Branch],
        labels: Sequence[NDArray[np.int64]],
        measurement: Measurement,
        *,
        own_logits: bool = False,
    ) -> None:
        self.branches, self.labels, self.has_head = branches, labels, model.has_head
        losses = (
            partial(token_losses, lambda logits: logits, vocabulary=model.vocabulary)
            if own_logits
            else partial(model_losses, model)
        )
        self._losses = partial(losses, measures=tuple(measurement.measures))
        self.references, self.intact = frozenset(measurement.references), measurement.intact
        self.waiting: list[Request] = []
        hold = measurement.several and self.intact is not None
        self.held: list[Request] | None = [] if hold else None
        # By window and branch: the first target of each part, and its losses.
        self.parts: list[list[list[tuple[int, Losses]]]] = [
            [[] for _ in branches] for _ in labels[0]
        ]

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
        """Score what has waited for the intact branch.

        Raises:
            RuntimeError: If that has not come: branches stand in another order than they must.
        """
        if not all(map(self._is_known, self.waiting)):
            raise RuntimeError("a branch stands before the intact one that it is compared with")
        if self.held is None:
            self._score(self.waiting)
        else:
            self.held += self.waiting
            self._score_held()
        self.waiting = []

    def losses(self) -> list[list[Losses]]:
        """The losses by window and branch."""
        return [
            [
                Losses.join([part for _, part in sorted(parts, key=itemgetter(0))])
                for parts in window
            ]
            for window in self.parts
        ]

    def _place(self, request: Request) -> int:
        """Place in the window of the first target of a request."""
        return self.branches[request.branch].origin + request.start

    def _is_known(self, request: Request) -> bool:
        assert self.intact is not None
        return self.intact.holds(self._place(request), request.targets)

    def _score(self, requests: Sequence[Request], *, intact: bool = False) -> None:
        if not requests:
            return
        if not self.has_head:
            self._compare(requests)
            return
        compare = self.intact is not None and not intact
        losses = self._losses(
            torch.cat([request.states.flatten(0, 1) for request in requests]),
            torch.cat([self._labels(request) for request in requests]),
            reference=self._reference(requests) if compare else None,
        )
        if intact:  # KL of the intact text to itself is 0, and not computed
            losses = replace(losses, kl=np.zeros_like(losses.measured))
        self._note([(r.branch, r.start, r.targets) for r in requests], losses)

    def _compare(self, requests: Sequence[Request]) -> None:
        """Compare hidden states with the intact ones, each branch by itself: it has one mean."""
        if self.intact is None or self.intact.states is None:
            raise RuntimeError("without a head states are compared, with an intact branch")
        for one in requests:
            intact = self.intact.states[:, self.intact.rows(self._place(one), one.targets)]
            self._note([(one.branch, one.start, one.targets)], state_changes(one.states, intact))

    def _score_held(self) -> None:
        """Score what was put by, the rows of one target side by side."""
        requests, self.held = self.held, []
        if not requests or self.intact is None or self.intact.states is None:
            return
        spans = [(r.branch, r.start, r.targets) for r in requests]
        rows = [self.intact.numbers(self._place(r), r.targets) for r in requests]
        is_intact = np.repeat([r.branch in self.references for r in requests], list(map(len, rows)))
        labels = torch.cat([self._labels(request) for request in requests])
        states = torch.cat([request.states.flatten(0, 1) for request in requests])
        del requests  # their states would be held twice
        numbers = np.concatenate(rows)
        order = np.argsort(numbers, kind="stable")
        at = torch.from_numpy(order).to(states.device)
        states = states[at]
        intact_rows = torch.from_numpy(numbers[order]).to(states.device)
        losses = self._losses(
            states,
            labels[at],
            reference=Reference(self.intact.states.flatten(0, 1), intact_rows),
        )
        losses = losses.take(np.argsort(order))
        if losses.kl is not None:
            losses = replace(losses, kl=np.where(is_intact, np.float32(0), losses.kl))
        self._note(spans, losses)

    def _note(self, spans: Sequence[tuple[int, int, int]], losses: Losses) -> None:
        """Keep losses that stand one behind the other: branch, first target, targets."""
        at = 0
        for branch, start, targets in spans:
            for window in self.parts:
                window[branch].append((start, losses.take(slice(at, at + targets))))
                at += targets

    def _labels(self, request: Request) -> torch.Tensor:
        labels = self.labels[request.branch][:, request.start : request.start + request.targets]
        return torch.from_numpy(labels.ravel()).to(request.states.device)

    def _reference(self, requests: Sequence[Request]) -> Reference:
        assert self.intact is not None
        assert self.intact.states is not None
        rows = [self.intact.rows(self._place(r), r.targets) for r in requests]
        return Reference(torch.cat([self.intact.states[:, span].flatten(0, 1) for span in rows]))
