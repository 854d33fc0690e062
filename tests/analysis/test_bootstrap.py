"""The document bootstrap against resampling documents one by one."""

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm, t

from probe.analysis.bootstrap import (
    bootstrap,
    pointwise_band,
    resample_weights,
    simultaneous_band,
    standard_error,
    stretch,
)


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 5, size=(9, 4)).astype(float)
    sums = rng.normal(size=(9, 4)) * targets
    return sums, targets


def test_resamples_are_those_of_a_loop_over_documents(data):
    """Weights times sums is the same as putting the drawn documents together and dividing."""
    sums, targets = data
    weights = resample_weights(9, 50, seed=3)
    result = bootstrap(sums, targets, weights, 0.95)
    drawn = np.random.default_rng(3).integers(9, size=(50, 9))
    factor = t.ppf(0.975, 8) / norm.ppf(0.975) * np.sqrt(9 / 8)
    mean = sums.sum(axis=0) / targets.sum(axis=0)
    for number, chosen in enumerate(drawn):
        plain = sum(sums[i] for i in chosen) / sum(targets[i] for i in chosen)
        np.testing.assert_allclose(result.draws[number], mean + factor * (plain - mean))


def test_weights_are_multinomial_and_seeded():
    """Each resample draws as many documents as there are; a seed fixes them."""
    weights = resample_weights(12, 500, seed=5)
    assert (weights.sum(axis=1) == 12).all()
    np.testing.assert_array_equal(weights, resample_weights(12, 500, seed=5))
    assert weights.var() == pytest.approx(1 - 1 / 12, abs=0.05)


def test_a_resample_without_a_target_is_no_number_and_no_warning():
    """A bin that one document alone has is missing where it was not drawn."""
    targets = np.ones((4, 2))
    targets[1:, 1] = 0
    weights = resample_weights(4, 200, seed=0)
    result = bootstrap(targets * 0.5, targets, weights, 0.95)
    np.testing.assert_array_equal(np.isnan(result.draws[:, 1]), weights[:, 0] == 0)
    low, high = pointwise_band(result, 0.95)
    np.testing.assert_allclose([low, high], 0.5)


def test_few_documents_say_nothing():
    """One document has no spread: limits are missing."""
    result = bootstrap(np.ones((1, 3)), np.ones((1, 3)), resample_weights(1, 20, 0), 0.95)
    assert np.isnan(pointwise_band(result, 0.95)).all()
    assert np.isnan(simultaneous_band(result, 0.95)).all()
    assert np.isnan(stretch(1, 0.95))


def test_the_standard_error_of_a_mean_is_the_textbook_one():
    """With one target a document the ratio is a plain mean."""
    values = np.random.default_rng(0).normal(size=(15, 2))
    expected = values.std(axis=0, ddof=1) / np.sqrt(15)
    np.testing.assert_allclose(standard_error(values, np.ones((15, 2))), expected)


@pytest.mark.slow
def test_the_pointwise_band_covers_where_normal_quantiles_do_not():
    """With six documents the stretched band holds the mean in about 95 of 100 runs."""
    rng = np.random.default_rng(0)
    weights = resample_weights(6, 800, seed=0)
    sums = rng.normal(size=(6, 3000))
    low, high = pointwise_band(bootstrap(sums, np.ones_like(sums), weights, 0.95), 0.95)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.95, abs=0.025)


def test_the_simultaneous_band_holds_all_bins_of_nearly_all_resamples():
    """It is wider than the pointwise band, and 95 of 100 resamples stay inside everywhere."""
    rng = np.random.default_rng(2)
    sums = rng.normal(size=(30, 12))
    result = bootstrap(sums, np.ones_like(sums), resample_weights(30, 1000, 0), 0.95)
    low, high = simultaneous_band(result, 0.95)
    inside = ((result.draws >= low) & (result.draws <= high)).all(axis=1)
    assert inside.mean() == pytest.approx(0.95, abs=0.005)
    assert (high - low > np.diff(pointwise_band(result, 0.95), axis=0)[0]).all()


def test_scipy_gives_the_same_limits_of_documents():
    """Whole documents resampled as pairs of sum and count by scipy: same limits, unstretched."""
    rng = np.random.default_rng(3)
    targets = rng.integers(5, 30, size=40).astype(float)
    sums = targets * rng.normal(0.1, 0.05, size=40)
    theirs = scipy_bootstrap(
        (sums, targets),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=8000,
        method="percentile",
        rng=rng,
    )
    found = bootstrap(sums[:, None], targets[:, None], resample_weights(40, 8000, 1), 0.95)
    plain = found.mean[0] + (found.draws[:, 0] - found.mean[0]) / stretch(40, 0.95)
    limits = np.quantile(plain, [0.025, 0.975])
    interval = theirs.confidence_interval
    np.testing.assert_allclose(limits, [interval.low, interval.high], atol=0.002)
    assert plain.std() == pytest.approx(theirs.standard_error, rel=0.05)
    assert found.standard_error[0] == pytest.approx(theirs.standard_error, rel=0.06)
