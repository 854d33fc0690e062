"""Perturbations that remove: fewer tokens, in their order."""

from __future__ import annotations  # help() then shows the types as they are written here

from numpy.random import Generator

from probe.perturbations import checks
from probe.perturbations.ids import Ids
from probe.perturbations.registry import register


@register("drop", removes=True)
def drop(far: Ids, *, rng: Generator, rate: float) -> Ids:
    """Remove each token with the same probability, independently.

    A longer far context begins with what is left of the shorter one.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Source of the choice; equal state, equal result.
        rate: Probability that a token is removed, above 0 and at most 1.

    Returns:
        Token ids, shape ``(k,)`` with ``k <= n``.

    Raises:
        ValueError: If *rate* is not above 0 and at most 1.

    Source: Khandelwal et al. 2018, section 3; there by word class, here at random.
    """
    return far[rng.random(len(far)) >= checks.share("rate", rate)]


@register("truncate", removes=True)
def truncate(far: Ids, *, rng: Generator) -> Ids:
    """Remove all of the far context.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Not drawn from.

    Returns:
        No token ids, shape ``(0,)``.

    Source: Khandelwal et al. 2018, section 3; Sun et al. 2021, sections 3 and 4.
    """
    return far[:0]
