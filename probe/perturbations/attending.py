"""What leaves the text alone and limits what the model's attention may see of it."""

from __future__ import annotations  # help() then shows the types as they are written here

from numpy.random import Generator

from probe.perturbations.ids import Ids
from probe.perturbations.registry import register


@register("attend")
def attend(far: Ids, *, rng: Generator, pattern: str) -> Ids:
    """Leave the text as it is and let attention see only what a pattern allows: ``local(512)``.

    A pattern has no boundary, and its rows no distance, but for those that compress far keys
    (``pool``, ``project``, ``svd``), which tell far from near.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64.
        rng: Not drawn from.
        pattern: Text of an attention pattern, :mod:`probe.attention.text`.

    Returns:
        The same token ids, shape ``(n,)``.
    """
    return far
