"""Perturbations of order: the same tokens, elsewhere."""

from __future__ import annotations  # help() then shows the types as they are written here

import numpy as np
from numpy.random import Generator

from probe.perturbations import checks
from probe.perturbations.ids import Ids
from probe.perturbations.registry import register


@register("shuffle")
def shuffle(far: Ids, *, rng: Generator, span: int | None = None) -> Ids:
    """Permute tokens, all at once or inside consecutive spans.

    With a span, a longer far context begins with the shorter one's result, up to its last whole
    span.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Source of the permutation; equal state, equal result.
        span: Tokens per span, the last may be shorter; ``None`` is one span.

    Returns:
        Token ids, shape ``(n,)``.

    Raises:
        ValueError: If *span* is below 2, which could not change any order.

    Source: Khandelwal et al. 2018, section 3; Sun et al. 2021, sections 3 and 4, for the whole
    prefix; spans over all of far are ours.
    """
    length = len(far) if span is None else checks.count("span", span, least=2)
    return far[np.lexsort((rng.random(len(far)), _span_of_each(far, length)))]


@register("shuffle_spans")
def shuffle_spans(far: Ids, *, rng: Generator, span: int) -> Ids:
    """Permute whole spans and keep the order inside each.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Source of the permutation; equal state, equal result.
        span: Tokens per span, the last may be shorter.

    Returns:
        Token ids, shape ``(n,)``.

    Raises:
        ValueError: If *span* is below 1.

    Source: ours, the counterpart of `shuffle` inside spans.
    """
    spans = _span_of_each(far, checks.count("span", span, least=1))
    keys = rng.random(spans[-1] + 1 if len(spans) else 0)
    return far[np.argsort(keys[spans], kind="stable")]


@register("reverse")
def reverse(far: Ids, *, rng: Generator) -> Ids:
    """Put the tokens in the opposite order.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Not drawn from.

    Returns:
        Token ids, shape ``(n,)``.

    Source: Khandelwal et al. 2018, section 3.
    """
    return far[::-1]


def _span_of_each(far: Ids, span: int) -> Ids:
    # A span beyond far is one span, however large the number that was asked for.
    return np.arange(len(far)) // max(1, min(span, len(far)))
