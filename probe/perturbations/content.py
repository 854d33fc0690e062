"""Perturbations of content: other tokens in the same places."""

from __future__ import annotations  # help() then shows the types as they are written here

from collections.abc import Sequence

from numpy.random import Generator

from probe.perturbations.ids import Ids, to_array
from probe.perturbations.registry import register
from probe.perturbations.samplers import SOURCES, Sampler, vocabulary


@register("replace")
def replace(far: Ids, *, rng: Generator, source: Sequence[int] | Sampler | str) -> Ids:
    """Put other tokens in the place of the far ones.

    A longer far context begins with the shorter one's result, for every sampler of `samplers`.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; only its length is used.
        rng: Source of the draw; equal state, equal result.
        source: Token ids to draw from uniformly, with replacement; or a sampler, called as
            ``source(n, rng)``, that gives ``n`` token ids. A name (``'vocabulary'``,
            ``'unigram'``, ``'document'``, ``'self'``) stands in conditions only, where it is
            bound to a sampler.

    Returns:
        Token ids, shape ``(n,)``.

    Raises:
        ValueError: If *source* is a name that nothing was bound to, has no ids to draw from, or
            gives another number of ids than it was asked for.

    Source: Khandelwal et al. 2018, section 3; Sun et al. 2021, sections 3 and 4, with tokens of
    another document.
    """
    if isinstance(source, str):
        raise ValueError(
            f"source {source!r} is a name without a sampler; bind one: "
            f"parse(\"replace(source='document')\").apply(far, rng=rng, "
            f"sources={{'document': sampler}}), or pass a sampler or token ids as source "
            f"(names in conditions: {', '.join(SOURCES)})"
        )
    draw = source if callable(source) else vocabulary(source)
    drawn = to_array(draw(len(far), rng), what="the ids drawn from source")
    if len(drawn) != len(far):
        raise ValueError(f"source must give {len(far)} ids, as asked for; got {len(drawn)}")
    return drawn
