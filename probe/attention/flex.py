"""A pattern on a model as block masks of torch's flex_attention, which really skips blocks."""

import warnings
from collections.abc import Sequence

import torch
from torch import nn
from torch._dynamo import config
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers.integrations.flex_attention import flex_attention_forward

from probe.attention.forward import Heads, Seen
from probe.attention.patterns import Part
from probe.attention.put import Put

_KERNELS = 256  # shapes that may be met in one process


class FlexPut(Put):
    """A pattern of masks, each the same in all heads of a layer; see `Put`.

    What a query sees of a block that it sees in part is read from a table. So one kernel serves
    every pattern of a shape, and nothing is compiled anew where the pattern changes.
    """

    def _attend(
        self, module: nn.Module, heads: Heads, part: Part, seen: Seen, numbers: Sequence[int]
    ) -> torch.Tensor:
        # Beyond torch's limit of kernels (8) it would go on without one, and skip nothing.
        with warnings.catch_warnings(), config.patch(recompile_limit=_KERNELS):
            warnings.simplefilter("ignore")  # torch's compiler warns of its own parts
            output, _ = flex_attention_forward(
                module,
                heads.query,
                heads.key,
                heads.value,
                _blocks(seen, part, self.calls.layer(module, len(numbers))),
                scaling=heads.scaling,
                softcap=heads.softcap,
            )
        attended: torch.Tensor = output.transpose(1, 2)
        return attended


def _blocks(seen: Seen, part: Part, layer: int) -> BlockMask:
    """The block mask of what is seen, made once for all layers that see the same."""
    name = ("blocks", part.masks)
    if name not in seen.made:
        allowed = seen.allowed(part, layer, (0,))
        rows, _, queries, keys = allowed.shape
        table = allowed[:, 0].contiguous()

        def one(
            _batch: torch.Tensor, _head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
        ) -> torch.Tensor:
            return table[0, query, key]

        def each(
            batch: torch.Tensor, _head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
        ) -> torch.Tensor:
            return table[batch, query, key]

        seen.made[name] = create_block_mask(
            one if rows == 1 else each,
            None if rows == 1 else rows,
            None,
            queries,
            keys,
            device=allowed.device,
        )
    made: BlockMask = seen.made[name]
    return made
