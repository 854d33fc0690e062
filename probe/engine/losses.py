"""Losses of targets from their hidden states, in chunks of rows, through the model's own head."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

MEASURES = ("nll", "kl", "top1", "entropy")
CHUNK_ELEMENTS = 6 << 20  # logits alive at once: larger blocks cost page faults, smaller ones calls
CACHE_ELEMENTS = 1 << 19  # what is compared at once on a CPU: more leaves its cache
PIECE = 32  # intact distributions made at once where several targets share one

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
        nll: −ln p(target | context), nats, float32.
        kl: KL(intact ‖ condition) of the next-token distributions, nats, float32.
        top1: Whether the target is the most probable token.
        entropy: Of the next-token distribution, nats, float32.
    """

    nll: NDArray[np.float32]
    kl: NDArray[np.float32] | None = None
    top1: NDArray[np.bool_] | None = None
    entropy: NDArray[np.float32] | None = None

    def take(self, rows: slice | NDArray[np.int64]) -> "Losses":
        """The losses of some of the targets."""
        return Losses(**{name: array[rows] for name, array in self._measured().items()})

    @staticmethod
    def join(parts: Sequence["Losses"]) -> "Losses":
        """The losses of consecutive targets, one part after another."""
        names = parts[0]._measured()
        return Losses(
            **{name: np.concatenate([part._measured()[name] for part in parts]) for name in names}
        )

    def _measured(self) -> dict[str, Any]:
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
    wanted = set(measures)
    size = min(1024, max(16, CHUNK_ELEMENTS // vocabulary))
    distributions = _Distributions(head, reference, size) if reference is not None else None
    names = [name for name in MEASURES if name in wanted | {"nll"}]
    names = [name for name in names if name != "kl" or distributions is not None]
    # In one place from the start: small results between large blocks would pin the heap.
    losses = {
        name: states.new_empty(len(labels), dtype=torch.bool if name == "top1" else torch.float32)
        for name in names
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
