"""The conditions that leave the text alone: what every other one is compared with."""

from __future__ import annotations  # help() then shows the types as they are written here

from numpy.random import Generator

from probe import checks
from probe.perturbations.ids import Ids
from probe.perturbations.registry import STEADY, register


@register("intact", traits=STEADY)
def intact(far: Ids, *, rng: Generator) -> Ids:
    """Leave the far context as it is.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64.
        rng: Not drawn from.

    Returns:
        The same token ids, shape ``(n,)``.
    """
    return far


@register("noise", traits=STEADY)
def noise(far: Ids, *, rng: Generator, windows: int | None = None) -> Ids:
    """Leave the far context as it is, but score it down the path of the perturbed ones.

    What differs from `intact` is arithmetic alone: it is the floor under every other delta.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64.
        rng: Not drawn from.
        windows: On how many windows the floor is measured; ``None`` is all of them.

    Returns:
        The same token ids, shape ``(n,)``.

    Raises:
        ValueError: If *windows* is below 1.
    """
    if windows is not None:
        checks.count("windows", windows, least=1)
    return far


@register("attend", traits=STEADY)
def attend(far: Ids, *, rng: Generator, pattern: str) -> Ids:
    """Leave the text as it is and let attention see only what a pattern allows: ``local(512)``.

    A pattern has no boundary, and its rows no distance, but for those that compress far keys
    (``pool``, ``project``, ``svd``), which tell far from near.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64.
        rng: Not drawn from.
        pattern: Text of an attention pattern, :mod:`probe.attention.parse`.

    Returns:
        The same token ids, shape ``(n,)``.
    """
    return far
