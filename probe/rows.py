"""From the losses of a unit to the rows of the results contract."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from probe.branches import Scored
from probe.losses import Losses
from probe.planning import Unit
from probe.store import SCHEMA, Key


def rows(
    unit: Unit, scored: Sequence[Sequence[Scored]], losses: Sequence[Sequence[Losses]]
) -> tuple[list[Key], dict[str, Any]]:
    """The rows of a unit, as columns of the results contract.

    Args:
        unit: The unit.
        scored: Branches of each window, the intact one first.
        losses: Their losses.

    Returns:
        What the rows hold, and the columns.
    """
    keys: dict[Key, None] = {}
    parts: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for number, window in enumerate(unit.windows):
        branches, found, new = scored[number], losses[number], unit.intact[number]
        reference = branches[0]
        # A draw is scored even where it leaves no target, so the keys are those of the draws.
        names = [("intact", 0)] if new else []
        names += [(draw.condition.text, draw.repeat) for draw in unit.draws[number]]
        keys |= {Key(window.document, window.index, *name): None for name in names}
        for one, loss in zip(branches, found, strict=True):
            if one is reference and not new:
                continue
            at = one.branch.origin - reference.branch.origin
            intact = found[0].nll[at : at + one.branch.targets]
            columns = _columns(window.document, window.index, one, loss, intact)
            for name, values in columns.items():
                parts.setdefault(name, []).append(values)
    return list(keys), {
        name: np.concatenate(values) if values else np.array([]) for name, values in parts.items()
    }


def _columns(
    document: str, window: int, one: Scored, loss: Losses, intact: np.ndarray
) -> dict[str, np.ndarray]:
    count = one.branch.targets
    position = one.position + np.arange(count)
    known = one.boundary >= 0
    measured = {
        "nll": loss.nll,
        "nll_intact": intact,
        "top1": loss.top1,
        "entropy": loss.entropy,
        "kl": loss.kl,
    }
    return {
        "document": np.full(count, document, dtype=object),
        "window": np.full(count, window),
        "position": position,
        "far_start": np.full(count, one.far_start),
        "boundary": np.full(count, one.boundary),
        "distance": position - one.boundary if known else np.full(count, -1),
        "condition": np.full(count, one.condition, dtype=object),
        "repeat": np.full(count, one.repeat),
    } | {name: values for name, values in measured.items() if values is not None}
