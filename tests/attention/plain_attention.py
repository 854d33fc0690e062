"""Attention written out plainly, one head and query after another: what all is compared with."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from models import plain_logp
from numpy.typing import NDArray
from transformers import AttentionInterface, PreTrainedModel

Sees = Callable[[int, int], bool]
Head = Callable[..., torch.Tensor]

SEES: dict[str, Sees] = {
    "local(w=5)": lambda i, j: abs(i - j) < 5 or j == 0,
    "local(w=1, sinks=0)": lambda i, j: i == j,
    "local(w=6, sinks=4)": lambda i, j: abs(i - j) < 6 or j < 4,
    "blocks(size=7)": lambda i, j: i // 7 == j // 7 or j == 0,
    "blocks(size=8, sinks=0)": lambda i, j: i // 8 == j // 8,
    "dilated(w=3, gap=2)": lambda i, j: abs(i - j) in (0, 3, 6) or j == 0,
    "dilated(w=4, gap=0, sinks=0)": lambda i, j: abs(i - j) < 4,
    "strided(stride=4)": lambda i, j: abs(i - j) % 4 == 0 or j == 0,
    "global(positions=[3, 11])": lambda i, j: i == j or j in (0, 3, 11) or i in (3, 11),
    "global(positions=6, sinks=0) + local(w=3, sinks=0)": lambda i, j: (
        abs(i - j) < 3 or 6 in (i, j)
    ),
    "dilated(w=2, gap=9) + blocks(size=4)": lambda i, j: (
        abs(i - j) in (0, 10) or i // 4 == j // 4 or j == 0
    ),
}
"""Masks by their text, each with what a query and a key are to each other where both directions
are seen."""


def double_loop(sees: Sees, length: int, *, symmetric: bool = False) -> NDArray[np.bool_]:
    """A mask filled in one by one, shape ``(length, length)``."""
    mask = np.zeros((length, length), dtype=bool)
    for i in range(length):
        for j in range(length):
            mask[i, j] = sees(i, j) and (symmetric or j <= i)
    return mask


def additive(mask: NDArray[np.bool_]) -> torch.Tensor:
    """What a plain model takes for a mask, shape ``(1, 1, n, n)``, float32."""
    zeros = torch.zeros(mask.shape)
    return zeros.masked_fill(~torch.from_numpy(mask), torch.finfo(torch.float32).min)[None, None]


def softmax_head(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, product: Any, **_: Any
) -> torch.Tensor:
    """What an untouched head does: causal attention, shape ``(n, e)``."""
    rows = []
    for i in range(len(query)):
        logits = torch.stack([product(query[i], key[j]) for j in range(i + 1)])
        rows.append(torch.softmax(logits, dim=0) @ value[: i + 1])
    return torch.stack(rows)


def gaussian_head(offset: int, sigma: float, *, renormalise: bool) -> Head:
    """A head of Gaussian weights."""

    def head(value: torch.Tensor, **_: Any) -> torch.Tensor:
        rows = []
        for i in range(len(value)):
            weights = [math.exp(-((j - i - offset) ** 2) / (2 * sigma**2)) for j in range(i + 1)]
            total = sum(weights) if renormalise else sigma * math.sqrt(2 * math.pi)
            rows.append(torch.tensor([w / total for w in weights]) @ value[: i + 1])
        return torch.stack(rows)

    return head


def first_head(value: torch.Tensor, **_: Any) -> torch.Tensor:
    """A head that gives the first token's value."""
    return value[:1].expand(len(value), -1)


def zero_head(value: torch.Tensor, **_: Any) -> torch.Tensor:
    """A head that gives nothing."""
    return torch.zeros_like(value)


def uniform_head(value: torch.Tensor, **_: Any) -> torch.Tensor:
    """A head that gives the mean of the values so far."""
    return torch.stack([value[: i + 1].mean(dim=0) for i in range(len(value))])


def mean_head(**given: Any) -> torch.Tensor:
    """A head that gives the mean of what it would have given so far."""
    return uniform_head(softmax_head(**given))


def masked_head(sees: Callable[[int, int, int, int], bool]) -> Head:
    """A head that attends to what *sees*, given query, key, layer and head, lets it see."""

    def head(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        product: Any,
        layer: int,
        number: int,
        **_: Any,
    ) -> torch.Tensor:
        rows = []
        for i in range(len(query)):
            seen = [j for j in range(i + 1) if sees(i, j, layer, number)]
            logits = torch.stack([product(query[i], key[j]) for j in seen])
            rows.append(torch.softmax(logits, dim=0) @ value[seen])
        return torch.stack(rows)

    return head


def compressed_head(compress: Callable[..., Any], boundary: int) -> Head:
    """A head whose near queries see the first token, what *compress* makes of far, and near."""

    def head(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        product: Any,
        layer: int,
        shared: int,
        **_: Any,
    ) -> torch.Tensor:
        rows = list(softmax_head(query, key, value, product)[:boundary])
        keys, values, bias = compress(key[1:boundary], value[1:boundary], layer, shared)
        for i in range(boundary, len(query)):
            seen = torch.cat([key[:1], keys, key[boundary : i + 1]])
            added = [0.0, *bias, *[0.0] * (i + 1 - boundary)]
            logits = torch.stack([product(query[i], seen[m]) + added[m] for m in range(len(seen))])
            held = torch.cat([value[:1], values, value[boundary : i + 1]])
            rows.append(torch.softmax(logits, dim=0) @ held)
        return torch.stack(rows)

    return head


def plain_heads(
    model: PreTrainedModel,
    ids: NDArray[np.int64],
    head: Head,
    *,
    layers: tuple[int, ...],
    heads: tuple[int, ...],
) -> NDArray[np.float64]:
    """Log-probabilities of a model with a head of ours in some places, shape ``(n, V)``.

    Args:
        model: A decoder without sliding windows shorter than the text.
        ids: Token ids, shape ``(n,)``.
        head: What stands in some places; all others attend as ever.
        layers: Numbers of their layers.
        heads: Numbers of their query heads.
    """

    def attention(
        module: Any, query: Any, key: Any, value: Any, _mask: Any, scaling: float, **given: Any
    ) -> tuple[torch.Tensor, None]:
        cap = given.get("softcap")

        def product(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            logit = (one @ other) * scaling
            return logit if cap is None else cap * torch.tanh(logit / cap)

        outputs = []
        for number in range(query.shape[1]):
            shared = number * key.shape[1] // query.shape[1]
            ours = module.layer_idx in layers and number in heads
            outputs.append(
                (head if ours else softmax_head)(
                    query=query[0, number],
                    key=key[0, shared],
                    value=value[0, shared],
                    product=product,
                    layer=module.layer_idx,
                    number=number,
                    shared=shared,
                )
            )
        return torch.stack(outputs, dim=1)[None], None

    before = model.config._attn_implementation
    AttentionInterface.register("plain_attention", attention)
    model.config._attn_implementation = "plain_attention"
    try:
        return plain_logp(model, ids)
    finally:
        model.config._attn_implementation = before
        AttentionInterface._global_mapping.pop("plain_attention")
