"""The cache of a model: going on from it several times, and giving back the memory it leaves."""

import copy
import ctypes
import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from transformers.cache_utils import Cache, DynamicLayer


def snapshot(cache: Cache) -> Cache:
    """Copy a cache so that going on from either leaves the other as it was.

    Keys and values are shared: a dynamic layer replaces its tensors when it grows, it never
    writes into them. Recurrent layers do write into theirs, so their states are cloned.

    Args:
        cache: A cache that a model returned.

    Returns:
        A cache of the same class, equal in content.
    """
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
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def release() -> None:
    """Return free pages of the heap to the system.

    A cache grows by new tensors, each longer than the one it replaces: the holes that the old ones
    leave are too small for the next, and without this the heap grows to several times what lives.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


def _copy_layer(layer: Any) -> Any:
    twin = copy.copy(layer)
    for name, value in vars(twin).items():
        if isinstance(value, dict):  # conv_states, recurrent_states and their flags
            setattr(twin, name, {key: _clone(item) for key, item in value.items()})
        elif isinstance(value, list):
            setattr(twin, name, [_clone(item) for item in value])
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
