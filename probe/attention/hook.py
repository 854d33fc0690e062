"""The hook that transformers calls in place of its masks and its attention, as a pattern says.

transformers looks both up by the name in a model's configuration: a mask function, called once a
forward, and an attention function, called in every layer. A hook is registered as both, and hands
on what it learns of the tokens in the first to the second.
"""

import inspect
import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import nn
from torch._dynamo import config
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.masking_utils import sdpa_mask

from probe.attention.forward import Heads, Visible, attend
from probe.attention.pattern import HeadRule, Pattern
from probe.errors import UsageError
from probe.text import shown

if TYPE_CHECKING:
    from probe.attention.rotary import Rotary

_NUMBERS = itertools.count()
_INDICES = "_context_probe_indices"
_REFUSED = ("s_aux", "position_bias")  # what some families add to the logits
_KERNELS = 256  # shapes that may be met in one process
TOKENS = 8  # of a probe forward


class PatternHook:
    """A pattern as dense masks, to be attached to a model.

    Args:
        pattern: The pattern.
        family: Name of the model's class, for errors.
        boundary: Index of the first near token, for patterns that tell far from near.

    Attributes:
        layers: The numbers of the layers that called it.
        count: How many layers the model has.
        heads: Query heads of a layer, the most.
        cached: Key-value heads, and dimensions of keys and values, as attention is handed them.
        symmetric: Whether the model lets queries see later keys, as encoders do; ``None`` before
            the first forward.
        note: One line where something was asked for that cannot be had, empty otherwise.
        rotary: The model's rotary embedding, for patterns that need it.
        eager: Whether the model attends eagerly without a pattern, so that it rounds alike.
    """

    def __init__(self, pattern: Pattern, family: str, boundary: int | None = None) -> None:
        self.pattern, self.family, self.boundary = pattern, family, boundary
        self.layers: set[int] = set()
        self.count = 1
        self._calls = 0
        self.heads = 0
        self.cached = (0, 0, 0)
        self.symmetric: bool | None = None
        self.note = ""
        self.rotary: Rotary | None = None
        self.eager = False
        # The same in every forward, and slow to work out for a pattern of many heads.
        self._rules = cache(pattern.rules)

    def place(self, mask: torch.Tensor, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Say which tokens a mask of one's own is about.

        A mask of four dimensions that is handed to a model does not tell; it must be placed first.

        Args:
            mask: Shape ``(batch or 1, 1, queries, keys)``, bool, or float where 0 is seen.
            queries: Index of each query in its sequence, shape ``(queries,)``, int64.
            keys: Index of each key in its sequence, shape ``(keys,)``.

        Returns:
            *mask* itself, which remembers it for as long as it lives.
        """
        # On the tensor: it is all that transformers hands on to the layers. What is made of it dies
        # with it at the end of the forward, unless it held the mask itself, in a circle.
        indices = {"queries": queries, "keys": keys, "made": {}}
        if mask.dtype != torch.bool:
            indices["mask"] = mask == 0
        setattr(mask, _INDICES, indices)
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
        # transformers leaves a mask out where attention is plainly causal, and with it the indices.
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
            self.symmetric = bool(mask[0, 0, 0, 1])  # a window may hide the last
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
        count = query.shape[1]
        layer = self._layer(module)
        self.heads = max(self.heads, count)
        self.cached = (key.shape[1], key.shape[3], value.shape[3])
        for name in _REFUSED:
            if given.get(name) is not None:
                self._refuse(f"adds {name} to its logits, which patterns would leave out")
        visible = self._visible(attention_mask, key.shape[2])
        output = query.new_empty((*query.shape[:3], value.shape[-1]))
        for rule, numbers in self._rules(layer, count).items():
            every = len(numbers) == count  # then nothing is copied, neither queries nor output
            heads = Heads(
                query if every else query[:, numbers],
                key,
                value,
                layer,
                numbers,
                count // key.shape[1],
                scaling,
                softcap,
                self.eager,
            )
            attended = self._attend(module, heads, rule, visible)
            if every:
                output = attended
            else:
                output[:, numbers] = attended
        return output.transpose(1, 2).contiguous(), None

    def _layer(self, module: nn.Module) -> int:
        """The number of a module's layer, which it mostly knows.

        Of the others the first to be called is 0; a module that is called for several layers, whose
        weights they share (ALBERT), is each of them in turn.
        """
        number = getattr(module, "layer_idx", None)
        if not isinstance(number, int):
            number = self._calls % self.count
            self._calls += 1
        self.layers.add(number)
        return number

    def _attend(
        self, module: nn.Module, heads: Heads, rule: HeadRule, visible: Visible
    ) -> torch.Tensor:
        """Attend in some heads of one layer, shape ``(batch, heads, queries, e)``."""
        turn = None if self.rotary is None else partial(self.rotary.turn, module, heads.layer)
        return attend(heads, rule, visible, boundary=self.boundary or 0, turn=turn)

    def _visible(self, mask: torch.Tensor | None, keys: int) -> Visible:
        indices = getattr(mask, _INDICES, None)
        if mask is None or indices is None:
            self._refuse("hands its attention a mask that no index is known of; allowed: no mask")
        if mask.shape[-1] != keys:
            self._refuse(f"has {keys} keys under a mask of {mask.shape[-1]}; allowed: as many")
        return Visible(**{"mask": mask, **indices})

    def _refuse(self, what: str) -> NoReturn:
        raise UsageError(f"pattern {shown(self.pattern.text)}: {self.family} {what}")


@contextmanager
def attached(model: PreTrainedModel, hook: PatternHook) -> Iterator[None]:
    """Have transformers call a hook for a model, and stop whatever happens meanwhile."""
    before = _attention_settings(model)
    hook.count = int(getattr(model.config.get_text_config(), "num_hidden_layers", 1))
    hook.eager = model.config.get_text_config()._attn_implementation == "eager"
    # The register is one for the whole process: hooks on two models at once need two names.
    name = f"context_probe_{next(_NUMBERS)}"
    AttentionInterface.register(name, hook.attention)
    AttentionMaskInterface.register(name, hook.make_mask)
    try:
        # The name alone is set: whether a family supports it is tried, not asked, and every part
        # of a model has a configuration of its own.
        for config, _ in before:
            config._attn_implementation = name
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation
        # There is a public way to register for all families, but none to take that back.
        AttentionInterface._global_mapping.pop(name)
        AttentionMaskInterface._global_mapping.pop(name)


def _attention_settings(model: PreTrainedModel) -> list[tuple[PretrainedConfig, str | None]]:
    """Every configuration of a model and its parts, outer ones first, with its attention."""
    parts = (module for module in model.modules() if isinstance(module, PreTrainedModel))
    by_id = {id(config): config for part in parts for config in _nested(part.config)}
    return [(config, config._attn_implementation) for config in by_id.values()]


def _nested(config: PretrainedConfig) -> Iterator[PretrainedConfig]:
    yield config
    for name in config.sub_configs:
        if (part := getattr(config, name, None)) is not None:
            yield from _nested(part)


@torch.inference_mode()
def probe_forward(model: PreTrainedModel, ids: torch.Tensor | None = None) -> torch.Tensor:
    """The first output of a forward, ``(batch, tokens, n)``, to see how a model attends.

    Args:
        model: The model.
        ids: Token ids, shape ``(batch, tokens)``; by default eight equal ones.
    """
    if ids is None:
        ids = torch.zeros((1, TOKENS), dtype=torch.long, device=model.device)
    caches = "use_cache" in inspect.signature(model.forward).parameters
    output = model(input_ids=ids, **({"use_cache": False} if caches else {}))
    first: torch.Tensor = output[0]
    return first


class FlexHook(PatternHook):
    """A pattern as block masks, each the same in all heads of a layer; see `PatternHook`.

    What a query sees of a block that it sees in part is read from a table. So one kernel serves
    every pattern of a shape, and nothing is compiled anew where the pattern changes.
    """

    def _attend(
        self, module: nn.Module, heads: Heads, rule: HeadRule, visible: Visible
    ) -> torch.Tensor:
        # Beyond torch's limit of kernels (8) it would go on without one, and skip nothing.
        with warnings.catch_warnings(), config.patch(recompile_limit=_KERNELS):
            warnings.simplefilter("ignore")  # torch's compiler warns of its own parts
            output, _ = flex_attention_forward(
                module,
                heads.query,
                heads.key,
                heads.value,
                _blocks(visible, rule, heads.layer),
                scaling=heads.scaling,
                softcap=heads.softcap,
            )
        attended: torch.Tensor = output.transpose(1, 2)
        return attended


def _blocks(visible: Visible, rule: HeadRule, layer: int) -> BlockMask:
    """The block mask of what is seen, made once for all layers that see the same."""
    name = ("blocks", rule.masks)
    if name not in visible.made:
        allowed = visible.under(rule, layer, (0,))
        rows, _, queries, keys = allowed.shape
        table = allowed[:, 0].contiguous()

        def in_all_rows(
            _batch: torch.Tensor, _head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
        ) -> torch.Tensor:
            return table[0, query, key]

        def by_row(
            batch: torch.Tensor, _head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
        ) -> torch.Tensor:
            return table[batch, query, key]

        visible.made[name] = create_block_mask(
            in_all_rows if rows == 1 else by_row,
            None if rows == 1 else rows,
            None,
            queries,
            keys,
            device=allowed.device,
        )
    made: BlockMask = visible.made[name]
    return made
