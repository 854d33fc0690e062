"""What the attention patterns of a run would cost on its model and windows, for its record."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from probe.attention.apply import Supports, apply_pattern, check_support
from probe.attention.costs import Cost, LayerLimits, Shape, cost, keys_per_query
from probe.attention.pattern import HeadRule, Pattern
from probe.attention.terms.hardcoded import Weights
from probe.models.scorer import Scorer
from probe.runs.experiment import Experiment

_ROWS = 512  # queries looked at together


def attention_costs(experiment: Experiment, model: Scorer) -> dict[str, dict[str, Any]]:
    """Cost of every pattern of a run beside full attention, at the length of its windows.

    Args:
        experiment: The run.
        model: Its model, of which the shape alone is read.

    Returns:
        By condition: ``keys`` (most keys that the query of a target sees, mean over layers and
        heads), ``full`` (the same of the model's own attention), ``kv_bytes`` (cache held at the
        window's end), ``kv_share`` and ``flops_share`` (of full attention's), and ``first`` (place
        in the window of the first target from which on a pattern changes anything; ``None`` if it
        changes nothing).
    """
    patterns = {c.text: c.pattern for c in experiment.config.parsed if c.pattern is not None}
    if not patterns:
        return {}  # nothing to read of a model that may have no heads
    supports = check_support(model.model, next(iter(patterns.values())))
    size = model.model.dtype.itemsize
    if "" not in supports:
        return _of_three(experiment, patterns, supports, size)
    support = supports[""]
    shape = Shape.of(
        model.model.config,
        number_bytes=size,
        cached=support.cached,
        symmetric=support.symmetric,
    )
    extra = experiment.first_token.extra
    # A query predicts the token behind it, or, where a mask stands, its own.
    ahead = int(model.family == "causal")
    length = max(place.length for place in experiment.windows.places)
    length += extra + len(experiment.plan.model.behind)
    own = cost(None, length, shape)
    first, stop = experiment.plan.targets
    asked = slice(max(0, first + extra - ahead), stop + extra - ahead)
    found = {}
    boundary = far_end(experiment) + extra
    for text, pattern in patterns.items():
        spent = cost(pattern, length, shape, boundary=boundary)
        changed = first_changed(pattern, length, shape, boundary)
        found[text] = {
            "keys": max(spent.keys[asked]),
            "full": max(own.keys[asked]),
            "kv_bytes": spent.kv_bytes,
            "kv_share": spent.kv_bytes / own.kv_bytes,
            "flops_share": spent.flops / own.flops,
            "first": None if changed is None else max(0, changed + ahead - extra),
        }
    pressed = any(pattern.needs_boundary for pattern in patterns.values())
    if pressed and "truncate" in experiment.config.conditions:
        found["truncate"] = _cut_off(experiment, own, boundary, asked, shape.symmetric)
    return found


def _of_three(
    experiment: Experiment, patterns: Mapping[str, Pattern], supports: Supports, size: int
) -> dict[str, dict[str, Any]]:
    """The same of an encoder–decoder: keys and bytes are sums of its three attentions.

    Of cross attention as if source and target ran side by side.
    """
    sources = (experiment.plan.source_of(one) for one in experiment.documents.values())
    source = max(len(one.ids) for one in sources if one is not None)
    lead = experiment.plan.model.encoder.lead if experiment.plan.model.encoder else ()
    target = max(place.length for place in experiment.windows.places) + len(lead)
    along = np.arange(target) * source // target
    lengths = {"encoder": source, "decoder": target, "cross": source}
    shapes = {
        name: Shape(
            (LayerLimits(),) * one.layers,
            one.heads,
            one.cached[0],
            one.cached[1:],
            size,
            one.symmetric,
        )
        for name, one in supports.items()
    }

    def costs(parts: Mapping[str, Pattern]) -> list[Cost]:
        return [
            cost(
                parts.get(name),
                lengths[name],
                shapes[name],
                queries=along if name == "cross" else None,
            )
            for name in supports
        ]

    def totals(each: list[Cost]) -> tuple[float, float, float]:
        return (
            sum(max(one.keys) for one in each),
            sum(one.kv_bytes for one in each),
            sum(one.flops for one in each),
        )

    own, found = costs({}), {}
    full, held, flops = totals(own)
    for text, pattern in patterns.items():
        spent = costs(pattern.parts)
        keys, kept, left = totals(spent)
        weighs = any(isinstance(placed.term, Weights) for placed in pattern.placed)
        found[text] = {
            "keys": keys,
            "full": full,
            "kv_bytes": kept,
            "kv_share": kept / held,
            "flops_share": left / flops,
            "first": 0 if weighs or spent != own else None,
        }
    return found


def _cut_off(
    experiment: Experiment, full: Cost, boundary: int, asked: slice, symmetric: bool
) -> dict[str, Any]:
    """What remains to be attended to where the far text is cut off at the boundary."""
    length, kept = len(full.keys), int(experiment.first_token.mode == "keep")
    near = np.maximum(0, np.arange(length) - boundary + 1)
    if symmetric:
        near[near > 0] = length - boundary
    keys = np.where(near > 0, near + kept, 0)
    return {
        "keys": float(keys[asked].max()),
        "full": max(full.keys[asked]),
        "kv_bytes": full.kv_bytes * float(keys[-1]) / length,
        "kv_share": float(keys[-1]) / length,
        "flops_share": float(keys.sum()) / sum(full.keys),
        "first": boundary + 1 - experiment.first_token.extra,
    }


def forward_times(
    experiment: Experiment, model: Scorer, known: Sequence[str] = ()
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Forward the first window under each pattern as block masks, and with full attention.

    Args:
        experiment: The run.
        model: Its model.
        known: Conditions that were timed before.

    Returns:
        By condition that really skips: ``seconds`` and ``full_seconds``, the smaller of two
        forwards each, and ``forward_share``, their ratio; and a line for each pattern that does
        not skip.
    """
    if experiment.plan.model.encoder is not None:
        return {}, ["flex_attention does not serve an encoder–decoder here, dense masks do"]
    window = experiment.windows[0]
    lead = experiment.first_token.lead(window, window.ids)[: experiment.first_token.extra]
    ids = torch.from_numpy(np.concatenate([lead, window.ids]))[None].to(model.device)
    boundary = far_end(experiment) + len(lead)
    support, full = None, float("nan")
    found: dict[str, dict[str, float]] = {}
    notes: list[str] = []
    for condition in experiment.config.parsed:
        if condition.pattern is None or condition.text in known:
            continue
        support = support or check_support(model.model, condition.pattern)
        with apply_pattern(
            model.model, condition.pattern, boundary=boundary, flex=True, support=support
        ) as hook:
            if hook.note:
                notes.append(hook.note)
                continue
            seconds = _seconds(model, ids)
        full = full if full == full else _seconds(model, ids)
        found[condition.text] = {
            "seconds": seconds,
            "full_seconds": full,
            "forward_share": seconds / full,
        }
    return found, notes


@torch.inference_mode()
def _seconds(model: Scorer, ids: torch.Tensor) -> float:
    """The smaller time of two forwards; the first may have something to compile."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        states, _ = model.states(ids, keep=False)
        states.sum().item()  # an accelerator has finished
        times.append(time.perf_counter() - started)
    return min(times)


def far_end(experiment: Experiment) -> int:
    """The boundary that the costs of a low-rank pattern are told at, as an index in the window.

    That with the most targets behind it, the last of several.
    """
    runs = experiment.plan.runs(False)
    return max(runs, key=lambda run: (run.stop - run.first, run.boundary)).boundary


def first_changed(pattern: Pattern, length: int, shape: Shape, boundary: int) -> int | None:
    """The first query that does not attend as ever, in any layer or head; ``None`` without one.

    In an encoder it is 0: what a query misses is missed by all that see it, and those before it do.

    Args:
        pattern: The pattern.
        length: Tokens of the window.
        shape: Of the model.
        boundary: Index of the first near token, for low-rank patterns.
    """
    found, seen = length, {(HeadRule(), limits) for limits in shape.limits}
    for layer, limits in enumerate(shape.limits):
        for rule, heads in pattern.rules(layer, shape.heads).items():
            if rule.weights is not None:
                return 0  # weights of its own, from the first query on
            if rule.lowrank is not None:
                exact = rule.lowrank.exact(boundary - 1, shape.dims)
                found = found if exact else min(found, boundary)
                continue
            if (rule, limits) in seen:
                continue
            if shape.symmetric:
                visible = keys_per_query(HeadRule(), length, limits=limits, symmetric=True)
                if (keys_per_query(rule, length, limits=limits, symmetric=True) != visible).any():
                    return 0
                continue
            if not rule.varies:
                seen.add((rule, limits))
            for head in heads if rule.varies else heads[:1]:
                at = _first_hidden(rule, found, limits, layer, head)
                found = found if at is None else min(found, at)
    return found if found < length else None


def _first_hidden(
    rule: HeadRule, length: int, limits: LayerLimits, layer: int, head: int
) -> int | None:
    """The first query below *length* that misses a key which the model's own mask shows."""
    for start in range(0, length, _ROWS):
        query = np.arange(start, min(start + _ROWS, length))[:, None]
        key = np.arange(min(start + _ROWS, length))[None]
        shown = (key <= query) & limits.sees(query, key)
        hidden = shown & ~rule.allowed(query, key, layer=layer, head=head)
        rows = np.flatnonzero(hidden.any(axis=1))
        if len(rows):
            return start + int(rows[0])
    return None
