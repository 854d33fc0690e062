"""What the attention patterns of a run would cost on its model and windows, for its record."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.attention.costs import Shape, cost, keys_per_query
from probe.attention.patterns import Part, Pattern
from probe.experiment import Experiment
from probe.models.causal import CausalModel


def attention_costs(experiment: Experiment, model: CausalModel) -> dict[str, dict[str, Any]]:
    """Cost of every pattern of a run beside full attention, at the length of its windows.

    Args:
        experiment: The run.
        model: Its model, of which the shape alone is read.

    Returns:
        By condition: ``keys`` (most keys that a query sees, mean over layers and heads), ``full``
        (the same of the model's own attention), ``kv_bytes`` (cache held at the window's end),
        ``kv_share`` and ``flops_share`` (of full attention's), and ``first`` (place in the window
        of the first target from which on a pattern hides a key; ``None`` if it hides none).
    """
    patterns = {c.text: c.pattern for c in experiment.config.parsed if c.pattern is not None}
    if not patterns:
        return {}  # nothing to read of a model that may have no heads
    shape = Shape.of(model.model.config, number_bytes=model.model.dtype.itemsize)
    extra = experiment.first_token.extra
    length = max(len(window.ids) for window in experiment.windows) + extra
    own, every = cost(None, length, shape), keys_by_query(None, length, shape)
    found = {}
    for text, pattern in patterns.items():
        boundary = max(run.boundary for run in experiment.protocol.runs(False)) + extra
        spent = cost(pattern, length, shape, boundary=boundary)
        keys = keys_by_query(pattern, length, shape, boundary=boundary)
        changed = np.flatnonzero(keys != every)
        found[text] = {
            "keys": float(keys.max()),
            "full": float(every.max()),
            "kv_bytes": spent.kv_bytes,
            "kv_share": spent.kv_bytes / own.kv_bytes,
            "flops_share": spent.flops / own.flops,
            # A query predicts the token behind it.
            "first": int(changed[0]) + 1 - extra if len(changed) else None,
        }
    return found


def keys_by_query(
    pattern: Pattern | None, length: int, shape: Shape, *, boundary: int | None = None
) -> NDArray[np.float64]:
    """Keys that each query sees, mean over layers and heads.

    Args:
        pattern: The pattern; ``None`` is the model's own attention.
        length: Tokens of the window.
        shape: Of the model.
        boundary: Index of the first near token, for patterns that tell far from near.

    Returns:
        Shape ``(length,)``.
    """
    known: dict[tuple[Part, int | None], NDArray[np.int64]] = {}
    total = np.zeros(length)
    for layer, window in enumerate(shape.windows):
        parts = {Part(): list(range(shape.heads))}
        if pattern is not None:
            parts = pattern.parts(layer, shape.heads)
        for part, heads in parts.items():
            if (part, window) not in known:
                known[part, window] = keys_per_query(
                    part, length, window=window, symmetric=shape.symmetric, boundary=boundary
                )
            total += len(heads) * known[part, window]
    return total / (shape.layers * shape.heads)
