"""The target's earlier occurrences, their count-matched control, and copies of the targets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.perturbations.condition import parse
from probe.perturbations.samplers import unigram, vocabulary
from probe.perturbations.targets import drop_target, paste, replace_target

FAR = st.lists(st.integers(0, 9), max_size=60)
SEEDS = st.integers(0, 2**32)
SIX = np.array([6])


@settings(deadline=None)
@given(far=FAR)
def test_occurrences_are_dropped(far):
    """All other tokens stay, in their order."""
    assert drop_target(far, rng=0, targets=SIX) == [token for token in far if token != 6]
    two = np.array([6, 3])
    assert drop_target(far, rng=0, targets=two) == [token for token in far if token not in (6, 3)]


@settings(deadline=None)
@given(far=FAR, seed=SEEDS)
def test_the_control_drops_where_the_keys_are_smallest(far, seed):
    """As many places as there are occurrences, drawn among the others."""
    keys = np.random.default_rng(seed).random(len(far))
    others = sorted((i for i, token in enumerate(far) if token != 6), key=keys.__getitem__)
    gone = set(others[: far.count(6)])
    plain = [token for i, token in enumerate(far) if i not in gone]
    assert drop_target(far, rng=seed, matched=True, targets=SIX) == plain


def test_every_place_is_as_likely_in_the_control():
    """One of four places takes a quarter of 4,000 draws, within 5 SD."""
    rng = np.random.default_rng(0)
    far = [1, 6, 2, 3, 4]
    gone = [
        10 - sum(t for t in drop_target(far, rng=rng, matched=True, targets=SIX) if t != 6)
        for _ in range(4000)
    ]
    counts = np.bincount(gone, minlength=5)[1:]
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(4000 * 0.25 * 0.75)


@settings(deadline=None)
@given(far=FAR, seed=SEEDS, matched=st.booleans())
def test_occurrences_are_replaced(far, seed, matched):
    """Only their places change, or as many others, and no target is put back."""
    sampler = unigram([1] * 10)  # gives a 6 in one of ten draws
    found = replace_target(far, rng=seed, source=sampler, matched=matched, targets=SIX)
    places = [i for i, token in enumerate(far) if token == 6]
    assert len(found) == len(far)
    if matched:
        assert sum(new != old for new, old in zip(found, far, strict=True)) <= len(places)
        assert found.count(6) == far.count(6)
    else:
        assert [found[i] for i in range(len(far)) if i not in places] == [t for t in far if t != 6]
        assert 6 not in found


def test_the_first_draw_is_the_samplers():
    """What stands in a place is what the sampler gives it there."""
    seeds = np.random.default_rng(3).integers(2**63, size=5)
    drawn = vocabulary(range(100, 200))(5, np.random.default_rng(seeds[1]))
    found = replace_target([6, 1, 6, 2, 6], rng=3, source=range(100, 200), targets=SIX)
    assert found == [drawn[0], 1, drawn[2], 2, drawn[4]]


def test_a_source_of_targets_alone_comes_to_an_end():
    """Where nothing else is to be had the target stays."""
    assert replace_target([6, 1], rng=0, source=6, targets=SIX) == [6, 1]


@settings(deadline=None)
@given(far=FAR, targets=st.lists(st.integers(100, 109), max_size=20))
def test_a_copy_ends_at_the_boundary(far, targets):
    """The last tokens of far are the targets, as many of them as fit."""
    found = paste(far, rng=0, targets=np.array(targets, dtype=np.int64))
    assert len(found) == len(far)
    fits = min(len(far), len(targets))
    assert found == far[: len(far) - fits] + targets[len(targets) - fits :]


def test_targets_are_needed():
    """They are handed over by the run, and asked for by name elsewhere."""
    for function, more in ((drop_target, {}), (replace_target, {"source": [1]}), (paste, {})):
        with pytest.raises(
            ValueError, match="the ids of the targets are needed; allowed: targets="
        ):
            function([1, 2], rng=0, **more)
    with pytest.raises(ValueError, match="matched must be True or False; got 1"):
        drop_target([1], rng=0, matched=1, targets=SIX)


def test_a_targeted_removal_has_its_control():
    """The same perturbation at matched places; the control has none, a copy neither."""
    assert parse("drop_target").control == parse("drop_target(matched=True)")
    text = "replace_target(source='unigram')"
    control = parse(text).control
    assert control is not None
    assert control.text == "replace_target(source='unigram', matched=True)"
    assert control.control is parse("paste").control is None
    assert [parse(name).alone for name in ("drop_target", text, "paste")] == [True, True, False]
