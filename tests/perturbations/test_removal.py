"""Fewer tokens, in their order; and none removed by the controls."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.perturbations.controls import noise
from probe.perturbations.removal import drop, truncate


@settings(deadline=None)
@given(n=st.integers(0, 200), rate=st.floats(0, 1, exclude_min=True), seed=st.integers(0, 2**32))
def test_each_token_is_dropped_on_its_own(n, rate, seed):
    """A token stays where its own draw is not below the rate."""
    rng = np.random.default_rng(seed)
    plain = [i for i in range(n) if rng.random() >= rate]
    assert drop(list(range(n)), rng=seed, rate=rate) == plain


def test_the_rate_is_the_share_that_goes():
    """Of 10,000 tokens a quarter goes, within 5 SD; at rate 1 all."""
    left = len(drop(np.arange(10_000), rng=0, rate=0.25))
    assert abs(left - 7500) < 5 * np.sqrt(10_000 * 0.25 * 0.75)
    assert drop([1, 2, 3], rng=0, rate=1) == []


@pytest.mark.parametrize("rate", [0, -0.1, 1.01, True, float("nan"), "0.5"])
def test_a_rate_must_be_a_share(rate):
    """Nothing dropped is `intact`, so rate 0 is a mistake too."""
    with pytest.raises(ValueError, match=f"rate must be .* above 0 and at most 1; got {rate!r}"):
        drop([1, 2, 3], rng=0, rate=rate)


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 1000)))
def test_truncation_leaves_nothing(ids):
    """All of far is gone, however long it was."""
    assert truncate(ids, rng=0) == []


@pytest.mark.parametrize("windows", [0, -1, 1.5, True, "all"])
def test_noise_is_measured_on_at_least_one_window(windows):
    """The number of windows is checked though the text is left alone."""
    with pytest.raises(ValueError, match=f"windows must be an integer >= 1; got {windows!r}"):
        noise([1, 2, 3], rng=0, windows=windows)
