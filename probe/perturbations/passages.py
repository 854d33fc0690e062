"""Perturbations of a passage among others."""

from __future__ import annotations  # help() then shows the types as they are written here

import numpy as np
from numpy.random import Generator

from probe.perturbations import checks
from probe.perturbations.ids import Ids
from probe.perturbations.registry import register

PLACES = ("last", "first")


@register("move")
def move(far: Ids, *, rng: Generator, to: str = "last", passage: slice | None = None) -> Ids:
    """Put a passage behind or before all the others (protocol passages).

    Far is then all from the passage to where it goes; a passage that stands there already is not
    measured.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Not drawn from.
        to: ``'last'`` or ``'first'``.
        passage: Where the passage stands in *far*; a run hands it over.

    Returns:
        Token ids, shape ``(n,)``.

    Raises:
        ValueError: If *to* is neither, or there is no passage.

    Source: ours; Liu et al. 2024, "Lost in the Middle", moves the passage with the answer.
    """
    checks.one_of("to", to, PLACES)
    if passage is None:
        raise ValueError("move needs the place of a passage; a run with protocol passages has it")
    rest = np.delete(far, passage)
    moved = [rest, far[passage]] if to == "last" else [far[passage], rest]
    return np.concatenate(moved)
