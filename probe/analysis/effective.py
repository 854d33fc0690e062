"""Effective context: the smallest distance from which delta stays below a tolerance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from probe import text as words
from probe.analysis.bins import SINGLE
from probe.analysis.bootstrap import (
    Floats,
    by_text,
    pointwise_band,
    ratio,
    standard_error,
    too_few,
)
from probe.analysis.fit import FittedCurve, first_below
from probe.analysis.floor import NoiseFloor
from probe.analysis.sums import Sums
from probe.results.tolerance import Tolerance

LOWERS = "lowers the loss"
"""Flag of an answer whose condition significantly lowers the loss at some distance."""


@dataclass(frozen=True)
class EffectiveContext:
    """What a run says about one condition at one tolerance; lengths in tokens.

    Args:
        condition: Canonical text of the condition.
        tolerance: Canonical text of the tolerance.
        epsilon: The tolerance in nats per token; ``None`` where it cannot be formed.
        kind: ``length``; ``zero`` (below the tolerance from the start); ``greater`` (than
            ``value``: the curve, or the interval's upper limit, passes the reach); ``unresolved``.
        value: The answer; of ``greater`` the lower limit, or without an estimate what the estimate
            exceeds; ``None`` if unresolved.
        estimate: The point estimate, ``None`` beyond reach.
        lower: Lower limit; ``None`` beyond reach or unknown.
        upper: Upper limit; ``None`` beyond reach or unknown.
        reach: Where the curve ends.
        reasons: Why it is unresolved.
        flags: ``not monotone``, ``at most``, ``no noise floor``, ``lowers the loss``.
        documents: Documents behind the curve.
        targets: Targets behind the curve.
        start: Where the curve begins; a lower limit of 0 then stands for all that is shorter.
    """

    condition: str
    tolerance: str
    epsilon: float | None
    kind: Literal["length", "zero", "greater", "unresolved"]
    value: int | None
    estimate: int | None
    lower: int | None
    upper: int | None
    reach: int
    reasons: tuple[str, ...]
    flags: tuple[str, ...]
    documents: int
    targets: int
    start: int = 0

    @property
    def lengths(self) -> tuple[int | None, int | None, int | None]:
        """Estimate and limits, none shorter than what was measured.

        ``None`` beyond reach; all are ``None`` where it is unresolved.
        """
        if self.kind == "unresolved":
            return None, None, None
        lower = None if self.lower is None else max(self.lower, self.start)
        return self.estimate, lower, self.upper

    @property
    def only_lowers(self) -> bool:
        """Whether the condition never raises the loss, but lowers it: there is no length then."""
        return LOWERS in self.flags and (self.kind == "zero" or "at most" in self.flags)

    def text(self) -> str:
        """The answer as tables and legends have it: ``512 (448–640)``, ``> 768``, ``unresolved``.

        ``≤`` stands where nothing shorter was measured, in front of an estimate or a limit.
        """
        if self.only_lowers:
            return LOWERS
        if self.kind == "unresolved" or self.value is None:
            return "unresolved"
        if self.kind == "greater":
            return words.greater(self.lower, self.value)
        if (self.kind == "zero" and not self.upper) or self.upper is None:
            return "0"
        interval = words.limits(self.lower or 0, self.upper, self.start)
        if "at most" in self.flags:
            wider = self.upper > self.value
            return f"≤ {self.value:,}" + (f" ({interval})" if wider else "")
        return f"{self.value:,} ({interval})"

    @property
    def open_end(self) -> str:
        """What an answer with ``>`` leaves open: where the estimate lies; else empty."""
        if self.kind != "greater":
            return ""
        if self.estimate is None and self.value != self.reach:
            return f"estimate in the last half octave before {self.reach:,}, or beyond it"
        if self.lower is None:
            return ""
        return words.open_end(self.estimate, self.reach)

    def full_text(self) -> str:
        """The answer with what it leaves open, or why it is unresolved, as ``summary.json`` has it.

        ``> 768 (estimate beyond 1,024)``, ``unresolved (3 documents, at least 6 needed)``.
        """
        more = "; ".join(self.reasons) or self.open_end
        return f"{self.text()} ({more})" if more else self.text()


def effective_context(
    curve: FittedCurve,
    tolerance: Tolerance,
    *,
    floor: NoiseFloor | None,
    bytes_per_token: float | None = None,
    length: float = 0.0,
) -> EffectiveContext:
    """Read the effective context off a fitted curve.

    The interval holds the quantiles of the resamples' answers, rounded outward to bin edges, and
    always the estimate; its lower limit goes no further than plain tests bear out
    (:func:`probe.analysis.effective.lower_by_tests`). On a curve that starts late nothing is known
    below its first bin: a lower limit there is 0, and an answer there is ``at most`` the first
    edge.

    Args:
        curve: The curve and its resamples.
        tolerance: The tolerance.
        floor: Noise floor of the run; ``None`` exempts the answer from it and flags that.
        bytes_per_token: Mean UTF-8 bytes of a token, for bits per byte.
        length: From :func:`probe.analysis.floor.length_limit`, nats.

    Returns:
        The answer; ``unresolved`` with its reasons where the data cannot give one.

    Raises:
        UsageError: If the tolerance needs text that the run does not have.
    """
    lower, reach = curve.sums.lower, int(curve.sums.upper[-1])
    epsilons = epsilons_of(curve, tolerance, bytes_per_token)
    epsilon = None if epsilons is None else epsilons.mean
    reasons, flags = [], []
    index = low = high = len(lower)
    if few := too_few(curve.resampled.documents):
        reasons.append(few)
    if epsilon is None:
        reasons.append("the tolerance is a share of delta at distance 0, which is not above 0 here")
    else:
        index = int(first_below(curve.fit, epsilon, lower, reach))
        if length > epsilon / 2:
            reasons.append(
                "the loss depends on a sequence's length: its mean change is up to"
                f" {length:.2g} nats, above half of {epsilon:.2g}"
            )
        distance = lower[min(index, len(lower) - 1)]
        noise = np.nan if floor is None else floor.at(np.array([distance]))[0]
        if noise >= epsilon / 2:
            reasons.append(
                f"noise floor {noise:.2g} nats at distance {distance:,}, above half of"
                f" {epsilon:.2g}"
            )
        if index == 0 and lower[0] > 0:
            flags.append("at most")
        if index < len(lower) and _rises_again(curve, epsilon, index):
            flags.append("not monotone")
        if np.isnan(noise):
            flags.append("no noise floor")
    if epsilons is not None and not reasons:
        low, high = limits(curve, epsilons, index)
        if low == 0 and high == len(lower):
            reasons.append(f"the interval is as wide as the measured range, {lower[0]:,}–{reach:,}")

    def tokens(at: int) -> int | None:
        return int(lower[at]) if at < len(lower) else None

    below, above = outward(curve, low, high)
    kind: Literal["length", "zero", "greater", "unresolved"] = "length"
    value = tokens(index)
    if reasons:
        kind, value = "unresolved", None
    elif high == len(lower):
        kind = "greater"
        value = below if index < len(lower) else shown_above(curve, epsilon)
    elif value == 0:
        kind = "zero"
    return EffectiveContext(
        condition=curve.condition,
        tolerance=tolerance.text,
        epsilon=epsilon,
        kind=kind,
        value=value,
        estimate=tokens(index),
        lower=below,
        upper=above,
        reach=reach,
        reasons=tuple(reasons),
        flags=tuple(flags),
        documents=curve.resampled.documents,
        targets=int(curve.sums.targets.sum()),
        start=int(lower[0]),
    )


def _rises_again(curve: FittedCurve, epsilon: float, index: int) -> bool:
    """Whether a bin from the answer on lies significantly above the tolerance.

    One-sided t-tests with the documents' standard error, Bonferroni over the bins looked at.
    """
    if curve.resampled.units < 2:
        return False
    mean, error = (
        values[index:] for values in (curve.resampled.mean, curve.resampled.standard_error)
    )
    level = (1 - curve.confidence) / 2 / len(mean)
    limit = mean - stdtrit(curve.resampled.units - 1, 1 - level) * error
    return bool((limit > epsilon).any())


@dataclass(frozen=True, eq=False)
class Epsilons:
    """A tolerance in nats per token.

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
    tested = lower_by_tests(
        curve.sums, epsilons.by_document, curve.confidence, most=min(low, index)
    )
    return tested, max(high, index)


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


def marked(contexts: Sequence[EffectiveContext], curve: FittedCurve) -> list[EffectiveContext]:
    """Flag the answers of a curve that lies below 0 by more than a tolerance, at some distance.

    An effective context says from where on a condition no longer raises the loss; one that lowers
    it from the start would read as *reads nothing*.

    Args:
        contexts: Its answers at every tolerance.
        curve: The curve that they were read off.

    Returns:
        The answers; all have the flag where the upper limit of some bin is below minus the
        smallest tolerance.
    """
    epsilons = [one.epsilon for one in contexts if one.epsilon is not None]
    _, high = pointwise_band(curve.resampled, curve.confidence)
    if not epsilons or not (high < -min(epsilons)).any():
        return list(contexts)
    return [
        one if one.kind == "unresolved" else replace(one, flags=(*one.flags, LOWERS))
        for one in contexts
    ]


SPANS = (1.0, np.sqrt(2), 2.0, 4.0, 8.0)
"""Ends of the pooled distances, as multiples of their start; 1 stands for the bin alone."""


def lower_by_tests(
    sums: Sums, epsilon: float | Floats, confidence: float, most: int | None = None
) -> int:
    """First bin at which it can no longer be shown that delta still exceeds the tolerance.

    A non-increasing fit of noise is too high at its beginning, and that of a resample once more:
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
        most: How many bins to look at, by default all.

    Returns:
        Index of the bin; *most* where every bin looked at still exceeds the tolerance.

    Source: Maurer, Hothorn and Lehmacher 1995, fixed-sequence testing.
    """
    units = int((by_text(sums.targets, sums.texts).sum(axis=1) > 0).sum())
    if units < 2:
        return 0
    most = len(sums.lower) if most is None else most
    level = (1 - confidence) / 2 / len(SPANS)
    quantile = float(stdtrit(units - 1, 1 - level))
    # Summed from the left, so that each stretch is a difference.
    excess, targets = (
        np.pad(np.cumsum(by_text(values, sums.texts), axis=1), ((0, 0), (1, 0)))
        for values in (sums.sums - epsilon * sums.targets, sums.targets)
    )
    left = np.arange(most)
    for span in SPANS:
        first = np.maximum(sums.lower[left], SINGLE) * span
        ends = np.maximum(np.searchsorted(sums.lower, first), left + 1) if span > 1 else left + 1
        above, of = (summed[:, ends] - summed[:, left] for summed in (excess, targets))
        mean = ratio(above.sum(axis=0), of.sum(axis=0))
        left = left[~(mean - quantile * standard_error(above, of) > 0)]
    return int(left[0]) if len(left) else most
