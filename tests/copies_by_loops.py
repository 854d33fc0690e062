"""The features of a target by a double loop over its window: what a faster way is held against."""

from collections.abc import Sequence

import numpy as np

from probe.analysis.copies import BEFORE, ORDER, TRUST


def ends(ids: Sequence[int], gram: Sequence[int], before: int, first: int = 0) -> int:
    """How often an n-gram ends at a token from *first* on and before a place."""
    size = len(gram)
    places = range(max(first, size - 1), before)
    return sum(tuple(ids[at - size + 1 : at + 1]) == tuple(gram) for at in places)


def features_of(
    ids: Sequence[int], log_frequency: Sequence[float], place: int, boundary: int
) -> list[float]:
    """The features of the target at a place whose near text begins at the boundary."""
    *only_far, gain, near = caches(ids, log_frequency, place, boundary)
    told, going_on = max(gain, 0.0), 0.0
    for at in range(max(place - BEFORE, boundary), place):
        going_on += max(caches(ids, log_frequency, at, boundary)[-2], 0.0) / BEFORE
    rare = only_far[0] * log_frequency[place]
    return [*only_far, rare, told, min(gain, 0.0), told * near, told * going_on]


def caches(
    ids: Sequence[int], log_frequency: Sequence[float], place: int, boundary: int
) -> list[float]:
    """By order whether the n-gram is in far text alone; the gain of far text; log P in near."""
    rarity = log_frequency[place]
    whole = near = np.exp(rarity)
    only_far = []
    for order in range(1, ORDER + 1):
        gram, context = (), ()
        if place >= order - 1:  # else it begins before the window
            gram = tuple(ids[place - order + 1 : place + 1])
            context = gram[:-1]
        far = ends(ids, gram, boundary) if gram else 0
        close = ends(ids, gram, place, boundary) if gram else 0
        only_far.append(float(far > 0 and close == 0))
        if order == 1:
            every, every_near = place, place - boundary
        else:
            # What follows the context is near where it ends from the token before the boundary on.
            every = ends(ids, context, place - 1) if context else 0
            every_near = ends(ids, context, place - 1, max(boundary - 1, 0)) if context else 0
        trust = TRUST[order - 1]
        whole = (far + close + trust * whole) / (every + trust)
        near = (close + trust * near) / (every_near + trust)
    return [*only_far, float(np.log(whole) - np.log(near)), float(np.log(near))]
