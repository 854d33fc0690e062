"""Looks at an interval while a run is scored: which one, after how many documents, how sure."""

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from probe.analysis.bootstrap import bootstrap, pointwise_band, standard_error
from probe.analysis.fit import FittedCurve, fitted_curves
from probe.analysis.open_run import OpenRun
from probe.analysis.precision import documents_needed, half_width, with_documents
from probe.analysis.sums import Sums, to_sums
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import UsageError
from probe.perturbations.condition import parse
from probe.perturbations.steps import shared_of
from probe.results.tolerance import parse_tolerance, spaced
from probe.text import shown

FIRST, GROWTH = 8, 1.5
"""Documents at the first look, and how much more there are at each later one."""
LARGEST = 10**15
"""No number of documents that an interval needs is said to be larger."""
CAUTION = 32
"""Documents after which half of the error is spent, see :func:`confidence_after`."""
NEAREST = 32
"""Distance from which on that keeps the coverage even where few tokens carry all of a delta."""


@dataclass(frozen=True)
class Target:
    """An interval, and how narrow it must be.

    Args:
        condition: Canonical text of the condition.
        half_width: Half the width that the interval may have, above 0: octaves of an effective
            context, nats per token of delta.
        tolerance: Canonical text of the effective context's tolerance; ``None`` for delta.
        distances: First and last distance of delta (the run's unit); ``None`` for a length.
    """

    condition: str
    half_width: float
    tolerance: str | None = None
    distances: tuple[int, int] | None = None

    @property
    def unit(self) -> Literal["octaves", "nats"]:
        """What a width is measured in."""
        return "nats" if self.tolerance is None else "octaves"

    @property
    def interval(self) -> dict[str, Any]:
        """Which interval it is, as run.json has it."""
        values = asdict(self) | {"distances": self.distances and list(self.distances)}
        return {name: value for name, value in values.items() if name != "half_width"}

    def __str__(self) -> str:
        if self.tolerance is not None:
            return f"the effective context under {self.condition} at {spaced(self.tolerance)}"
        assert self.distances is not None
        first, last = self.distances
        return f"delta of {self.condition} at distances {first:,}–{last:,}"

    def width_text(self, width: float | None = None) -> str:
        """A half-width in words, by default the one that is asked for: ``± 0.5 octaves``."""
        return f"± {self.half_width if width is None else width:.2g} {self.unit}"


def asked_length(
    answer: str,
    octaves: float,
    conditions: Sequence[str],
    tolerances: Sequence[str],
    bins_per_octave: int,
) -> Target:
    """Read ``{answer: truncate@1%, octaves: 0.5}``.

    Args:
        answer: A condition and a tolerance.
        octaves: Half the width that the interval may have.
        conditions: Canonical texts of those that have an effective context.
        tolerances: Those of the run's analysis.
        bins_per_octave: Bins between powers of two.

    Raises:
        UsageError: If the run does not answer that, or no interval can be so narrow.
    """
    name, _, tolerance = answer.rpartition("@")
    if not name:
        raise UsageError(
            f"precision.answer is {shown(answer)}; allowed: condition@tolerance, such as "
            f"{conditions[0] if conditions else 'truncate'}@{tolerances[0]}"
        )
    condition, asked = parse(name).text, parse_tolerance(tolerance).text
    known = [parse_tolerance(text).text for text in tolerances]
    _refuse_other("precision.answer", answer, condition, conditions)
    if asked not in known:
        raise UsageError(
            f"precision.answer is {shown(answer)}; allowed after @: the run's own tolerances, "
            f"{', '.join(known)} (analysis.tolerances)"
        )
    if octaves < 1 / bins_per_octave:
        raise UsageError(
            f"precision.octaves is {octaves:g}: limits are edges of bins, {bins_per_octave} an "
            f"octave, and lie two bins apart at least; allowed: {1 / bins_per_octave:g} or more, "
            "or a larger analysis.bins_per_octave"
        )
    return Target(condition, octaves, tolerance=asked)


def asked_delta(text: str, condition: str | None, conditions: Sequence[str], reach: int) -> Target:
    """Read ``{nats: 0.01 @ 512-1023}``.

    Args:
        text: Half the width (nats per token), and the first and last distance.
        condition: Whose delta; ``None`` is truncate, or else the first.
        conditions: Canonical texts of those that have a curve.
        reach: First distance that is not measured.

    Raises:
        UsageError: If it is not understood, the run measures nothing there, or stopping by it would
            cost coverage.
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*@\s*(\d{1,9})\s*[-–]\s*(\d{1,9})\s*", text)
    if found is None or not float(found[1]) > 0:
        raise UsageError(
            f"precision.nats is {shown(text)}; allowed: nats @ first-last, a number above 0 and "
            "two distances, such as 0.01 @ 512-1023"
        )
    first, last = int(found[2]), int(found[3])
    if not NEAREST <= first <= last < reach:
        allowed = f"distances between {NEAREST} and {reach - 1:,}, the shorter one first"
        if reach <= NEAREST:
            allowed = f"precision.answer, or a reach beyond {NEAREST}"
        why = "; at nearer ones stopping early costs coverage" if first < NEAREST else ""
        raise UsageError(f"precision.nats is {shown(text)}; allowed: {allowed}{why}")
    if condition is None:
        truncated = (one for one in conditions if one.startswith("truncate"))
        condition = next(truncated, conditions[0] if conditions else None)
    _refuse_other("precision.condition", condition, condition, conditions)
    return Target(str(condition), float(found[1]), distances=(first, last))


def refuse_few(most: int | None) -> None:
    """Refuse a run of too few documents for any interval; ``None`` is all that there are."""
    if most is not None and most < FEWEST_DOCUMENTS:
        raise UsageError(
            f"data.max_documents is {most}, with precision; allowed: {FEWEST_DOCUMENTS} or more, "
            "fewer documents make no interval"
        )


def _refuse_other(
    key: str, value: str | None, condition: str | None, conditions: Sequence[str]
) -> None:
    """Refuse a condition without a curve, or with one that more documents do not make narrower."""
    if condition is not None and shared_of(condition):
        raise UsageError(
            f"{key} is {shown(value)}, whose far texts documents share: more of them do not make "
            "more texts; allowed: a condition without shared"
        )
    if condition not in conditions:
        allowed = ", ".join(conditions) or "none, as no condition of the run has a curve"
        raise UsageError(f"{key} is {shown(value)}; allowed conditions: {allowed}")


@dataclass(frozen=True)
class Look:
    """What an interval was after so many documents.

    Args:
        documents: How many there were.
        confidence: Of the interval.
        half_width: Half its width (octaves, or nats per token); ``None`` where it has an end
            beyond reach, or there is none.
    """

    documents: int
    confidence: float
    half_width: float | None

    def is_enough(self, target: Target) -> bool:
        """Whether the interval is as narrow as is asked for."""
        return self.half_width is not None and self.half_width <= target.half_width

    def needed(self, target: Target) -> int | None:
        """Documents after which it is, if its width falls with the root of their number."""
        if self.half_width is None:
            return None
        return math.ceil(self.documents * (self.half_width / target.half_width) ** 2)


def numbers(most: int) -> Iterator[int]:
    """Numbers of documents at which is looked: 8, 12, 18, 27, 40, … and *most*, rising."""
    number = FIRST
    while number < most:
        yield number
        number = int(number * GROWTH)
    yield most


def confidence_after(documents: int, confidence: float) -> float:
    """Confidence of the intervals of a run that stopped after so many documents.

    A run that stops once an interval is narrow has stopped more often where the documents happened
    to be alike, which few are by chance: its intervals hold the truth less often than they say. So
    of the error ``1 - confidence`` the share ``n / (n + 32)`` is spent on *n* documents; with many,
    whose spread is known, nothing need be made up for. The number is that for which simulated runs
    have the coverage of runs that do not stop (docs/method.md).

    Args:
        documents: How many there are.
        confidence: Of the intervals of a run that does not stop.

    Returns:
        The confidence; its error has two digits.

    Source: Chow and Robbins 1965, "On the asymptotic theory of fixed-width sequential confidence
        intervals for the mean", for the limit; the correction is ours.
    """
    error = (1 - confidence) * documents / (documents + CAUTION)
    return round(1 - float(f"{error:.1e}"), 12)


def look(run: OpenRun, target: Target) -> Look:
    """Read the width of an interval off what has been scored.

    Args:
        run: The open run; its analysis has the confidence.
        target: Which interval.
    """
    width = _delta_width(run, target) if target.tolerance is None else _length_width(run, target)
    finite = width is not None and np.isfinite(width)
    return Look(len(run.documents), run.analysis.confidence, width if finite else None)


def predicted(run: OpenRun, target: Target, most: int, confidence: float) -> Look | None:
    """The look after which a run is expected to stop, by a finished run of documents like its own.

    Args:
        run: The finished run, open.
        target: The interval, and how narrow it must be.
        most: Documents that there are.
        confidence: Of the intervals of a run that does not stop.

    Returns:
        The first look that is enough, the last one where none is; ``None`` where the finished run
        does not have the interval.
    """
    how, curve = run.analysis, _curve(run, target.condition)
    now = look(run, target)
    if curve is None or now.documents < FEWEST_DOCUMENTS:
        return None
    if target.tolerance is None and now.half_width is None:
        return None
    widths = None if target.tolerance is not None else _widths(run, target, now)
    for number in numbers(most):
        level = confidence_after(number, confidence)
        if widths is not None:
            width = widths(number, level)
        else:
            assert target.tolerance is not None
            own = replace(curve, confidence=level)
            sums = run.sums_with(target.condition, number)
            more = with_documents(own, number, how.resamples, how.seed, sums)
            width = half_width(run.context_of(more, parse_tolerance(target.tolerance)))
        then = Look(number, level, width if np.isfinite(width) else None)
        if then.is_enough(target):
            break
    return then


def _widths(run: OpenRun, target: Target, now: Look) -> Callable[[int, float], float]:
    """From documents and a confidence to half the width of delta's interval (nats) in such a run.

    Args:
        run: A run with such an interval, of documents like those.
        target: The interval.
        now: What it is in that run.
    """
    plain = _delta_sums(run, target)
    if not now.half_width:  # documents that do not differ at all
        return lambda documents, level: 0.0
    unit = now.half_width / _error(now.documents, now.confidence)

    def spread(scored: int | None = None) -> float:
        sums = run.adjusted(plain, target.condition, scored=scored)
        return float(standard_error(sums.sums, sums.targets)[0])

    unit /= spread()
    return lambda documents, level: unit * spread(documents) * _error(documents, level)


def _error(documents: int, confidence: float) -> float:
    """Half the width of an interval in standard deviations between documents."""
    return float(stdtrit(documents - 1, (1 + confidence) / 2)) / math.sqrt(documents)


def needed_in_words(run: OpenRun, target: Target) -> str:
    """How many documents like those of a run an interval needs, or why no number would do."""
    if target.tolerance is not None and (curve := _curve(run, target.condition)) is not None:
        tolerances = (parse_tolerance(target.tolerance),)
        how = replace(run.analysis, tolerances=tolerances)
        ways = how, run.context_of, run.sums_with
        table = documents_needed({target.condition: curve}, target.half_width, *ways)
        return str(table["text"].iloc[0])
    now = look(run, target)
    if now.half_width is not None:
        widths, confidence = _widths(run, target, now), run.analysis.confidence
        tried = range(FEWEST_DOCUMENTS, LARGEST)
        at = bisect_left(tried, True, key=lambda one: widths(one, confidence) <= target.half_width)
        return f"{tried[at]:,}" if at < len(tried) else f"> {LARGEST:,}"
    if len(run.documents) < FEWEST_DOCUMENTS:
        return f"unresolved ({FEWEST_DOCUMENTS} documents at least)"
    return "unresolved (no target was measured there)"


def _curve(run: OpenRun, condition: str) -> FittedCurve | None:
    """The fitted curve of one condition, the others left alone."""
    own = run.sums[run.sums["condition"] == condition]
    fitted = fitted_curves(own, run.documents, run.weights, run.analysis.confidence)
    return fitted.get(condition)


def _length_width(run: OpenRun, target: Target) -> float | None:
    assert target.tolerance is not None
    curve = _curve(run, target.condition)
    if curve is None:
        return None
    return half_width(run.context_of(curve, parse_tolerance(target.tolerance)))


def _delta_width(run: OpenRun, target: Target) -> float | None:
    """Half the width of the interval of delta over the distances, nats per token."""
    sums = run.adjusted(_delta_sums(run, target), target.condition)
    if (sums.targets > 0).sum() < FEWEST_DOCUMENTS:
        return None
    confidence = run.analysis.confidence
    resampled = bootstrap(sums.sums, sums.targets, run.weights, confidence)
    low, high = pointwise_band(resampled, confidence)
    return float(high[0] - low[0]) / 2


def _delta_sums(run: OpenRun, target: Target) -> Sums:
    """Sums over the distances by document, without what is predicted."""
    assert target.distances is not None
    first, last = target.distances
    rows = run.connection.execute(
        """SELECT document, count(*) AS targets, sum(delta) AS delta_sum FROM targets
        WHERE condition = $1 AND NOT grey AND distance BETWEEN $2 AND $3 GROUP BY document""",
        [target.condition, first, last],
    ).df()
    return to_sums(rows.assign(distance_from=first, distance_to=last + 1), run.documents)
