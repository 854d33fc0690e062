"""How fast a model is on this machine: one short measurement, for the estimate of a plan."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from probe.losses import token_losses
from probe.models.causal import CausalModel

PIECE = 512  # tokens forwarded for the measurement
ROWS = 128  # targets scored for it


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Args:
        tokens_per_second: Through the body.
        targets_per_second: Through the head.
        weights: Bytes of the weights.
        cache_per_token: Bytes of keys and values per token, 0 where there is no such cache.
    """

    tokens_per_second: float
    targets_per_second: float
    weights: int
    cache_per_token: float

    def seconds(self, tokens: int, targets: int) -> float:
        """Time that a run takes, without loading and self-check."""
        return tokens / self.tokens_per_second + targets / self.targets_per_second

    def cache(self, tokens: int) -> float:
        """Bytes of keys and values of a window."""
        return self.cache_per_token * tokens


def speed(model: CausalModel, ids: NDArray[np.int64]) -> Speed:
    """Forward a piece of a text twice, score some of its targets, and time the second pass.

    Args:
        model: The model.
        ids: Token ids, shape ``(n,)``.
    """
    piece = torch.from_numpy(np.ascontiguousarray(ids[:PIECE]))[None].to(model.device)
    with torch.inference_mode(), model.exact_head():
        for _ in range(2):
            started = time.perf_counter()
            states, cache = model.states(piece)
            _wait(model)
            body = time.perf_counter() - started
            rows = states[0, :ROWS]
            started = time.perf_counter()
            labels = piece[0, : len(rows)]
            token_losses(model.head, rows, labels, vocabulary=model.vocabulary)
            head = time.perf_counter() - started
    held = [t for layer in getattr(cache, "layers", []) for t in vars(layer).values()]
    size = sum(t.nbytes for t in held if isinstance(t, torch.Tensor) and t.ndim == 4)
    weights = sum(p.nbytes for p in model.model.parameters())
    return Speed(piece.numel() / body, len(rows) / head, weights, size / piece.numel())


def _wait(model: CausalModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
