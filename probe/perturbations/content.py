"""Perturbations of content: other tokens in the same places, and a passage in another place."""

from __future__ import annotations  # help() then shows the types as they are written here

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from probe import checks
from probe.perturbations.ids import Ids
from probe.perturbations.registry import Traits, register
from probe.perturbations.samplers import Sampler, draw, is_varied, sampler_of

PLACES = ("last", "first")
"""Where a passage can be moved to."""


@register(
    "replace",
    traits=Traits(
        random=lambda tokens, *, source, rate: rate < 1 or is_varied(source),
        nested=True,
        needs_text=False,
    ),
)
def replace(
    far: Ids, *, rng: Generator, source: Sequence[int] | Sampler | str | int, rate: float = 1.0
) -> Ids:
    """Put other tokens in the place of the far ones, of all or of a share of them.

    A longer far context begins with the shorter one's result, for every sampler of `samplers`.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Source of the draw; equal state, equal result.
        source: Token ids to draw from uniformly, with replacement; the id of a single token; or a
            sampler, called as ``source(n, rng)``, that gives ``n`` token ids. A name
            (``'vocabulary'``, ``'unigram'``, ``'document'``, ``'self'``, ``'newline'``, ``'pad'``,
            ``'mask'``) stands in conditions only, where it is bound to a sampler.
        rate: Probability that a token is replaced, independently of the others, above 0 and at
            most 1. What is drawn may be the token that stood there.

    Returns:
        Token ids, shape ``(n,)``.

    Raises:
        ValueError: If *source* is a name that nothing was bound to, has no ids to draw from, or
            gives another number of ids than it was asked for; if *rate* is not above 0 and at
            most 1.

    Source: Khandelwal et al. 2018, section 3; Sun et al. 2021, sections 3 and 4, with tokens of
    another document; a rate below 1 and single tokens are ours.
    """
    sampler = sampler_of(source)
    if checks.share("rate", rate) == 1:
        return draw(sampler, len(far), rng)
    # A generator each: how many ids the sampler draws must not change which tokens are replaced.
    replaced, drawn = map(np.random.default_rng, rng.integers(2**63, size=2))
    others = draw(sampler, len(far), drawn)
    return np.where(replaced.random(len(far)) < rate, others, far)


@register("move", traits=Traits(random=False, nested=False, needs_text=False))
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
        raise ValueError("move needs the place of a passage; a run that perturbs passages has it")
    rest = np.delete(far, passage)
    moved = [rest, far[passage]] if to == "last" else [far[passage], rest]
    return np.concatenate(moved)
