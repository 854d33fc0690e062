"""A lower limit of the effective context that needs no fit: distances tested one after another."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from probe.analysis.bins import SINGLE
from probe.analysis.bootstrap import Floats, ratio, standard_error
from probe.analysis.sums import Sums

SPANS = (1.0, np.sqrt(2), 2.0, 4.0, 8.0)
"""Ends of the pooled distances, as multiples of their start; 1 stands for the bin alone."""


def lower_by_tests(sums: Sums, epsilon: float | Floats, confidence: float) -> int:
    """First bin at which it can no longer be shown that delta still exceeds the tolerance.

    A never-rising fit of noise is too high at its beginning, and that of a resample once more:
    where a curve runs just below the tolerance, the quantiles of the fits alone put the lower
    limit beyond the truth far too often (simulated, a plateau at 0.8 ε: 20–45 %). So the limit
    must also stand up to plain tests. Bin by bin from the shortest distance on, *delta is below
    the tolerance from here on* is tested on the bin itself and on longer stretches that start
    there (one-sided t-tests over documents, Bonferroni over the stretches); the first bin where
    none rejects is the limit. As the order is fixed and the testing stops there, the chance of
    passing the true length of a falling curve is at most ``(1 - confidence) / 2``.

    Args:
        sums: The measured bins.
        epsilon: Tolerance (nats), or one a document, shape ``(documents, 1)``.
        confidence: Confidence of the two-sided interval that the limit belongs to.

    Returns:
        Index of the bin; the number of bins where every bin still exceeds the tolerance.

    Source: Maurer, Hothorn and Lehmacher 1995, fixed-sequence testing.
    """
    if sums.documents < 2:
        return 0
    level = (1 - confidence) / 2 / len(SPANS)
    quantile = float(t.ppf(1 - level, sums.documents - 1))
    excess = sums.sums - epsilon * sums.targets
    after = np.arange(len(sums.lower)) + 1
    exceeds = np.zeros(len(sums.lower), dtype=bool)
    for span in SPANS:
        reached = np.searchsorted(sums.lower, np.maximum(sums.lower, SINGLE) * span)
        ends = after if span == 1 else np.maximum(reached, after)
        pooled, targets = _pooled(excess, ends), _pooled(sums.targets, ends)
        mean = ratio(pooled.sum(axis=0), targets.sum(axis=0))
        exceeds |= mean - quantile * standard_error(pooled, targets) > 0
    return len(exceeds) if exceeds.all() else int(exceeds.argmin())


def _pooled(values: Floats, ends: NDArray[np.int64]) -> Floats:
    """Sum over the bins ``i … ends[i] - 1`` for each ``i``; values ``(documents, bins)``."""
    summed = np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))
    pooled: Floats = summed[:, ends] - summed[:, :-1]
    return pooled
