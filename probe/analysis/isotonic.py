"""The never-rising fit: what a curve looks like if more near text can only help."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

Floats = NDArray[np.float64]


def isotonic(values: Floats, weights: Floats) -> Floats:
    """Weighted least-squares fit of a curve that never rises.

    A bin without weight takes no part and carries the fit of the bin before it (the first ones
    that of the first bin with weight): a gap never makes the curve fall.

    Args:
        values: Mean delta by bin (nats), shape ``(bins,)``; may be NaN where the weight is 0.
        weights: Targets by bin, shape ``(bins,)``, not negative.

    Returns:
        The fit (nats), shape ``(bins,)``, never rising; all NaN if no bin has weight.

    Source: Barlow et al. 1972, pool-adjacent-violators; scipy.optimize.isotonic_regression.
    """
    known = np.flatnonzero((weights > 0) & np.isfinite(values))
    if not len(known):
        return np.full(len(values), np.nan)
    fitted = isotonic_regression(values[known], weights=weights[known], increasing=False).x
    if len(known) == len(values):
        return np.asarray(fitted, dtype=np.float64)
    before = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return np.asarray(fitted, dtype=np.float64)[np.maximum(before, 0)]


def isotonic_stack(values: Floats, weights: Floats) -> Floats:
    """The fit of each row, see :func:`isotonic`.

    Args:
        values: Curves (nats), shape ``(resamples, bins)``.
        weights: Targets of each, same shape.

    Returns:
        Fits (nats), shape ``(resamples, bins)``.
    """
    fits = [isotonic(*row) for row in zip(values, weights, strict=True)]
    return np.array(fits, dtype=np.float64).reshape(values.shape)
