"""A pattern on a model as block masks of torch's flex_attention, which really skips blocks."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.masking_utils import (
    and_masks,
    causal_mask_function,
    padding_mask_function,
    prepare_padding_mask,
)

from probe.attention.masks import Mask
from probe.attention.patterns import Part, Pattern
from probe.attention.put import Put
from probe.errors import UsageError


class FlexPut(Put):
    """A pattern of masks that are the same in all layers and heads; see `Put`.

    Raises:
        UsageError: If the pattern is another one.
    """

    def __init__(self, pattern: Pattern, family: str, boundary: int | None = None) -> None:
        super().__init__(pattern, family, boundary)
        masks = [p.term for p in pattern.placed if isinstance(p.term, Mask) and not p.term.varies]
        placed = any(p.layers is not None or p.heads is not None for p in pattern.placed)
        if placed or len(masks) < len(pattern.placed):
            raise UsageError(
                f"pattern {pattern.text!r} with flex: one block mask serves all layers and heads; "
                "allowed: masks without heads(...) but random"
            )
        self.part = Part(tuple(masks))

    def make_mask(  # type: ignore[override]  # a block mask is no tensor
        self,
        *,
        batch_size: int,
        q_length: int,
        kv_length: int,
        q_offset: int = 0,
        kv_offset: int = 0,
        mask_function: Callable[..., Any] = causal_mask_function,
        attention_mask: torch.Tensor | None = None,
        device: torch.device | str = "cpu",
        **_given: Any,
    ) -> Any:
        """Make the block mask of the model's own and the pattern's; parameters are transformers'.

        Returns:
            A ``BlockMask`` of torch.
        """
        own = mask_function
        if attention_mask is not None:
            padding = prepare_padding_mask(attention_mask, kv_length, kv_offset)
            assert padding is not None
            own = and_masks(own, padding_mask_function(padding))

        def allowed(
            batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
        ) -> Any:
            query, key = query + q_offset, key + kv_offset
            return own(batch, head, query, key) & self.part.allowed(query, key, symmetric=True)

        rows = None if attention_mask is None else batch_size
        return create_block_mask(allowed, rows, None, q_length, kv_length, device=device)

    def attention(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: Any,
        scaling: float | None = None,
        softcap: float | None = None,
        **given: Any,
    ) -> tuple[torch.Tensor, None]:
        """Attend in one layer; parameters are transformers'.

        Returns:
            Shape ``(batch, queries, heads, e)``, and no weights.
        """
        self.calls.layer(module, query.shape[1])
        self._refuse_unknown(given)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's compiler warns of its own parts
            output, _ = flex_attention_forward(
                module, query, key, value, attention_mask, scaling=scaling, softcap=softcap
            )
        return output, None
