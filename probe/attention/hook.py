"""The hook that transformers calls in place of its masks and its attention, as a pattern says.

transformers looks both up by the name in a model's configuration: a mask function, called once a
forward, and an attention function, called in every layer. A hook is registered as both, and hands
on what it learns of the tokens in the first to the second.
"""

import inspect
import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
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
from probe.attention.pattern import ATTENTIONS, HeadRule, Pattern, add
from probe.errors import UsageError
from probe.text import shown

if TYPE_CHECKING:
    from probe.attention.rotary import Rotary

_NUMBERS = itertools.count()
_INDICES = "_context_probe_indices"
_KERNELS = 256  # shapes that may be met in one process
TOKENS = 8  # of a probe forward
TARGETS = 5  # of a decoder in one, fewer than there are in its source


class HookedAttention:
    """One attention of a model under a hook: its only one, or one of an encoder–decoder's three.

    Args:
        pattern: What the pattern says of it.
        count: How many layers it has.

    Attributes:
        layers: The numbers of the layers that called the hook.
        heads: Query heads of a layer, the most.
        keys: Keys of the last call.
        cached: Key-value heads, and dimensions of keys and values, as attention is handed them.
    """

    def __init__(self, pattern: Pattern, count: int) -> None:
        self.count = count
        self.layers: set[int] = set()
        self.heads = self.keys = self._calls = 0
        self.cached = (0, 0, 0)
        # The same in every forward, and slow to work out for a pattern of many heads.
        self.rules = cache(pattern.rules)

    def layer(self, module: nn.Module) -> int:
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


class PatternHook:
    """A pattern as dense masks, to be attached to a model.

    Args:
        pattern: The pattern.
        family: Name of the model's class, for errors.
        boundary: Index of the first near token, for patterns that tell far from near.
        places: The place in the source of each query of a decoder, for patterns of cross attention
            that go by it.

    Attributes:
        attentions: The model's attentions by name; empty is the only one.
        symmetric: Whether the only one lets queries see later keys, as encoders do; ``None`` before
            the first forward.
        note: One line where something was asked for that cannot be had, empty otherwise.
        rotary: The model's rotary embedding, for patterns that need it.
        eager: Whether the model attends eagerly without a pattern, so that it rounds alike.
    """

    def __init__(
        self,
        pattern: Pattern,
        family: str,
        boundary: int | None = None,
        places: Sequence[int] | None = None,
    ) -> None:
        self.pattern, self.family, self.boundary = pattern, family, boundary
        self.places = places
        self.attentions: dict[str, HookedAttention] = {}
        self.symmetric: bool | None = None
        self.note = ""
        self.rotary: Rotary | None = None
        self.eager = False
        self._of_encoder: frozenset[nn.Module] = frozenset()
        self._queries = torch.zeros(0, dtype=torch.long)
        self._unmasked: dict[tuple[object, ...], Visible] = {}

    def meet(self, model: PreTrainedModel) -> None:
        """Learn which attentions a model has, and of how many layers."""
        parts, config = self.pattern.parts, model.config
        count = int(getattr(config.get_text_config(), "num_hidden_layers", 1))
        names = {"": count}
        if getattr(config, "is_encoder_decoder", False):
            encoder, decoder = model.get_encoder(), model.get_decoder()
            self._of_encoder = frozenset(encoder.modules())
            behind = _layers(decoder)
            names = dict(zip(ATTENTIONS, (_layers(encoder), behind, behind), strict=True))
        nothing = add([])
        self.attentions = {
            name: HookedAttention(parts.get(name, nothing), layers)
            for name, layers in names.items()
        }

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
        count, name = query.shape[1], self._attention_of(module)
        called = self.attentions[name]
        layer = called.layer(module)
        called.heads, called.keys = max(called.heads, count), key.shape[2]
        called.cached = (key.shape[1], key.shape[3], value.shape[3])
        if given.get("s_aux") is not None:
            self._refuse("adds s_aux to its logits, which patterns would leave out")
        bias = given.get("position_bias")
        visible = self._visible(name, attention_mask, query, key.shape[2])
        output = query.new_empty((*query.shape[:3], value.shape[-1]))
        for rule, numbers in called.rules(layer, count).items():
            every = len(numbers) == count  # then nothing is copied, neither queries nor output
            if rule.lowrank is not None and bias is not None:
                self._refuse("adds position_bias to its logits, which compressed keys have not")
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
                bias if bias is None or every else bias[:, numbers],
            )
            attended = self._attend(module, heads, rule, visible)
            if every:
                output = attended
            else:
                output[:, numbers] = attended
        return output.transpose(1, 2).contiguous(), None

    def _attention_of(self, module: nn.Module) -> str:
        """Which attention a module computes; a decoder's own says that it is causal."""
        if not self._of_encoder:
            return ""
        if module in self._of_encoder:
            return "encoder"
        return "decoder" if getattr(module, "is_causal", False) else "cross"

    def _attend(
        self, module: nn.Module, heads: Heads, rule: HeadRule, visible: Visible
    ) -> torch.Tensor:
        """Attend in some heads of one layer, shape ``(batch, heads, queries, e)``."""
        turn = None if self.rotary is None else partial(self.rotary.turn, module, heads.layer)
        return attend(heads, rule, visible, boundary=self.boundary or 0, turn=turn)

    def _visible(
        self, name: str, mask: torch.Tensor | None, query: torch.Tensor, keys: int
    ) -> Visible:
        """What the model lets queries see, and where they stand.

        Of cross attention they stand at the places in the source that they belong to.
        """
        if mask is None and name in ("encoder", "cross"):
            visible = self._all_visible(name, query, keys)
        else:
            indices = getattr(mask, _INDICES, None)
            if mask is None or indices is None:
                self._refuse(
                    "hands its attention a mask that no index is known of; allowed: no mask"
                )
            if mask.shape[-1] != keys:
                self._refuse(f"has {keys} keys under a mask of {mask.shape[-1]}; allowed: as many")
            visible = Visible(**{"mask": mask, **indices})
        if name == "decoder":
            self._queries = visible.queries  # its cross attention is next
        if name != "cross" or self.places is None:
            return visible
        if len(self.places) <= (last := int(self._queries[-1])):
            self._refuse(f"has {last + 1} queries and {len(self.places)} places of them")
        if self.places and max(self.places) >= keys:
            self._refuse(f"has {keys} source tokens and the place {max(self.places)} among them")
        places = self._queries.new_tensor(self.places)
        return replace(visible, queries=places[self._queries])

    def _all_visible(self, name: str, query: torch.Tensor, keys: int) -> Visible:
        """Every key, where a model has no mask for that; the same in all layers of a forward."""
        queries, device = query.shape[2], query.device
        first = int(self._queries[0]) if name == "cross" else 0
        case = (name, queries, keys, first)
        if case not in self._unmasked:
            mask = torch.ones((1, 1, queries, keys), dtype=torch.bool, device=device)
            order = [torch.arange(count, device=device) for count in (queries, keys)]
            self._unmasked = {case: Visible(mask, order[0], order[1])}
        return self._unmasked[case]

    def _refuse(self, what: str) -> NoReturn:
        raise UsageError(f"pattern {shown(self.pattern.text)}: {self.family} {what}")


@contextmanager
def attached(model: PreTrainedModel, hook: PatternHook) -> Iterator[None]:
    """Have transformers call a hook for a model, and stop whatever happens meanwhile."""
    before = _attention_settings(model)
    hook.meet(model)
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


def _layers(module: nn.Module) -> int:
    """How many layers an encoder or a decoder has: the members of its outermost list."""
    return next((len(one) for one in module.modules() if isinstance(one, nn.ModuleList)), 1)


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
    if getattr(model.config, "is_encoder_decoder", False):
        target = torch.zeros((1, TARGETS), dtype=torch.long, device=model.device)
        return probe_decoder(model, probe_source(model), target)
    if ids is None:
        ids = torch.zeros((1, TOKENS), dtype=torch.long, device=model.device)
    caches = "use_cache" in inspect.signature(model.forward).parameters
    output = model(input_ids=ids, **({"use_cache": False} if caches else {}))
    first: torch.Tensor = output[0]
    return first


def probe_source(model: PreTrainedModel) -> torch.Tensor:
    """A source of an encoder–decoder: ids ``(1, tokens)``, or features ``(1, bins, frames)``.

    Raises:
        UsageError: If it reads something else.
    """
    config, device = model.config, model.device
    if model.main_input_name == "input_ids":
        return torch.zeros((1, TOKENS), dtype=torch.long, device=device)
    bins, positions = (
        getattr(config, name, None) for name in ("num_mel_bins", "max_source_positions")
    )
    if model.main_input_name != "input_features" or not bins or not positions:
        raise UsageError(
            f"patterns cannot be put on {type(model).__name__}, whose encoder reads "
            f"{model.main_input_name}; allowed: encoder–decoders of text, or Whisper"
        )
    # Whisper reads as many frames as its positions take, and no fewer.
    shape = (1, bins, 2 * positions)
    return torch.zeros(shape, dtype=model.dtype, device=device)


@torch.inference_mode()
def probe_encoder(model: PreTrainedModel, source: torch.Tensor) -> torch.Tensor:
    """What an encoder makes of a source, ``(batch, tokens, n)``."""
    states: torch.Tensor = model.get_encoder()(source).last_hidden_state
    return states


@torch.inference_mode()
def probe_decoder(
    model: PreTrainedModel, source: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """Logits of a target, ``(batch, tokens, vocabulary)``."""
    given = {model.main_input_name: source, "decoder_input_ids": target, "use_cache": False}
    logits: torch.Tensor = model(**given).logits
    return logits


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
