"""Beginnings that windows have in common, forwarded once: their caches and hidden states."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, DynamicCache

from probe.models.causal import is_plain, snapshot
from probe.models.device import free_memory
from probe.models.scorer import Scorer

MOST_BYTES = 2 << 30
"""Of what is known of all beginnings, on a CPU; of a GPU an eighth of its free memory."""

Forward = Callable[[NDArray[np.int64]], tuple[torch.Tensor, Cache | None]]
"""From token ids, shape ``(1, n)``, to their hidden states and a cache of all of them."""


@dataclass(eq=False)
class BeginningCaches:
    """Caches of beginnings, from their first use to the end of a run.

    Each is forwarded whole and alone, so that its bytes do not depend on which window comes first.
    None makes room for another: windows take turns with all, and would each find its own gone.

    Args:
        model: The model.
    """

    model: Scorer
    _known: dict[bytes, tuple[torch.Tensor, Cache] | None] = field(default_factory=dict, init=False)
    _left: float | None = field(default=None, init=False)

    def of(
        self, beginnings: Sequence[NDArray[np.int64]], span: slice, forward: Forward
    ) -> tuple[torch.Tensor, Cache] | None:
        """Hidden states of a span of beginnings, and a cache that ends with it.

        Args:
            beginnings: The beginning of each window, shape ``(n,)``, int64.
            span: First token, and one past the last.
            forward: Called for each beginning that is new.

        Returns:
            Hidden states, shape ``(windows, tokens, width)``; ``None`` where a cache does not keep
            every key, or there is no room for it.
        """
        every = [self._one(ids, forward) for ids in beginnings]
        known = [one for one in every if one is not None]
        if len(known) < len(every):
            return None
        states = torch.cat([states[:, span] for states, _ in known])
        caches = [cache for _, cache in known]
        joined = snapshot(caches[0])
        for layer, *others in zip(joined.layers, *(one.layers for one in caches), strict=True):
            for name in ("keys", "values"):
                parts = [getattr(one, name)[:, :, : span.stop] for one in others]
                setattr(layer, name, parts[0] if len(parts) == 1 else torch.cat(parts))
        return states, joined

    def _one(self, ids: NDArray[np.int64], forward: Forward) -> tuple[torch.Tensor, Cache] | None:
        key = ids.tobytes()
        if key not in self._known and self._left != 0:
            states, cache = forward(ids[None])
            if self._left is None:
                free = free_memory(self.model.model)
                self._left = MOST_BYTES if free is None else free / 8
            size = math.inf
            if isinstance(cache, DynamicCache) and is_plain(cache):
                layers: list[Any] = cache.layers
                size = states.nbytes + sum(one.keys.nbytes + one.values.nbytes for one in layers)
            # What does not fit leaves no room for the next, which is as long.
            self._left = max(0, self._left - size)
            self._known[key] = (states, cast(Cache, cache)) if self._left else None
        return self._known.get(key)
