"""Perturbations of order: the same tokens in other places."""

from __future__ import annotations  # help() then shows the types as they are written here

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.random import Generator

from probe import checks
from probe.perturbations.ids import Ids
from probe.perturbations.registry import Traits, register
from probe.perturbations.units import TYPICAL, UNITS, TokenText, text_of

PLACES = ("last", "first")
"""Where a passage can be moved to."""
# What each unit may be permuted inside of; None is all of far.
_WITHIN = {"token": (None, "sentence", "word"), "word": (None, "sentence"), "sentence": (None,)}


def _declared(sizes: Callable[..., tuple[float, float]]) -> Traits:
    """What is known of permutations by the tokens of a unit, and of the group that no unit leaves.

    Something moves where two units stand in one group. A longer far context begins with the shorter
    one's result where that holds a whole group, or where nothing moves in either.
    """

    def random(tokens: int, **parameters: Any) -> bool:
        unit, group = sizes(**parameters)
        return min(group, tokens) > unit

    def nested(shorter: int, longer: int, **parameters: Any) -> bool:
        unit, group = sizes(**parameters)
        return shorter >= group or min(group, longer) <= unit

    def needs_text(*, unit: str = "token", within: str | None = None, **_: Any) -> bool:
        return unit != "token" or within is not None

    return Traits(random, nested, needs_text)


def _shuffled(*, span: int | None, unit: str, within: str | None) -> tuple[float, float]:
    group = TYPICAL[within] if within else math.inf
    return TYPICAL[unit], group if span is None else min(span, group)


def _shuffled_spans(*, span: int, within: str | None) -> tuple[float, float]:
    group = TYPICAL[within] if within else math.inf
    return min(span, group), group


@register("shuffle", traits=_declared(_shuffled))
def shuffle(
    far: Ids,
    *,
    rng: Generator,
    span: int | None = None,
    unit: str = "token",
    within: str | None = None,
    text: TokenText | None = None,
) -> Ids:
    """Permute tokens, words or sentences: all at once, or inside spans, sentences or words.

    Inside a unit the tokens keep their order. With a span, or within sentences or words, a longer
    far context begins with the shorter one's result, up to the last whole one. Where there is
    only one unit, nothing changes.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Source of the permutation; equal state, equal result.
        span: Tokens per span, the last may be shorter, and so may the last of each sentence or
            word that it is cut from; ``None`` is one span. For tokens only.
        unit: What is permuted: ``'token'``, ``'word'`` or ``'sentence'``.
        within: ``'sentence'`` permutes inside each sentence, where a word belongs to the sentence
            that it begins in; ``'word'`` permutes the tokens of each word; ``None`` is all of far.
        text: The text of *far*, for words and sentences.

    Returns:
        Token ids, shape ``(n,)``.

    Raises:
        ValueError: If *span* is below 2, which could not change any order; if the three do not go
            together; or if there is no text to find words or sentences in.

    Source: Khandelwal et al. 2018, section 3; Sun et al. 2021, sections 3 and 4, for the whole
    prefix; O'Connor & Andreas 2021, section 4.1, for words, sentences, words within sentences and
    trigrams; spans over all of far are ours.
    """
    checks.one_of("unit", unit, UNITS)
    checks.one_of(f"within, with unit={unit!r},", within, _WITHIN[unit])
    if span is not None and unit != "token":
        raise ValueError(f"span counts tokens and goes with unit='token'; got unit={unit!r}")
    length = len(far) if span is None else checks.count("span", span, least=2)
    groups = _pieces(_groups(far, within, text), length)
    return far[_permuted(_numbered(_units(far, unit, text)), groups, rng)]


@register("shuffle_spans", traits=_declared(_shuffled_spans))
def shuffle_spans(
    far: Ids,
    *,
    rng: Generator,
    span: int,
    within: str | None = None,
    text: TokenText | None = None,
) -> Ids:
    """Permute whole spans and keep the order inside each.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Source of the permutation; equal state, equal result.
        span: Tokens per span, the last may be shorter.
        within: ``'sentence'`` cuts each sentence into spans and permutes them inside it; ``None``
            does so with all of far.
        text: The text of *far*, for sentences.

    Returns:
        Token ids, shape ``(n,)``.

    Raises:
        ValueError: If *span* is below 1, *within* is another, or there is no text to find
            sentences in.

    Source: O'Connor & Andreas 2021, section 4.1 (trigrams, globally and within sentences; theirs
    are of words). The counterpart of `shuffle` inside spans.
    """
    checks.one_of("within", within, (None, "sentence"))
    groups = _groups(far, within, text)
    units = _pieces(groups, checks.count("span", span, least=1))
    return far[_permuted(units, groups, rng)]


@register(
    "reverse",
    traits=replace(_declared(lambda *, unit: (TYPICAL[unit], math.inf)), random=False),
)
def reverse(far: Ids, *, rng: Generator, unit: str = "token", text: TokenText | None = None) -> Ids:
    """Put the tokens, words or sentences in the opposite order.

    Inside a unit the tokens keep their order.

    Args:
        far: Token ids of the far context, shape ``(n,)``, int64; left untouched.
        rng: Not drawn from.
        unit: What is reversed: ``'token'``, ``'word'`` or ``'sentence'``.
        text: The text of *far*, for words and sentences.

    Returns:
        Token ids, shape ``(n,)``.

    Raises:
        ValueError: If *unit* is another, or there is no text to find it in.

    Source: Khandelwal et al. 2018, section 3, for tokens; words and sentences are ours.
    """
    checks.one_of("unit", unit, UNITS)
    return far[np.argsort(-_units(far, unit, text), kind="stable")]


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


def _units(far: Ids, unit: str, text: TokenText | None) -> Ids:
    """The number of the unit of each token, never falling, shape ``(n,)``."""
    return np.arange(len(far)) if unit == "token" else text_of(far, text, unit).units(unit)


def _groups(far: Ids, within: str | None, text: TokenText | None) -> Ids:
    """What no token leaves: its sentence or word, or the one group of all; shape ``(n,)``."""
    return np.zeros(len(far), dtype=np.int64) if within is None else _units(far, within, text)


def _numbered(units: Ids) -> Ids:
    """The same units, numbered from 0 without a gap."""
    return np.cumsum(np.diff(units, prepend=units[:1]) != 0)


def _pieces(groups: Ids, span: int) -> Ids:
    """Cut each group into pieces of *span* tokens, numbered from 0 over all groups."""
    groups = _numbered(groups)
    first = np.searchsorted(groups, groups)  # of the group of each token
    # A span beyond far is one span, however large the number that was asked for.
    piece = (np.arange(len(groups)) - first) // max(1, min(span, len(groups)))
    return np.cumsum((np.diff(groups, prepend=0) != 0) | (np.diff(piece, prepend=0) != 0))


def _permuted(units: Ids, groups: Ids, rng: Generator) -> Ids:
    """Places of the tokens after the units of each group were put in a random order."""
    firsts = np.searchsorted(units, np.arange(units[-1] + 1 if len(units) else 0))
    keys = rng.random(len(firsts))
    # Equal keys leave tokens in their order, and tokens of a unit have one key.
    return np.lexsort((keys[units], groups[firsts][units]))
