"""The attention of some heads of one layer under a pattern, by the rule that they share."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from probe.attention.pattern import HeadRule
from probe.attention.terms.hardcoded import Weights, Zero
from probe.attention.terms.lowrank import LowRank, Turn
from probe.errors import UsageError


@dataclass(frozen=True, eq=False)
class Visible:
    """What a model by itself lets its queries see, and where they stand.

    Args:
        mask: The model's own mask, shape ``(batch or 1, 1, queries, keys)``, bool.
        queries: Index of each query in the sequence, shape ``(queries,)``, int64.
        keys: Index of each key, shape ``(keys,)``.
        made: Masks of patterns that were made of it already: layers share them.
    """

    mask: torch.Tensor
    queries: torch.Tensor
    keys: torch.Tensor
    made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def under(self, rule: HeadRule, layer: int, heads: Sequence[int]) -> torch.Tensor:
        """The model's own mask and a rule's, shape ``(batch or 1, 1 or heads, queries, keys)``.

        Args:
            rule: Whose masks.
            layer: Number of the layer.
            heads: Numbers of the heads.
        """
        if not rule.masks:
            return self.mask
        if rule.masks in self.made:
            made: torch.Tensor = self.made[rule.masks]
            return made
        head = self.queries.new_tensor(list(heads))[:, None, None] if rule.varies else 0
        # What is later is hidden by the model's own mask, or, in encoders, is not.
        visible: torch.Tensor = self.mask & rule.allowed(
            self.queries[:, None], self.keys[None], layer=layer, head=head, symmetric=True
        )
        if not rule.varies:  # no other layer has the same, and all of them would be too much
            self.made[rule.masks] = visible
        return visible


@dataclass(frozen=True, eq=False)
class Heads:
    """Queries of some heads of a layer, and the keys and values of all.

    Args:
        query: Shape ``(batch, heads, queries, d)``.
        key: Shape ``(batch, kv_heads, keys, d)``.
        value: Shape ``(batch, kv_heads, keys, e)``.
        layer: Number of the layer.
        numbers: Numbers of the heads.
        group: Query heads that share a key-value head.
        scaling: What products of queries and keys are multiplied with.
        softcap: The bound of their tanh, if they have one.
        eager: Whether to attend as transformers' eager attention does, which rounds otherwise.
        bias: What the model adds to the logits, shape ``(batch or 1, heads, queries, keys)``.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    layer: int
    numbers: Sequence[int]
    group: int
    scaling: float | None
    softcap: float | None
    eager: bool = False
    bias: torch.Tensor | None = None

    def each(self, shared: torch.Tensor) -> torch.Tensor:
        """Keys or values, one for each query head: shape ``(batch, heads, keys, d)``."""
        kv_heads = [number // self.group for number in self.numbers]
        return shared if kv_heads == list(range(shared.shape[1])) else shared[:, kv_heads]

    def attend(self, mask: torch.Tensor) -> torch.Tensor:
        """Attend under a mask: bool, or float and added to the logits.

        Returns:
            Shape ``(batch, heads, queries, e)``.
        """
        key, value = self.each(self.key), self.each(self.value)
        if self.bias is not None:
            hides = mask.dtype == torch.bool
            mask = self.bias.masked_fill(~mask, -torch.inf) if hides else self.bias + mask
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
    rule: HeadRule,
    visible: Visible,
    *,
    boundary: int,
    turn: Turn | None = None,
) -> torch.Tensor:
    """Attend in heads as their rule says.

    Args:
        heads: Queries, keys and values of the heads.
        rule: The rule.
        visible: What the model lets them see.
        boundary: Index of the first near token, where the rule tells far from near.
        turn: How this layer's keys are rotated, where the rule needs it.

    Returns:
        Shape ``(batch, heads, queries, e)``.

    Raises:
        UsageError: If a low-rank rule meets keys that were dropped or hidden already.
    """
    mask = visible.under(rule, heads.layer, heads.numbers)
    if rule.weights is not None:
        return _hardcoded(heads, rule.weights, mask, visible)
    if rule.lowrank is not None:
        return _compressed(heads, rule.lowrank, visible, boundary=boundary, turn=turn)
    return heads.attend(mask)


def _hardcoded(heads: Heads, term: Weights, mask: torch.Tensor, visible: Visible) -> torch.Tensor:
    """Values weighted by position alone."""
    value = heads.each(heads.value)
    if isinstance(term, Zero):
        return value.new_zeros((*heads.query.shape[:3], value.shape[-1]))
    if term.attends:
        if len(visible.queries) != len(visible.keys):
            raise UsageError(f"{term} needs what the head gave before; allowed: a whole text")
        value, mask = heads.attend(mask), visible.mask
    logs = term.log_weights(visible.queries[:, None], visible.keys[None]).float()
    logs = logs.expand(mask.shape).masked_fill(~mask, -torch.inf)
    weights = torch.softmax(logs, dim=-1) if term.renormalised else logs.exp()
    return weights.to(value.dtype) @ value


def _compressed(
    heads: Heads, term: LowRank, visible: Visible, *, boundary: int, turn: Turn | None
) -> torch.Tensor:
    """Far queries as ever; near ones on the first key, the compressed far and the near keys."""
    far, near = slice(1, boundary), slice(boundary, None)
    late = visible.queries >= boundary
    first = int((~late).sum())
    if boundary <= 1 or first == len(late):
        return heads.attend(visible.mask)
    in_order = torch.arange(len(visible.keys), device=visible.keys.device)
    if not bool((visible.keys == in_order).all()):
        raise UsageError(
            f"{term} compresses far keys, and layer {heads.layer} has dropped some of them"
        )
    if not bool(visible.mask[:, :, first:, :boundary].all()):
        raise UsageError(
            f"{term} compresses far keys, and layer {heads.layer} hides some of them from near "
            "queries by itself (sliding window); allowed: heads(..., layers=[...]) of its full "
            "layers"
        )
    turn = None if turn is None else partial(turn, length=len(visible.keys))
    keys, values, bias = term.compress(
        heads.key[:, :, far], heads.value[:, :, far], layer=heads.layer, turn=turn
    )
    mask = visible.mask[:, :, first:]
    # In float32: log(size) rounded to bfloat16 would weigh every segment too little or too much.
    added = torch.zeros(mask.shape, device=keys.device).masked_fill_(~mask, -torch.inf)
    bias = bias.expand(*mask.shape[:3], len(bias))
    # The first token stays exact: heads that have nothing to say attend to it, and a mean of it
    # with others would take that away.
    key = torch.cat([heads.key[:, :, :1], keys, heads.key[:, :, near]], dim=2)
    value = torch.cat([heads.value[:, :, :1], values, heads.value[:, :, near]], dim=2)
    output = replace(
        heads, query=heads.query[:, :, first:].float(), key=key.float(), value=value.float()
    ).attend(torch.cat([added[..., :1], bias, added[..., near]], dim=-1))
    output = output.to(heads.value.dtype)
    if first == 0:
        return output
    exact = replace(heads, query=heads.query[:, :, :first]).attend(visible.mask[:, :, :first])
    return torch.cat([exact, output], dim=2)
