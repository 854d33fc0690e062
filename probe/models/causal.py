"""Causal language models: their forward with a cache, that is gone on from several times.

A cache may rest in this machine's memory. The memory that it leaves is given back.
"""

import copy
import ctypes
import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, EncoderDecoderCache

from probe.models.scorer import Scorer, has_gaps


class CausalModel(Scorer):
    """A causal language model: a token is predicted by what stands before it."""

    family = "causal"

    @property
    def can_rest(self) -> bool:
        """Whether the keys and values of its layers can rest in this machine's memory."""
        return self._cache_class is DynamicCache

    def states(
        self,
        ids: torch.Tensor,
        cache: Cache | None = None,
        *,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        keep: bool = True,
    ) -> tuple[torch.Tensor, Cache | None]:
        """See :class:`probe.models.scorer.Scorer`."""
        given: dict[str, Any] = {"input_ids": ids}
        if "use_cache" in self._accepted:
            given["use_cache"] = self.cache_name is not None and (keep or cache is not None)
        if cache is None and keep and self.rests_on_host and self.can_rest:
            cache = host_cache(self.model.config)
        if cache is not None and self.cache_name is not None:
            given[self.cache_name] = cache
        if positions is not None:
            given["position_ids"] = positions + self.first_position
        if mask is None and has_gaps(positions):
            # Without a mask transformers takes a gap for the border between packed sequences.
            seen = ids.shape[1] + (0 if cache is None else cache.get_seq_length())
            mask = torch.ones((len(ids), seen), dtype=torch.long, device=ids.device)
        if mask is not None:
            given["attention_mask"] = mask
        output = self.body(**given)
        grown = output.get(self.cache_name) if self.cache_name is not None else None
        return output.last_hidden_state, grown


class HostLayer(DynamicLayer):
    """Keys and values of a layer that rest in this machine's memory.

    They are copied to the device whenever the layer computes: slower by far, for windows whose
    cache the device does not hold.
    """

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_given: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values, shape ``(batch, heads, n, d)``; all of them, on the device."""
        keys, values = key_states.cpu(), value_states.cpu()
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self.keys = torch.cat([cast(torch.Tensor, self.keys), keys], dim=-2)
        self.values = torch.cat([cast(torch.Tensor, self.values), values], dim=-2)
        return self.keys.to(key_states.device), self.values.to(value_states.device)


def host_cache(config: Any) -> Cache:
    """An empty cache whose layers that keep every key rest in this machine's memory.

    Args:
        config: The configuration of the model.
    """
    cache = DynamicCache(config=config)
    make = cast(Callable[[], HostLayer], HostLayer)  # transformers says not what it takes
    cache.layers = [make() if type(one) is DynamicLayer else one for one in cache.layers]
    return cache


def snapshot(cache: Cache) -> Cache:
    """Copy a cache so that going on from either leaves the other as it was.

    Keys and values are shared: a dynamic layer replaces its tensors when it grows, it never
    writes into them. Recurrent layers do write into theirs, so their states are cloned.

    Args:
        cache: A cache that a model returned.

    Returns:
        A cache of the same class, equal in content.
    """
    if isinstance(cache, EncoderDecoderCache):
        pair = copy.copy(cache)
        own, source = snapshot(cache.self_attention_cache), snapshot(cache.cross_attention_cache)
        vars(pair).update(self_attention_cache=own, cross_attention_cache=source)
        pair.is_updated = dict(cache.is_updated)
        return pair
    twin = copy.copy(cache)
    twin.layers = [_copy_layer(layer) for layer in cache.layers]
    return twin


def rows(cache: Cache, index: torch.Tensor) -> Cache:
    """Fork a cache into rows of a batch.

    Args:
        cache: A cache of batch size ``b``; left as it was.
        index: Row of *cache* that each new row continues, shape ``(rows,)``, int64.

    Returns:
        A cache of batch size ``rows``.
    """
    twin = snapshot(cache)
    twin.reorder_cache(cast(torch.LongTensor, index))
    return twin


def is_plain(cache: Cache) -> bool:
    """Whether every layer keeps all keys, so that a mask alone decides what a query sees."""
    if isinstance(cache, EncoderDecoderCache):
        cache = cache.self_attention_cache
    return all(type(layer) in (DynamicLayer, HostLayer) for layer in cache.layers)


def release() -> None:
    """Return free pages of the heap to the system.

    A cache grows by new tensors, each longer than the one it replaces: the holes that the old ones
    leave are too small for the next, and without this the heap grows to several times what lives.
    """
    if (trim := _trim()) is not None:
        trim(0)


def _copy_layer(layer: Any) -> Any:
    twin = copy.copy(layer)
    for name, value in vars(twin).items():
        if isinstance(value, dict):  # conv_states, recurrent_states and their flags
            setattr(twin, name, {key: _clone(item) for key, item in value.items()})
        elif isinstance(value, list):
            setattr(twin, name, list(map(_clone, value)))
        elif name in ("conv_states", "recurrent_states"):
            setattr(twin, name, _clone(value))
    return twin


def _clone(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """The C library's ``malloc_trim``, ``None`` where there is none (macOS, Windows, musl)."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return trim
