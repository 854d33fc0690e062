"""Limits of an effective context: where resamples and tests say it may lie, rounded outward."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.analysis.bootstrap import ratio
from probe.analysis.fitted import FittedCurve, first_below
from probe.analysis.sequence import lower_by_tests
from probe.analysis.tolerance import Tolerance

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Epsilons:
    """A tolerance in nats a token.

    Args:
        mean: As it stands.
        resampled: In each resample, shape ``(resamples,)``, where it moves with the documents.
        by_document: Document by document, shape ``(documents, 1)``, likewise.
    """

    mean: float
    resampled: float | Floats
    by_document: float | Floats


def epsilons_of(
    curve: FittedCurve, tolerance: Tolerance, bytes_per_token: float | None
) -> Epsilons | None:
    """The tolerance, which moves with the documents where it is a share of delta at distance 0."""
    fixed = tolerance.nats(bytes_per_token=bytes_per_token)
    if fixed is not None:
        return Epsilons(fixed, fixed, fixed)
    delta = curve.resampled.mean[0] if curve.sums.lower[0] == 0 else np.nan
    if not delta > 0:
        return None
    own = ratio(curve.sums.sums[:, :1], curve.sums.targets[:, :1])
    return Epsilons(
        float(tolerance.amount * delta),
        tolerance.amount * curve.resampled.draws[:, 0],
        tolerance.amount * np.where(np.isnan(own), delta, own),
    )


def limits(curve: FittedCurve, epsilons: Epsilons, index: int) -> tuple[int, int]:
    """Limits of the interval as bin indices, the number of bins standing for beyond reach."""
    lower, reach = curve.sums.lower, int(curve.sums.upper[-1])
    answers = first_below(curve.fits, epsilons.resampled, lower, reach)
    tail = (1 - curve.confidence) / 2
    low = int(np.quantile(answers, tail, method="lower"))
    high = int(np.quantile(answers, 1 - tail, method="higher"))
    tested = lower_by_tests(curve.sums, epsilons.by_document, curve.confidence)
    return min(low, index, tested), max(high, index)


def shown_above(curve: FittedCurve, epsilon: float | None) -> int:
    """The bound of a curve that is beyond reach: where it is still above, or last may answer."""
    lower, reach = curve.sums.lower, int(curve.sums.upper[-1])
    if epsilon is None or not curve.fit[-1] < epsilon:
        return reach
    return int(lower[lower < reach / np.sqrt(2)].max(initial=int(lower[0])))


def outward(curve: FittedCurve, low: int, high: int) -> tuple[int | None, int | None]:
    """Limits in tokens, rounded outward to bin edges.

    A curve that crosses inside a wide bin is above the tolerance in the mean of that bin or of the
    one before: the crossing may lie anywhere between the start of the last bin above and the end
    of the first one below. Where bins hold a single distance nothing is added.
    """
    lower, upper = curve.sums.lower, curve.sums.upper
    below: int | None = None
    if low == 0:
        below = 0
    elif low < len(lower):
        wide = lower[low] - lower[low - 1] > 1
        below = int(lower[low - 1] if wide else lower[low])
    if high == len(lower):
        return below, None
    return below, int(upper[high] if upper[high] - lower[high] > 1 else lower[high])
