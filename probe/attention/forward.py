"""The attention of one layer under a pattern: each part of it on its own heads."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from probe.attention.patterns import Part
from probe.attention.terms.hardcoded import Weights, Zero
from probe.attention.terms.lowrank import LowRank, Turn
from probe.errors import UsageError


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model lets its queries see, and where they stand.

    Args:
        own: The model's own mask, shape ``(batch or 1, 1, queries, keys)``, bool.
        queries: Index of each query in the sequence, shape ``(queries,)``, int64.
        keys: Index of each key, shape ``(keys,)``.
        made: Masks of patterns that were made of it already: layers share them.
    """

    own: torch.Tensor
    queries: torch.Tensor
    keys: torch.Tensor
    made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def allowed(self, part: Part, layer: int, heads: Sequence[int]) -> torch.Tensor:
        """The model's own mask and a pattern's, shape ``(batch or 1, 1 or heads, queries, keys)``.

        Args:
            part: Whose masks.
            layer: Number of the layer.
            heads: Numbers of the heads.
        """
        if not part.masks:
            return self.own
        if part.masks in self.made:
            made: torch.Tensor = self.made[part.masks]
            return made
        head = self.queries.new_tensor(list(heads))[:, None, None] if part.varies else 0
        # What is later is hidden by the model's own mask, or, in encoders, is not.
        seen: torch.Tensor = self.own & part.allowed(
            self.queries[:, None], self.keys[None], layer=layer, head=head, symmetric=True
        )
        if not part.varies:  # no other layer has the same, and all of them would be too much
            self.made[part.masks] = seen
        return seen


@dataclass(frozen=True, eq=False)
class Heads:
    """Queries of some heads of a layer, and the keys and values of all.

    Args:
        query: Shape ``(batch, heads, queries, d)``.
        key: Shape ``(batch, kv_heads, keys, d)``.
        value: Shape ``(batch, kv_heads, keys, e)``.
        shared: Number of the key-value head of each query head.
        scaling: What products of queries and keys are multiplied with.
        softcap: The bound of their tanh, if they have one.
        eager: Whether to attend as transformers' eager attention does, which rounds otherwise.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    shared: tuple[int, ...]
    scaling: float | None
    softcap: float | None
    eager: bool = False

    def each(self, some: torch.Tensor) -> torch.Tensor:
        """Keys or values, one for each query head: shape ``(batch, heads, keys, d)``."""
        own = self.shared == tuple(range(some.shape[1]))
        return some if own else some[:, list(self.shared)]

    def attend(self, mask: torch.Tensor) -> torch.Tensor:
        """Attend under a mask: bool, or float and added to the logits.

        Returns:
            Shape ``(batch, heads, queries, e)``.
        """
        key, value = self.each(self.key), self.each(self.value)
        if self.softcap is None and not self.eager:
            return scaled_dot_product_attention(
                self.query, key, value, attn_mask=mask, scale=self.scaling
            )
        scaling = self.query.shape[-1] ** -0.5 if self.scaling is None else self.scaling
        logits = self.query @ key.mT * scaling
        if self.softcap is not None:
            logits = (logits / self.softcap).tanh() * self.softcap
        if mask.dtype == torch.bool:
            logits = logits.masked_fill(~mask, -torch.inf)
        else:
            logits = logits + mask
        weights = torch.softmax(logits, dim=-1, dtype=torch.float32)
        return weights.to(value.dtype) @ value


def attend(
    heads: Heads,
    part: Part,
    seen: Seen,
    *,
    layer: int,
    numbers: Sequence[int],
    boundary: int,
    turn: Turn | None = None,
) -> torch.Tensor:
    """Attend as a part of a pattern says.

    Args:
        heads: Queries, keys and values of the part's heads.
        part: The part.
        seen: What the model lets them see.
        layer: Number of the layer.
        numbers: Numbers of the heads.
        boundary: Index of the first near token, where the part tells far from near.
        turn: How this layer's keys are rotated, where the part needs it.

    Returns:
        Shape ``(batch, heads, queries, e)``.

    Raises:
        UsageError: If a low-rank part meets keys that were dropped or hidden already.
    """
    allowed = seen.allowed(part, layer, numbers)
    if part.weights is not None:
        return _fixed(heads, part.weights, allowed, seen)
    if part.lowrank is not None:
        return _compressed(heads, part.lowrank, seen, layer=layer, boundary=boundary, turn=turn)
    return heads.attend(allowed)


def _fixed(heads: Heads, term: Weights, allowed: torch.Tensor, seen: Seen) -> torch.Tensor:
    value = heads.each(heads.value)
    if isinstance(term, Zero):
        return value.new_zeros((*heads.query.shape[:3], value.shape[-1]))
    if term.attends:
        if len(seen.queries) != len(seen.keys):
            raise UsageError(f"{term} needs what the head gave before; allowed: a whole text")
        value, allowed = heads.attend(allowed), seen.own
    logs = term.log_weights(seen.queries[:, None], seen.keys[None]).float()
    logs = logs.expand(allowed.shape).masked_fill(~allowed, -torch.inf)
    weights = torch.softmax(logs, dim=-1) if term.renormalised else logs.exp()
    return weights.to(value.dtype) @ value


def _compressed(
    heads: Heads, term: LowRank, seen: Seen, *, layer: int, boundary: int, turn: Turn | None
) -> torch.Tensor:
    """Far queries as ever; near ones on the first key, the compressed far and the near keys."""
    far, near = slice(1, boundary), slice(boundary, None)
    late = seen.queries >= boundary
    first = int((~late).sum())
    if boundary <= 1 or first == len(late):
        return heads.attend(seen.own)
    if not bool((seen.keys == torch.arange(len(seen.keys), device=seen.keys.device)).all()):
        raise UsageError(f"{term} compresses far keys, and layer {layer} has dropped some of them")
    if not bool(seen.own[:, :, first:, :boundary].all()):
        raise UsageError(
            f"{term} compresses far keys, and layer {layer} hides some of them from near queries "
            "by itself (sliding window); allowed: heads(..., layers=[...]) of its full layers"
        )
    turn = None if turn is None else partial(turn, length=len(seen.keys))
    keys, values, bias = term.compress(
        heads.key[:, :, far], heads.value[:, :, far], layer=layer, turn=turn
    )
    own = seen.own[:, :, first:]
    # In float32: log(size) rounded to bfloat16 would weigh every segment too little or too much.
    added = torch.zeros(own.shape, device=keys.device).masked_fill_(~own, -torch.inf)
    bias = bias.expand(*own.shape[:3], len(bias))
    key = torch.cat([heads.key[:, :, :1], keys, heads.key[:, :, near]], dim=2)
    value = torch.cat([heads.value[:, :, :1], values, heads.value[:, :, near]], dim=2)
    output = replace(
        heads, query=heads.query[:, :, first:].float(), key=key.float(), value=value.float()
    ).attend(torch.cat([added[..., :1], bias, added[..., near]], dim=-1))
    output = output.to(heads.value.dtype)
    if first == 0:
        return output
    exact = replace(heads, query=heads.query[:, :, :first]).attend(seen.own[:, :, :first])
    return torch.cat([exact, output], dim=2)
