"""The controls, which leave the text alone, and other tokens in the same places."""

from __future__ import annotations  # help() then shows the types as they are written here

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from probe import checks
from probe.perturbations.ids import Ids
from probe.perturbations.registry import STEADY, Traits, register
from probe.perturbations.samplers import Sampler, draw, is_varied, sampler_of
from probe.text import shown


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


@register(
    "replace",
    traits=Traits(
        random=lambda tokens, *, source, rate, shared: rate < 1 or is_varied(source),
        nested=True,
        needs_text=False,
    ),
)
def replace(
    far: Ids,
    *,
    rng: Generator,
    source: Sequence[int] | Sampler | str | int,
    rate: float = 1.0,
    shared: int | None = None,
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
        shared: Of ``'document'``, in conditions only: how many texts are drawn once for a run, of
            which the windows of a document all take one; ``None`` draws one for each window.

    Returns:
        Token ids, shape ``(n,)``.

    Raises:
        ValueError: If *source* is a name that nothing was bound to, has no ids to draw from, or
            gives another number of ids than it was asked for; if *rate* is not above 0 and at
            most 1; if *shared* is below 2, or comes with a *rate* below 1.

    Source: Khandelwal et al. 2018, section 3; Sun et al. 2021, sections 3 and 4, with tokens of
    another document; a rate below 1, single tokens and shared texts are ours.
    """
    sampler = sampler_of(source)
    checks.share("rate", rate)
    if shared is not None:
        checks.count("shared", shared, least=2)
        if rate < 1:
            raise ValueError(f"shared must come without a rate; got rate {shown(rate)}")
    if rate == 1:
        return draw(sampler, len(far), rng)
    # A generator each: how many ids the sampler draws must not change which tokens are replaced.
    replaced, drawn = map(np.random.default_rng, rng.integers(2**63, size=2))
    others = draw(sampler, len(far), drawn)
    return np.where(replaced.random(len(far)) < rate, others, far)
