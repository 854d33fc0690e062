"""What a pattern would cost where it really skips: keys per query, FLOPs, and the KV cache.

By formula, from the indices that a pattern sees, never measured. Counted are the products of
queries with keys and of weights with values; projections, softmax and the compression itself are
not.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.attention.patterns import Part, Pattern
from probe.errors import UsageError

_PAIRS = 1 << 22  # pairs of a query and a key looked at together


@dataclass(frozen=True)
class Shape:
    """What costs depend on in a model.

    Args:
        layers: Number of layers.
        heads: Query heads of a layer.
        kv_heads: Key-value heads of a layer.
        head_dim: Dimension of a head.
        number_bytes: Bytes of a number in the cache.
        windows: The sliding window of each layer, keys; ``None`` is full attention.
        symmetric: Whether later keys are seen, as in encoders.
    """

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    number_bytes: int
    windows: tuple[int | None, ...]
    symmetric: bool = False

    @staticmethod
    def of(config: Any, *, number_bytes: int = 2, symmetric: bool = False) -> "Shape":
        """Read the shape of a model of transformers.

        Args:
            config: Its configuration.
            number_bytes: Bytes of a number in its dtype.
            symmetric: Whether it is an encoder.
        """
        config = config.get_text_config()
        layers, heads = config.num_hidden_layers, config.num_attention_heads
        kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
        window = getattr(config, "sliding_window", None)
        return Shape(
            layers,
            heads,
            getattr(config, "num_key_value_heads", None) or heads,
            getattr(config, "head_dim", None) or config.hidden_size // heads,
            number_bytes,
            tuple(window if kind == "sliding_attention" else None for kind in kinds),
            symmetric,
        )


@dataclass(frozen=True)
class Cost:
    """What one forward of a window costs, all layers and heads together.

    Args:
        keys: Keys that each query sees, mean over layers and heads.
        flops: Of attention, floating-point operations.
        kv_bytes: Of the cache that must be held at the window's end.
    """

    keys: tuple[float, ...]
    flops: float
    kv_bytes: float

    @property
    def keys_per_query(self) -> float:
        """Mean over layers, heads and queries."""
        return float(np.mean(self.keys))


def cost(
    pattern: Pattern | None, length: int, shape: Shape, *, boundary: int | None = None
) -> Cost:
    """Compute what a pattern costs on a window.

    Args:
        pattern: The pattern; ``None`` is the model's own attention.
        length: Tokens of the window.
        shape: Of the model.
        boundary: Index of the first near token, for patterns that tell far from near.

    Raises:
        UsageError: If such a pattern has no boundary.
    """
    flops = numbers = 0.0
    keys = np.zeros(length)
    cache: dict[Any, NDArray[np.int64]] = {}
    for layer, window in enumerate(shape.windows):
        parts = {Part(): list(range(shape.heads))}
        if pattern is not None:
            parts = pattern.parts(layer, shape.heads)
        for part, heads in parts.items():
            if (part, window) not in cache:
                cache[part, window] = keys_per_query(
                    part, length, window=window, symmetric=shape.symmetric, boundary=boundary
                )
            seen = cache[part, window]
            keys += len(heads) * seen
            flops += len(heads) * _flops(part, float(seen.sum()), length, shape.head_dim, boundary)
        numbers += _numbers(parts, length, shape, window, boundary)
    keys /= shape.layers * shape.heads
    return Cost(tuple(keys.tolist()), flops, float(numbers) * shape.number_bytes)


def keys_per_query(
    part: Part,
    length: int,
    *,
    window: int | None = None,
    symmetric: bool = False,
    boundary: int | None = None,
    layer: int = 0,
    head: int = 0,
) -> NDArray[np.int64]:
    """Count the keys that each query of a window sees in a head.

    Args:
        part: What happens in the head.
        length: Tokens of the window.
        window: The layer's own sliding window, keys.
        symmetric: Whether later keys are seen.
        boundary: Index of the first near token.
        layer: Number of the layer, where a mask is drawn at random; others are alike.
        head: Number of the head, likewise.

    Returns:
        Shape ``(length,)``, int64.
    """
    rows = max(1, _PAIRS // length)
    key = np.arange(length)[None]
    counts = []
    for start in range(0, length, rows):
        query = np.arange(start, min(start + rows, length))[:, None]
        seen = part.allowed(query, key, layer=layer, head=head, symmetric=symmetric)
        if part.weights is not None:
            seen = seen & part.weights.counted(query, key)
        if window is not None:
            seen = seen & (abs(query - key) < window)
        counts.append(np.count_nonzero(seen, axis=1))
    found: NDArray[np.int64] = np.concatenate(counts)
    if part.lowrank is not None:
        far = _far(boundary) - 1
        if far > 0:
            found[far + 1 :] += part.lowrank.seen(far) - far
    return found


def _flops(part: Part, seen: float, length: int, head_dim: int, boundary: int | None) -> float:
    # A multiplication and an addition for each number of a key, and of a value.
    if part.weights is not None and not part.weights.attends:
        return 2 * head_dim * seen  # no query is multiplied with a key
    flops = 4 * head_dim * seen
    if part.lowrank is not None and (far := _far(boundary) - 1) > 0:
        near = length - far - 1
        flops -= 4 * head_dim * near * part.lowrank.seen(far)
        flops += 2 * near * part.lowrank.numbers(far, head_dim)
    return flops


def _numbers(
    parts: dict[Part, list[int]],
    length: int,
    shape: Shape,
    window: int | None,
    boundary: int | None,
) -> float:
    """Numbers that the cache of a layer holds after the window."""
    key = np.arange(length)
    group = shape.heads // shape.kv_heads
    full = key >= 0 if window is None else key >= length - window
    total = 0.0
    for first in range(0, shape.heads, group):
        # Heads that share keys and values keep what any of them needs.
        needed, compressed = np.zeros(length, dtype=bool), 0
        for part, heads in parts.items():
            if not any(first <= head < first + group for head in heads):
                continue
            if part.lowrank is not None:
                far = max(0, _far(boundary) - 1)
                compressed = max(compressed, part.lowrank.numbers(far, shape.head_dim))
                needed |= (key == 0) | (key > far)
            else:
                needed |= full & _kept(part, key, length)
        most = 2 * shape.head_dim * np.count_nonzero(full)
        total += min(most, 2 * shape.head_dim * np.count_nonzero(needed) + compressed)
    return total


def _kept(part: Part, key: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    kept: NDArray[np.bool_] = key >= 0
    if part.masks:
        kept = np.any([mask.kept(key, length) for mask in part.masks], axis=0)
    return kept if part.weights is None else kept & part.weights.kept(key, length)


def _far(boundary: int | None) -> int:
    if boundary is None:
        raise UsageError("a low-rank pattern has no cost without a boundary; allowed: an index")
    return boundary
