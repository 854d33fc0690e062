"""Features of targets from token ids, against a double loop over the window."""

import numpy as np
import pytest
from copies_by_loops import features_of
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.analysis.copies import FEATURES, Copies, log_frequencies

NAMES = {name: at for at, name in enumerate(FEATURES)}


def features(ids, place, boundary, frequencies=None):
    ids = np.asarray(ids)
    known = log_frequencies([ids])[ids] if frequencies is None else frequencies
    return Copies(ids, known).features(np.asarray(place), np.asarray(boundary))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(data=st.data(), ids=st.lists(st.integers(0, 3), min_size=1, max_size=14))
def test_the_features_of_every_target_are_those_of_a_double_loop(data, ids):
    """At any place, from the window's first token on, and for any boundary up to it."""
    frequencies = data.draw(
        st.lists(st.floats(-9, -0.1), min_size=len(ids), max_size=len(ids)).map(np.array)
    )
    targets = [(place, boundary) for place in range(len(ids)) for boundary in range(place + 1)]
    place, boundary = np.array(targets).T
    found = features(ids, place, boundary, frequencies)
    expected = [features_of(ids, frequencies, *target) for target in targets]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_long_window_of_a_large_vocabulary():
    """Ids far above the window's length, as a model's are, in the narrow types of files too."""
    rng = np.random.default_rng(0)
    ids = rng.integers(200_000, 200_020, size=150)
    place = rng.integers(20, 150, size=40)
    boundary = place - rng.integers(0, 20, size=40)
    frequencies = np.full(150, -5.0)
    expected = [
        features_of(ids.tolist(), frequencies, *target)
        for target in zip(place.tolist(), boundary.tolist(), strict=True)
    ]
    for kind in (np.int64, np.int32):
        found = features(ids.astype(kind), place.astype(kind), boundary.astype(kind), frequencies)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_without_far_text_nothing_is_predicted():
    """At boundary 0 far and near is near, and the first token has nothing before it at all."""
    ids = [1, 2, 1, 2, 3, 1, 2, 3]
    assert not features(ids, range(8), [0] * 8).any()
    assert np.isfinite(features(ids, [0], [0])).all()
    assert not features([5], [0], [0]).any()


def test_what_stands_in_far_text_alone_is_told_by_it():
    """A phrase of far text that comes back: its last word is in no near n-gram."""
    ids = [*range(10, 20), *range(30, 60), *range(10, 20)]
    (last,) = features(ids, [49], [40])
    names = ("far 1-gram", "far 2-gram", "far 3-gram", "far 4-gram")
    assert [last[NAMES[name]] for name in names] == [1, 1, 1, 1]
    assert last[NAMES["cache gain"]] > 1
    assert last[NAMES["cache loss"]] == 0
    assert last[NAMES["cache gain, going on"]] > last[NAMES["cache gain"]]
    # The first word of the phrase comes back alone, with another word before it.
    (first,) = features(ids, [40], [35])
    assert [first[NAMES[name]] for name in names] == [1, 0, 0, 0]
    assert first[NAMES["rare far 1-gram"]] == log_frequencies([np.array(ids)])[10]
    assert first[NAMES["cache gain"]] > 0 == first[NAMES["cache gain, going on"]]


def test_what_near_text_holds_too_is_no_feature():
    """The same phrase once more in near text."""
    ids = [*range(10, 20), *range(30, 60), *range(10, 20), *range(10, 20)]
    (last,) = features(ids, [59], [40])
    assert not last[:4].any()


def test_an_n_gram_across_the_boundary_is_near():
    """It ends in near text, where its last token is intact: only what ends before is far."""
    ids = [7, 8, 9, 1, 7, 8, 9]
    (across,) = features(ids, [6], [2])
    assert not across[:4].any()
    (before,) = features(ids, [6], [3])
    assert before[:3].all()


def test_no_targets_have_no_features():
    assert features([1, 2, 3], np.array([], int), np.array([], int)).shape == (0, len(FEATURES))


def test_frequencies_are_shares_of_all_windows_with_every_id_counted_once_more():
    windows = [np.array([0, 2, 2]), np.array([2, 5])]
    shares = np.exp(log_frequencies(windows))
    assert shares == pytest.approx(np.array([2, 1, 4, 1, 1, 2]) / 11)
