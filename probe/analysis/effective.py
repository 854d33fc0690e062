"""Effective context: the smallest distance from which delta stays below a tolerance."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t

from probe.analysis import words
from probe.analysis.bootstrap import too_few
from probe.analysis.fitted import FittedCurve, first_below
from probe.analysis.floor import NoiseFloor
from probe.analysis.limits import epsilons_of, limits, outward, shown_above
from probe.analysis.tolerance import Tolerance

LOWERS = "lowers the loss"
"""Flag of an answer whose condition significantly lowers the loss at some distance."""


@dataclass(frozen=True)
class EffectiveContext:
    """What a run says about one condition at one tolerance; lengths in tokens.

    Args:
        condition: Canonical text of the condition.
        tolerance: Canonical text of the tolerance.
        epsilon: The tolerance in nats a token; ``None`` where it cannot be formed.
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
        """The answer in a few words: ``512 (448–640)``, ``> 768 (estimate beyond 1,024)``."""
        if self.only_lowers:
            return "none, it lowers the loss"
        if self.kind == "unresolved" or self.value is None:
            return f"unresolved ({'; '.join(self.reasons)})"
        if self.kind == "greater":
            return words.greater(self.lower, self.estimate, self.value)
        if "at most" in self.flags:
            wider = self.upper is not None and self.upper > self.value
            return f"≤ {self.value:,}" + (f" (upper limit {self.upper:,})" if wider else "")
        if (self.kind == "zero" and not self.upper) or self.upper is None:
            return "0"
        return f"{self.value:,} ({words.limits(self.lower or 0, self.upper, self.start)})"


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
    (:func:`probe.analysis.sequence.lower_by_tests`). On a curve that starts late nothing is known
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
        reasons += _noise_reasons(floor, epsilon, int(lower[min(index, len(lower) - 1)]))
        flags += _flags(curve, epsilon, index, floor)
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


def effective_contexts(
    curve: FittedCurve,
    tolerances: Iterable[Tolerance],
    *,
    floor: NoiseFloor | None,
    bytes_per_token: float | None = None,
    length: float = 0.0,
) -> list[EffectiveContext]:
    """The effective context at each tolerance; see :func:`effective_context`."""
    return [
        effective_context(
            curve, tolerance, floor=floor, bytes_per_token=bytes_per_token, length=length
        )
        for tolerance in tolerances
    ]


def _noise_reasons(floor: NoiseFloor | None, epsilon: float, distance: int) -> list[str]:
    """Why the numbers are too noisy at this distance, if they are."""
    limit = np.nan if floor is None else floor.at(np.array([distance]))[0]
    if not limit >= epsilon / 2:
        return []
    return [f"noise floor {limit:.2g} nats at distance {distance:,}, above half of {epsilon:.2g}"]


def _flags(curve: FittedCurve, epsilon: float, index: int, floor: NoiseFloor | None) -> list[str]:
    flags = []
    lower = curve.sums.lower
    if index == 0 and lower[0] > 0:
        flags.append("at most")
    if index < len(lower) and _rises_again(curve, epsilon, index):
        flags.append("not monotone")
    if floor is None or np.isnan(floor.at(lower[[min(index, len(lower) - 1)]])[0]):
        flags.append("no noise floor")
    return flags


def _rises_again(curve: FittedCurve, epsilon: float, index: int) -> bool:
    """Whether a bin from the answer on lies significantly above the tolerance.

    One-sided t-tests with the documents' standard error, Bonferroni over the bins looked at.
    """
    if curve.resampled.documents < 2:
        return False
    mean, error = (
        values[index:] for values in (curve.resampled.mean, curve.resampled.standard_error)
    )
    level = (1 - curve.confidence) / 2 / len(mean)
    limit = mean - t.ppf(1 - level, curve.resampled.documents - 1) * error
    return bool((limit > epsilon).any())
