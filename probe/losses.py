"""Losses of targets from their hidden states, in chunks of rows, through the model's own head."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

MEASURES = ("nll", "kl", "top1", "entropy")
CHUNK_ELEMENTS = 6 << 20  # logits alive at once: larger blocks cost page faults, smaller ones calls

Head = Callable[[torch.Tensor], torch.Tensor]


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
    reference: torch.Tensor | None = None,
    rows: torch.Tensor | None = None,
    vocabulary: int,
) -> Losses:
    """Compute the losses of targets without ever holding the logits of all of them.

    Args:
        head: Hidden states ``(rows, d)`` to logits ``(rows, V)``.
        states: Hidden states that predict the targets, shape ``(m, d)``.
        labels: Ids of the targets, shape ``(m,)``, int64.
        measures: Which of ``nll``, ``kl``, ``top1`` and ``entropy``.
        reference: Hidden states of the intact pass, shape ``(m, d)``; needed for ``kl``.
        rows: Row of *reference* of each target, shape ``(m,)``, int64, where it is not the target's
            own number; targets of one row that stand side by side share its distribution.
        vocabulary: ``V``, which decides the rows of a chunk.

    Returns:
        float32 losses; the softmax is taken in float32 whatever the model's dtype.
    """
    wanted = set(measures)
    size = min(1024, max(16, CHUNK_ELEMENTS // vocabulary))
    parts: dict[str, list[torch.Tensor]] = {
        name: [] for name in MEASURES if name in wanted | {"nll"}
    }
    for start in range(0, len(labels), size):
        chunk = slice(start, start + size)
        logp = _log_softmax(head(states[chunk]))
        parts["nll"].append(-logp.gather(1, labels[chunk, None])[:, 0])
        if "top1" in wanted:
            parts["top1"].append(logp.argmax(dim=-1) == labels[chunk])
        if "entropy" in wanted:
            parts["entropy"].append(torch.special.entr(logp.exp()).sum(dim=-1))
        if "kl" in wanted and reference is not None:
            intact = _intact(head, reference, chunk, rows)
            mass = intact.exp()
            # A token without mass adds nothing; written out it would be NaN where both are -inf.
            terms = intact.sub_(logp).mul_(mass).masked_fill_(mass == 0, 0.0)
            parts["kl"].append(terms.sum(dim=-1))
    return Losses(**{name: _array(chunks) for name, chunks in parts.items() if chunks})


def _intact(
    head: Head, reference: torch.Tensor, chunk: slice, rows: torch.Tensor | None
) -> torch.Tensor:
    """Log-probabilities of the intact pass for the targets of a chunk, shape ``(chunk, V)``."""
    if rows is None:
        return _log_softmax(head(reference[chunk]))
    some, back = torch.unique_consecutive(rows[chunk], return_inverse=True)
    return _log_softmax(head(reference[some]))[back]


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits, dim=-1, dtype=torch.float32)


def _array(chunks: list[torch.Tensor]) -> Any:
    return torch.cat(chunks).cpu().numpy()
