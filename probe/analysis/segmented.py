"""Segmented regression: delta falls straight over the octaves of distance up to a breakpoint."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from probe import text as words
from probe.analysis.bins import octave_index
from probe.analysis.bootstrap import Floats, too_few
from probe.analysis.fit import FittedCurve
from probe.analysis.floor import is_noise

STEPS = 16
"""Places an octave at which a hinge is looked for."""

POOR = 2.0
"""Standard errors that bins may lie off the fit before it is called a poor description."""

COLUMNS = (
    "condition",
    "hinge",
    "low",
    "high",
    "slope",
    "intercept",
    "residual",
    "kind",
    "text",
)


def hinges(fitted: Mapping[str, FittedCurve]) -> pd.DataFrame:
    """The hinge of each condition's curve, beside the threshold rule of the effective context.

    ``delta(d) = intercept + slope · max(0, log2((hinge + 1) / (d + 1)))``: with every halving of
    the distance below the hinge delta grows by *slope*; behind it, it stays at *intercept*. The
    fit is least squares over the bins, each weighted by the inverse of its variance between
    documents (pooled by octave), over a grid of hinges; every resample is fitted anew. A hinge
    in the last half octave before the reach, or at its end, counts as beyond reach, as in
    :func:`probe.analysis.fit.first_below`.

    A curve that bends smoothly has no hinge of its own: the fit then gives the place where two
    straight pieces describe it best, and the text says how far off they are.

    Args:
        fitted: Curves by condition; the noise control is left out.

    Returns:
        One row a condition with the columns ``COLUMNS``: ``hinge, low, high`` (tokens, nullable
        Int64; missing beyond reach or if unresolved), ``slope`` (nats an octave, not negative),
        ``intercept`` and ``residual`` (weighted root mean square; nats), ``kind`` (``length,
        greater, unresolved``) and ``text``.
    """
    rows = [_row(name, curve) for name, curve in fitted.items() if not is_noise(name)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(("hinge", "low", "high"), "Int64"))


@dataclass(frozen=True, eq=False)
class Hinges:
    """Hinge fits of a stack of curves, each array of shape ``(curves,)``.

    Args:
        place: ``log2(hinge + 1)``.
        slope: Nats an octave.
        intercept: Nats.
        straight: Slope of the fit without a hinge (nats an octave).
    """

    place: Floats
    slope: Floats
    intercept: Floats
    straight: Floats


def fit_hinges(values: Floats, weights: Floats, octaves: Floats, places: Floats) -> Hinges:
    """Fit each curve by least squares, the hinge at the best of the given places.

    Args:
        values: Delta (nats), shape ``(curves, bins)``; NaN where the weight is 0.
        weights: Weights, same shape.
        octaves: ``log2(d + 1)`` of each bin, rising, shape ``(bins,)``.
        places: ``log2(hinge + 1)`` to try, the last one being the fit without a hinge.

    Returns:
        The best fit of each curve whose slope is not negative.
    """
    weights = np.where(np.isfinite(values), weights, 0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    weighted = weights * np.nan_to_num(values)
    mean = weighted.sum(axis=1, keepdims=True)
    rises = np.maximum(0, places[:, None] - octaves).T
    centre = weights @ rises
    product = weighted @ rises - mean * centre
    square = weights @ rises**2 - centre**2
    slopes = np.maximum(product, 0) / np.maximum(square, 1e-12)
    best = (slopes * product).argmax(axis=1)
    row = np.arange(len(values))
    slope = slopes[row, best]
    intercept = mean[:, 0] - slope * centre[row, best]
    straight = product[:, -1] / np.maximum(square[:, -1], 1e-12)
    return Hinges(places[best], slope, intercept, straight)


def bin_weights(curve: FittedCurve) -> Floats:
    """Inverse variance of one target by bin, pooled by octave, shape ``(bins,)``; its scale is 1.

    Bins are weighted by this times their targets: the curve's steep beginning, where documents
    differ most, would otherwise decide all.
    """
    targets = curve.sums.targets.sum(axis=0)
    variances = curve.resampled.standard_error**2 * targets
    octaves = octave_index(curve.sums.lower)
    known = np.isfinite(variances)
    counts = np.bincount(octaves, known)
    pooled = np.bincount(octaves, np.where(known, variances, 0)) / np.maximum(counts, 1)
    if not pooled.max() > 0:
        return np.ones(len(targets))
    return np.asarray(1 / np.maximum(pooled / pooled.max(), 1e-6)[octaves], dtype=np.float64)


def _row(name: str, curve: FittedCurve) -> tuple[object, ...]:
    lower, upper = curve.sums.lower, curve.sums.upper
    reach, documents = int(upper[-1]), curve.resampled.documents
    unknown = (name, None, None, None, np.nan, np.nan, np.nan, "unresolved")
    if len(lower) < 4:
        return (*unknown, f"unresolved ({len(lower)} bins, at least 4 needed)")
    if few := too_few(documents):
        return (*unknown, f"unresolved ({few})")
    octaves = np.log2((lower + upper + 1) / 2)
    places = np.append(np.arange(octaves[1], octaves[-1], 1 / STEPS), octaves[-1])
    precision = bin_weights(curve)
    targets = curve.sums.targets.sum(axis=0)
    found = fit_hinges(curve.resampled.mean[None], (targets * precision)[None], octaves, places)
    drawn = fit_hinges(curve.resampled.draws, curve.resampled.targets * precision, octaves, places)
    slope, intercept = float(found.slope[0]), float(found.intercept[0])
    misses = curve.resampled.mean - intercept
    misses = misses - slope * np.maximum(0, found.place[0] - octaves)
    weights = targets * precision / (targets * precision).sum()
    numbers = (slope, intercept, float(np.sqrt((misses**2 * weights).sum())))
    if not np.quantile(drawn.straight, (1 - curve.confidence) / 2) > 0:
        text = "unresolved (delta does not fall with distance)"
        return (name, None, None, None, *numbers, "unresolved", text)
    limits = _limits(drawn.place, found.place[0], places, int(lower[0]), reach, curve.confidence)
    return (name, *limits[:3], *numbers, limits[3], limits[4] + _poor(curve, misses))


def _limits(
    drawn: Floats, place: float, places: Floats, start: int, reach: int, confidence: float
) -> tuple[int | None, int | None, int | None, str, str]:
    """Hinge, limits, kind and text; beyond reach is infinite while they are sorted."""
    late = np.log2(reach / np.sqrt(2) + 1)
    tail = (1 - confidence) / 2
    values = np.where(drawn < late, drawn, np.inf)
    low = min(float(np.quantile(values, tail, method="lower")), place)
    high = max(float(np.quantile(values, 1 - tail, method="higher")), place)
    hinge, lower, upper = (
        None if not at < late else int(rounded(2**at - 1))
        for at, rounded in ((place, np.round), (low, np.floor), (high, np.ceil))
    )
    if low <= places[0]:
        lower = 0  # nothing is known before the first bin
    if lower == 0 and upper is None:
        text = "unresolved (the interval is as wide as the measured range)"
        return None, None, None, "unresolved", text
    if upper is not None and hinge is not None:
        text = f"{hinge:,} ({words.limits(lower or 0, upper, start)})"
        return hinge, lower, upper, "length", text
    if hinge is not None:
        text = f"{words.greater(lower, reach)} ({words.open_end(hinge, reach)})"
        return hinge, lower, None, "greater", text
    bound = reach if place >= places[-1] else int(reach / np.sqrt(2))
    more = "" if lower is None or lower >= bound else f" ({words.open_end(None, bound)})"
    return None, lower, None, "greater", words.greater(lower, bound) + more


def _poor(curve: FittedCurve, misses: Floats) -> str:
    """What to add where the two straight pieces lie too far off the bins."""
    error = curve.resampled.standard_error
    known = error > 0
    if not known.any():
        return ""
    off = float(np.sqrt(np.mean((misses[known] / error[known]) ** 2)))
    return f"; poor fit, bins lie {off:.1f} standard errors off" if off > POOR else ""
