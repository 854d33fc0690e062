"""What transformers calls instead of its masks and its attention while a pattern is installed."""

import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import nn
from torch._dynamo import config
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.masking_utils import sdpa_mask

from probe.attention.forward import Heads, Seen, attend
from probe.attention.patterns import Part, Pattern
from probe.attention.trial import Calls, settings
from probe.errors import UsageError
from probe.text import shown

if TYPE_CHECKING:
    from probe.attention.rotary import Rotary

_NUMBERS = itertools.count()
_PLACES = "_context_probe_places"
_REFUSED = ("s_aux", "position_bias")  # what some families add to the logits


class Put:
    """A pattern on a model, as dense masks.

    Args:
        pattern: The pattern.
        family: Name of the model's class, for errors.
        boundary: Index of the first near token, for patterns that tell far from near.

    Attributes:
        calls: Which layers called it.
        symmetric: Whether the model lets queries see later keys, as encoders do; ``None`` before
            the first forward.
        note: One line where something was asked for that cannot be had, empty otherwise.
        rotary: The model's rotary embedding, for patterns that need it.
        eager: Whether the model attends eagerly without a pattern, so that it rounds alike.
    """

    def __init__(self, pattern: Pattern, family: str, boundary: int | None = None) -> None:
        self.pattern, self.family, self.boundary = pattern, family, boundary
        self.calls = Calls()
        self.symmetric: bool | None = None
        self.note = ""
        self.rotary: Rotary | None = None
        self.eager = False
        self._parts = cache(pattern.parts)

    def place(self, mask: torch.Tensor, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Say where the tokens stand that a mask of one's own is about.

        A mask of four dimensions that is handed to a model does not tell; it must be placed first.

        Args:
            mask: Shape ``(batch or 1, 1, queries, keys)``, bool, or float where 0 is seen.
            queries: Index of each query in its sequence, shape ``(queries,)``, int64.
            keys: Index of each key in its sequence, shape ``(keys,)``.

        Returns:
            *mask* itself, which remembers it for as long as it lives.
        """
        places = {"queries": queries, "keys": keys, "made": {}}
        if mask.dtype != torch.bool:
            places["own"] = mask == 0
        setattr(mask, _PLACES, places)
        return mask

    def make_mask(
        self,
        *,
        q_length: int,
        kv_length: int,
        q_offset: int = 0,
        kv_offset: int = 0,
        device: torch.device | str = "cpu",
        **given: Any,
    ) -> torch.Tensor:
        """Make the model's own mask, also where it needs none; parameters are transformers'.

        Returns:
            True where a key is seen, shape ``(batch or 1, 1, queries, keys)``.
        """
        given |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        mask = sdpa_mask(
            q_length=q_length,
            kv_length=kv_length,
            q_offset=q_offset,
            kv_offset=kv_offset,
            device=device,
            **given,
        )
        assert mask is not None
        if mask.stride(0) == 0:
            mask = mask[:1]  # the same for all rows of a batch
        if self.symmetric is None and q_length > 1:
            self.symmetric = bool(mask[0, 0, 0, -1])
        queries = torch.arange(q_length, device=device) + q_offset
        return self.place(mask, queries, torch.arange(kv_length, device=device) + kv_offset)

    def attention(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        softcap: float | None = None,
        **given: Any,
    ) -> tuple[torch.Tensor, None]:
        """Attend in one layer as the pattern says; parameters are transformers'.

        Returns:
            Shape ``(batch, queries, heads, e)``, and no weights.

        Raises:
            UsageError: If the model does with its attention what a pattern would undo.
        """
        count, shared = query.shape[1], query.shape[1] // key.shape[1]
        layer = self.calls.layer(module, count)
        self.calls.cached = (key.shape[1], key.shape[3], value.shape[3])
        self._refuse_unknown(given)
        seen = self._seen(attention_mask, key.shape[2])
        output = query.new_empty((*query.shape[:3], value.shape[-1]))
        for part, numbers in self._parts(layer, count).items():
            every = len(numbers) == count
            heads = Heads(
                query if every else query[:, numbers],
                key,
                value,
                tuple(number // shared for number in numbers),
                scaling,
                softcap,
                self.eager,
            )
            got = self._attend(module, heads, part, seen, numbers)
            if every:
                output = got
            else:
                output[:, numbers] = got
        return output.transpose(1, 2).contiguous(), None

    def _attend(
        self, module: nn.Module, heads: Heads, part: Part, seen: Seen, numbers: Sequence[int]
    ) -> torch.Tensor:
        """Attend in the heads *numbers* of one layer, shape ``(batch, heads, queries, e)``."""
        layer = self.calls.layer(module, len(numbers))
        return attend(
            heads,
            part,
            seen,
            layer=layer,
            numbers=numbers,
            boundary=self.boundary or 0,
            turn=None if self.rotary is None else partial(self.rotary.turn, module, layer),
        )

    def _seen(self, mask: torch.Tensor | None, keys: int) -> Seen:
        places = getattr(mask, _PLACES, None)
        if mask is None or places is None:
            self._refuse("hands its attention a mask that no index is known of; allowed: no mask")
        if mask.shape[-1] != keys:
            self._refuse(f"has {keys} keys under a mask of {mask.shape[-1]}; allowed: as many")
        return Seen(**{"own": mask, **places})

    def _refuse_unknown(self, given: dict[str, Any]) -> None:
        for name in _REFUSED:
            if given.get(name) is not None:
                self._refuse(f"adds {name} to its logits, which patterns would leave out")

    def _refuse(self, what: str) -> NoReturn:
        raise UsageError(f"pattern {shown(self.pattern.text)}: {self.family} {what}")


@contextmanager
def registered(model: PreTrainedModel, put: Put) -> Iterator[None]:
    """Have transformers call *put* for a model, whatever happens only for so long."""
    before = settings(model)
    put.eager = model.config.get_text_config()._attn_implementation == "eager"
    name = f"context_probe_{next(_NUMBERS)}"
    AttentionInterface.register(name, put.attention)
    AttentionMaskInterface.register(name, put.make_mask)
    try:
        for config, _ in before:
            config._attn_implementation = name
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation
        # There is a public way to register for all families, but none to take that back.
        AttentionInterface._global_mapping.pop(name)
        AttentionMaskInterface._global_mapping.pop(name)


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
