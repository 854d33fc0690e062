"""Perturbations that know the target: its other occurrences, and a copy of it."""

from __future__ import annotations  # help() then shows the types as they are written here

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from probe import checks
from probe.perturbations.ids import Ids
from probe.perturbations.registry import STEADY, Traits, register
from probe.perturbations.samplers import Sampler, draw, is_varied, sampler_of

_DRAWS = 4  # so often is drawn until no target stands where one was taken out


# Matched places are drawn among all of far: another far context, other places. Where one place of
# three tokens is taken, two are left to draw from.
@register(
    "drop_target",
    removes=True,
    alone=True,
    traits=Traits(
        random=lambda tokens, *, matched: matched and tokens > 2,
        nested=lambda *_, matched: not matched,
        needs_text=False,
    ),
)
def drop_target(
    far: Ids, *, rng: Generator, matched: bool = False, targets: Ids | None = None
) -> Ids:
    """Remove the other occurrences of the target.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Source of the places, where they are matched; equal state, equal result.
        matched: The control: remove as many tokens at random places that hold no occurrence, or
            all of them where there are fewer.
        targets: Ids of the targets, shape ``(m,)``; a run hands over one.

    Returns:
        Token ids, shape ``(k,)`` with ``k <= n``.

    Raises:
        ValueError: If *matched* is no bool or there is no target.

    Source: Khandelwal et al. 2018, section 6.1; the count-matched control is ours.
    """
    return far[~_places(far, rng, matched, targets)]


@register(
    "replace_target",
    alone=True,
    traits=Traits(
        random=lambda tokens, *, source, matched: (
            (matched and tokens > 2) or (is_varied(source) and tokens > matched)
        ),
        nested=lambda *_, source, matched: not matched,
        needs_text=False,
    ),
)
def replace_target(
    far: Ids,
    *,
    rng: Generator,
    source: Sequence[int] | Sampler | str | int,
    matched: bool = False,
    targets: Ids | None = None,
) -> Ids:
    """Put other tokens in the place of the other occurrences of the target.

    A target that is drawn for one of these places is drawn again, up to 3 times.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Source of the draw; equal state, equal result.
        source: Where the other tokens come from; see `content.replace`.
        matched: The control: replace as many tokens at random places that hold no occurrence, or
            all of them where there are fewer.
        targets: Ids of the targets, shape ``(m,)``; a run hands over one.

    Returns:
        Token ids, shape ``(n,)``.

    Raises:
        ValueError: If *source* gives no ids, *matched* is no bool or there is no target.

    Source: Khandelwal et al. 2018, section 6.1; Sun et al. 2021, section 5; the count-matched
    control is ours.
    """
    sampler, ids = sampler_of(source), _checked(targets)
    # A generator for every draw: a longer far context goes on where the shorter one ended.
    place, *seeds = rng.integers(2**63, size=1 + _DRAWS)
    wanted, others = _places(far, np.random.default_rng(place), matched, targets), far
    for seed in seeds:
        if not wanted.any():
            break
        others = np.where(wanted, draw(sampler, len(far), np.random.default_rng(seed)), others)
        wanted &= np.isin(others, ids)
    return others


@register("paste", traits=STEADY)
def paste(far: Ids, *, rng: Generator, targets: Ids | None = None) -> Ids:
    """Overwrite the end of far with a copy of the targets.

    The copy of m targets stands in the last m places of far. Where far lies before the targets, a
    target's copy stands as far before it as the boundary before the first target, plus m; where it
    lies behind them, the copy is the end of the window. Where far is shorter than m, only the last
    part of the copy fits.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Not drawn from.
        targets: Ids of the targets, shape ``(m,)``.

    Returns:
        Token ids, shape ``(n,)``.

    Raises:
        ValueError: If there is no target.

    Source: Sun et al. 2021, section 5 (sequence copying).
    """
    copy = _checked(targets)
    fits = min(len(far), len(copy))
    return np.concatenate([far[: len(far) - fits], copy[len(copy) - fits :]])


def _places(far: Ids, rng: Generator, matched: bool, targets: Ids | None) -> NDArray[np.bool_]:
    """Where a target occurs, or as many random places where none does; shape ``(n,)``."""
    occurs = np.isin(far, _checked(targets))
    if not checks.flag("matched", matched):
        return occurs
    keys = np.where(occurs, np.inf, rng.random(len(far)))
    count = min(occurs.sum(), len(far) - occurs.sum())
    places = np.zeros(len(far), dtype=np.bool_)
    places[np.argsort(keys, kind="stable")[:count]] = True
    return places


def _checked(targets: Ids | None) -> Ids:
    if targets is None:
        raise ValueError("the ids of the targets are needed; allowed: targets=numpy.array([id])")
    return targets
