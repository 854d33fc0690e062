"""What a pattern would cost where it really skips: keys per query, FLOPs, and the KV cache.

By formula, from the indices that a pattern sees, never measured. Counted are the products of
queries with keys and of weights with values; projections, softmax and the compression itself are
not.
"""

from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.attention.pattern import HeadRule, Pattern
from probe.attention.term import Index, Truth
from probe.errors import UsageError

_PAIRS = 1 << 22  # pairs of a query and a key looked at together


class LayerLimits(NamedTuple):
    """How far a layer lets its queries see by itself, without a pattern.

    Args:
        window: The nearest keys; ``None`` is all.
        chunk: Tokens of the chunks that no query sees out of; ``None`` is one chunk of all.
    """

    window: int | None = None
    chunk: int | None = None

    @property
    def reach(self) -> int | None:
        """The most keys that a query sees; ``None`` is any number."""
        return min(filter(None, self), default=None)

    def sees(self, query: Index, key: Index) -> Truth:
        """Whether a query sees a key, where none is too late for it."""
        visible = query + key >= 0
        if self.window is not None:
            visible = visible & (abs(query - key) < self.window)
        if self.chunk is not None:
            visible = visible & (query // self.chunk == key // self.chunk)
        return visible


@dataclass(frozen=True)
class Shape:
    """What costs depend on in a model.

    Args:
        limits: How far each layer lets its queries see by itself.
        heads: Query heads of a layer.
        kv_heads: Key-value heads of a layer.
        dims: Dimensions of a head's keys, and of its values.
        number_bytes: Bytes of a number in the cache.
        symmetric: Whether queries see later keys, as in encoders.
    """

    limits: tuple[LayerLimits, ...]
    heads: int
    kv_heads: int
    dims: tuple[int, int]
    number_bytes: int
    symmetric: bool = False

    @staticmethod
    def of(
        config: Any,
        *,
        number_bytes: int = 2,
        cached: tuple[int, int, int] | None = None,
        symmetric: bool = False,
    ) -> "Shape":
        """Read the shape of a model of transformers.

        Args:
            config: Its configuration.
            number_bytes: Bytes of a number in its dtype.
            cached: Key-value heads and dimensions of keys and values, as attention is handed
                them; by default what the configuration says.
            symmetric: Whether queries see later keys.
        """
        config = config.get_text_config()
        layers, heads = config.num_hidden_layers, config.num_attention_heads
        kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
        window = getattr(config, "sliding_window", None)
        if symmetric and window is not None:
            window += 1  # transformers counts the keys on one side
        chunk = getattr(config, "attention_chunk_size", None)
        by_kind = {
            "sliding_attention": LayerLimits(window=window),
            "chunked_attention": LayerLimits(chunk=chunk),
        }
        dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        shared = getattr(config, "num_key_value_heads", None) or heads
        kv_heads, key_dim, value_dim = cached or (shared, dim, dim)
        limits = tuple(by_kind.get(kind, LayerLimits()) for kind in kinds)
        return Shape(limits, heads, kv_heads, (key_dim, value_dim), number_bytes, symmetric)


@dataclass(frozen=True)
class Cost:
    """What one forward of a window costs, all layers and heads together.

    Args:
        keys: Keys that each query sees, mean over layers and heads.
        flops: Of attention, floating-point operations.
        kv_bytes: Of the cache that must be held at the window's end; of an encoder, which has none,
            the keys and values that any one query sees at most.
    """

    keys: tuple[float, ...]
    flops: float
    kv_bytes: float

    @property
    def keys_per_query(self) -> float:
        """Mean over layers, heads and queries."""
        return float(np.mean(self.keys))


def cost(
    pattern: Pattern | None,
    length: int,
    shape: Shape,
    *,
    boundary: int | None = None,
    queries: NDArray[np.int64] | None = None,
) -> Cost:
    """Compute what a pattern costs on a window.

    Args:
        pattern: The pattern; ``None`` is the model's own attention.
        length: Tokens of the window.
        shape: Of the model.
        boundary: Index of the first near token, for patterns that tell far from near.
        queries: Of cross attention, where each token that reads the window stands in it.

    Raises:
        UsageError: If such a pattern has no boundary.
    """
    flops = numbers = 0.0
    symmetric = shape.symmetric
    count = cache(
        partial(
            keys_per_query,
            length=length,
            symmetric=symmetric,
            boundary=boundary,
            queries=queries,
        )
    )
    keys = np.zeros(length if queries is None else len(queries))
    for layer, limits in enumerate(shape.limits):
        rules = {HeadRule(): list(range(shape.heads))}
        if pattern is not None:
            rules = pattern.rules(layer, shape.heads)
        for rule, heads in rules.items():
            seen = count(rule, limits=limits)
            keys += len(heads) * seen
            flops += len(heads) * _flops(rule, float(seen.sum()), length, shape.dims, boundary)
        if symmetric:
            most = max(int(count(rule, limits=limits).max()) for rule in rules)
            numbers += sum(shape.dims) * shape.kv_heads * most
        else:
            numbers += _numbers(rules, length, shape, limits, boundary)
    keys /= len(shape.limits) * shape.heads
    return Cost(tuple(keys.tolist()), flops, float(numbers) * shape.number_bytes)


def keys_per_query(
    rule: HeadRule,
    length: int,
    *,
    limits: LayerLimits = LayerLimits(),  # noqa: B008 - a constant
    symmetric: bool = False,
    boundary: int | None = None,
    queries: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Count the keys that each query of a window sees in a head.

    Args:
        rule: What happens in the head.
        length: Tokens of the window.
        limits: How far the layer lets its queries see by itself.
        symmetric: Whether later keys are seen.
        boundary: Index of the first near token.
        queries: See :func:`cost`.

    Returns:
        Shape ``(length,)``, or that of *queries*, int64.
    """
    rows = max(1, _PAIRS // length)
    key = np.arange(length)[None]
    every = np.arange(length) if queries is None else queries
    counts = []
    for start in range(0, len(every), rows):
        query = every[start : start + rows, None]
        seen = rule.allowed(query, key, symmetric=symmetric)
        if rule.weights is not None:
            seen = seen & rule.weights.counted(query, key)
        seen = seen & limits.sees(query, key)
        counts.append(np.count_nonzero(seen, axis=1))
    keys: NDArray[np.int64] = np.concatenate(counts)
    if rule.lowrank is not None and (far := _compressed(boundary)):
        keys[far + 1 :] += rule.lowrank.seen(far) - far
    return keys


def _flops(
    rule: HeadRule, seen: float, length: int, dims: tuple[int, int], boundary: int | None
) -> float:
    # A multiplication and an addition for each number of a key, and of a value.
    if rule.weights is not None and not rule.weights.attends:
        return 2 * dims[1] * seen  # no query is multiplied with a key
    flops = 2 * sum(dims) * seen
    if rule.lowrank is not None and (far := _compressed(boundary)):
        near = length - far - 1
        flops -= 2 * sum(dims) * near * rule.lowrank.seen(far)
        flops += 2 * near * rule.lowrank.numbers(far, dims)
    return flops


def _numbers(
    rules: dict[HeadRule, list[int]],
    length: int,
    shape: Shape,
    limits: LayerLimits,
    boundary: int | None,
) -> float:
    """Numbers that the cache of a layer holds after the window."""
    key = np.arange(length)
    group = shape.heads // shape.kv_heads
    full = limits.sees(length - 1, key)
    total = 0.0
    for first in range(0, shape.heads, group):
        # Heads that share keys and values keep what any of them needs.
        needed, compressed = np.zeros(length, dtype=bool), 0
        for rule, heads in rules.items():
            if not any(first <= head < first + group for head in heads):
                continue
            if rule.lowrank is not None:
                far = _compressed(boundary)
                compressed = max(compressed, rule.lowrank.numbers(far, shape.dims))
                needed |= (key == 0) | (key > far)
            else:
                needed |= full & _cached(rule, key, length)
        most = sum(shape.dims) * np.count_nonzero(full)
        total += min(most, sum(shape.dims) * np.count_nonzero(needed) + compressed)
    return total


def _cached(rule: HeadRule, key: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    """Which keys a cache must hold at the window's end for a head to go on."""
    needed: NDArray[np.bool_] = key >= 0
    if rule.masks:
        needed = np.any([mask.cached(key, length) for mask in rule.masks], axis=0)
    return needed if rule.weights is None else needed & rule.weights.cached(key, length)


def _compressed(boundary: int | None) -> int:
    """How many keys a low-rank pattern compresses: the far ones but the first."""
    if boundary is None:
        raise UsageError("a low-rank pattern has no cost without a boundary; allowed: an index")
    return max(0, boundary - 1)
