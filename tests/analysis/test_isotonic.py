"""The non-increasing fit against pooling neighbours by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from probe.analysis.fit import isotonic, isotonic_stack


def pooled(values, weights):
    """Pool neighbours that rise until none does."""
    blocks = [[value, weight, 1] for value, weight in zip(values, weights, strict=True)]
    while True:
        rising = [i for i in range(len(blocks) - 1) if blocks[i][0] < blocks[i + 1][0]]
        if not rising:
            return np.concatenate([[value] * count for value, _, count in blocks])
        i = rising[0]
        (a, u, m), (b, v, n) = blocks[i : i + 2]
        blocks[i : i + 2] = [[(a * u + b * v) / (u + v), u + v, m + n]]


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 9)), min_size=1, max_size=30))
def test_the_fit_is_that_of_pooling_by_hand(pairs):
    """Brute-force pooling of adjacent violators gives the same."""
    values, weights = np.array(pairs, dtype=float).T
    np.testing.assert_allclose(isotonic(values, weights), pooled(values, weights), atol=1e-9)


def test_a_bin_without_targets_carries_the_fit_before_it():
    """A gap changes nothing around it and never makes the curve fall."""
    values = np.array([np.nan, 5, np.nan, 1, np.nan])
    weights = np.array([0.0, 1, 0, 1, 0])
    assert isotonic(values, weights).tolist() == [5, 5, 5, 1, 1]
    assert np.isnan(isotonic(values, np.zeros(5))).all()


def test_a_stack_is_fitted_row_by_row():
    """Each resample has its own weights."""
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(5, 8)), rng.integers(1, 9, size=(5, 8)).astype(float)
    for row, fit in enumerate(isotonic_stack(values, weights)):
        np.testing.assert_allclose(fit, pooled(values[row], weights[row]))
