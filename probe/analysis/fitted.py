"""A fitted curve with its resamples, and where such a curve falls below a tolerance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.analysis.bootstrap import Bootstrap, bootstrap
from probe.analysis.isotonic import isotonic, isotonic_stack
from probe.analysis.sums import Sums

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FittedCurve:
    """A curve with its resamples, all of them fitted: what every tolerance is read from.

    Args:
        condition: Canonical text of the condition.
        sums: The measured bins, grey ones left out.
        resampled: Its document bootstrap.
        fit: Never-rising fit of the mean (nats), shape ``(bins,)``.
        fits: Fit of each resample, shape ``(resamples, bins)``.
        confidence: Confidence of the interval.
    """

    condition: str
    sums: Sums
    resampled: Bootstrap
    fit: Floats
    fits: Floats
    confidence: float


def fit_curve(condition: str, sums: Sums, weights: Floats, confidence: float) -> FittedCurve:
    """Bootstrap a curve and fit it and each of its resamples.

    Args:
        condition: Canonical text of the condition.
        sums: Sums by document and bin, without grey rows.
        weights: Draws of the documents, shape ``(resamples, documents)``.
        confidence: Confidence of the interval.
    """
    resampled = bootstrap(sums.sums, sums.targets, weights, confidence)
    fit = isotonic(resampled.mean, sums.targets.sum(axis=0))
    fits = isotonic_stack(resampled.draws, resampled.targets)
    return FittedCurve(condition, sums, resampled, fit, fits, confidence)


def first_below(
    fits: Floats, epsilon: float | Floats, lower: NDArray[np.int64], reach: int
) -> NDArray[np.int64]:
    """Index of the bin from which a never-rising curve lies below the tolerance.

    A curve that gets there only in the last half octave before *reach* counts as beyond it: too
    little is left behind the crossing to say that the curve stays down. Below from the first bin
    on is an answer however few bins there are.

    Args:
        fits: Never-rising curves (nats), shape ``(…, bins)``.
        epsilon: Tolerance (nats), one or one a curve, shape ``(…,)``.
        lower: First distance of each bin (tokens).
        reach: End of the last bin (tokens).

    Returns:
        Index of the bin, shape ``(…,)``; the number of bins where it lies beyond reach.
    """
    below = fits < np.asarray(epsilon)[..., None]
    index = np.where(below.any(axis=-1), below.argmax(axis=-1), len(lower))
    too_late = np.append(lower >= reach / np.sqrt(2), True)
    too_late[0] = False
    return np.where(too_late[index], len(lower), index)
