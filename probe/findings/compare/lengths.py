"""Differences of effective contexts: a number, or a bound where a side is beyond its reach."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from probe.analysis.bootstrap import Floats
from probe.analysis.effective import (
    EffectiveContext,
    effective_context,
    epsilons_of,
    lower_by_tests,
    outward,
)
from probe.analysis.fit import FittedCurve, first_below
from probe.analysis.floor import NoiseFloor
from probe.findings.answer import short
from probe.findings.compare.differences import Unit
from probe.results.tolerance import Tolerance
from probe.text import signed

COLUMNS = (
    *("condition", "tolerance", "unit", "kind", "a_text", "b_text"),
    *("difference", "low", "high", "octaves", "octaves_low", "octaves_high"),
    *("delta_from", "delta_to", "delta_difference", "delta_low", "delta_high", "text"),
)


@dataclass(frozen=True, eq=False)
class Lengths:
    """The effective context of one curve as ranges of lengths, in the unit of its distances.

    Args:
        context: The answer.
        estimate: Range that the estimate stands for: twice the same number; up to infinity beyond
            reach; from 0 where the curve starts below the tolerance but late.
        low: Lower end of each resample's range, rounded outward by a bin, shape ``(resamples,)``.
        high: Upper end, infinite beyond reach.
        tested: The lower limit that plain tests bear out, and the one of the resamples; equal
            where the tests change nothing.
    """

    context: EffectiveContext
    estimate: tuple[float, float]
    low: Floats
    high: Floats
    tested: tuple[float, float]


def read_length(
    curve: FittedCurve,
    tolerance: Tolerance,
    floor: NoiseFloor | None,
    per: float | None,
    length: float = 0.0,
) -> Lengths | EffectiveContext:
    """Read the effective context of a curve and of each of its resamples.

    Args:
        curve: The curve and its resamples.
        tolerance: The tolerance.
        floor: Noise floor of the run, if any.
        per: Bytes of an average token, for tolerances in bits per byte.
        length: From :func:`probe.analysis.floor.length_limit`, nats.

    Returns:
        The lengths, or the answer alone where it is unresolved.

    Raises:
        UsageError: If the tolerance needs text that the run does not have.
    """
    context = effective_context(curve, tolerance, floor=floor, bytes_per_token=per, length=length)
    epsilons = epsilons_of(curve, tolerance, per)
    if epsilons is None or context.kind == "unresolved":
        return context
    lower, reach = curve.sums.lower, int(curve.sums.upper[-1])
    index = first_below(curve.fits, epsilons.resampled, lower, reach)
    below, above = _edges(curve)
    tail = (1 - curve.confidence) / 2
    limit = int(_lower_quantile(index.astype(np.float64), tail))
    tested = min(lower_by_tests(curve.sums, epsilons.by_document, curve.confidence), limit)
    return Lengths(
        context,
        _estimate(context, int(lower[0])),
        below[index],
        above[index],
        (float(below[tested]), float(below[limit])),
    )


def context_row(
    a: Lengths | EffectiveContext,
    b: Lengths | EffectiveContext,
    unit: Unit,
    delta: pd.Series,
    confidence: float,
) -> dict[str, object]:
    """The difference B − A of two effective contexts.

    Each resample gives a range of differences, which has no end where a run is beyond its reach.
    The interval goes from the low quantile of the lower ends to the high quantile of the upper
    ends. A fit of noise is too long (:func:`probe.analysis.effective.lower_by_tests`): the interval
    is widened by what plain tests take off one run's lower limit more than off the other's.

    Args:
        a: Lengths of the first run, or its answer where it is unresolved.
        b: The same of the second.
        unit: What lengths are counted in.
        delta: Row of the last octave of the difference of curves.
        confidence: Confidence of the interval.

    Returns:
        A row with the columns ``COLUMNS``. ``kind`` is ``number``; ``bound`` (one estimate is
        beyond its reach or at most the first bin: ``difference`` is what it is above or below);
        ``open`` (both are); ``unresolved``. A missing limit is no limit.
    """
    contexts = [side.context if isinstance(side, Lengths) else side for side in (a, b)]
    row: dict[str, object] = {
        "condition": contexts[0].condition,
        "tolerance": contexts[0].tolerance,
        "unit": unit.name,
        "a_text": short(contexts[0]),
        "b_text": short(contexts[1]),
        "delta_from": delta["distance_from"],
        "delta_to": delta["distance_to"],
        "delta_difference": delta["difference"],
        "delta_low": delta["low"],
        "delta_high": delta["high"],
    }
    if not isinstance(a, Lengths) or not isinstance(b, Lengths):
        which = [name for name, side in (("A", a), ("B", b)) if not isinstance(side, Lengths)]
        return row | {"kind": "unresolved", "text": f"{' and '.join(which)} unresolved"}
    words = {}
    for name, form in (("difference", np.asarray), ("octaves", _octaves)):
        exact, limits = _difference(a, b, form, confidence)
        words[name] = _words(exact, limits, 2 if name == "octaves" else 0)
        finite = [value for value in exact if np.isfinite(value)]
        prefix = "" if name == "difference" else "octaves_"
        row[name] = finite[0] if finite else None
        row[f"{prefix}low"], row[f"{prefix}high"] = (
            value if np.isfinite(value) else None for value in limits
        )
        kind = "number" if exact[0] == exact[1] else ("bound" if finite else "open")
    texts = {
        "number": f"{words['difference']}; {words['octaves']} octaves",
        "bound": words["difference"],
        "open": _open(contexts, unit),
    }
    return row | {"kind": kind, "text": texts[kind]}


def context_frame(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Rows of :func:`context_row` as a frame; whole numbers may be missing."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    whole = ["difference", "low", "high", "delta_from", "delta_to"]
    real = ["octaves", "octaves_low", "octaves_high"]
    return frame.astype(dict.fromkeys(whole, "Int64") | dict.fromkeys(real, "Float64"))


def _open(contexts: Sequence[EffectiveContext], unit: Unit) -> str:
    """Why there is no difference of two lengths, of which neither has an estimate."""
    reach = contexts[0].reach
    compared = f"{reach:,} {unit.name} compared"
    if all(context.value == reach for context in contexts):
        return f"both lie beyond the {compared}"
    return f"both lie in the last half octave of the {compared}, or beyond"


def _difference(
    a: Lengths, b: Lengths, form: Callable[[Floats], Floats], confidence: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Range of the estimate, and the interval."""
    tail = (1 - confidence) / 2
    (a_low, a_high), (b_low, b_high) = (form(np.array(side.estimate)) for side in (a, b))
    low = _lower_quantile(form(b.low) - form(a.high), tail)
    high = -_lower_quantile(form(a.low) - form(b.high), tail)
    # How much too long the fits of A may be, and those of B: what both share cancels out.
    a_bias, b_bias = (-float(np.subtract(*form(np.array(side.tested)))) for side in (a, b))
    low, high = low - max(b_bias - a_bias, 0.0), high + max(a_bias - b_bias, 0.0)
    exact = float(b_low - a_high), float(b_high - a_low)
    return exact, (min(low, exact[0]), max(high, exact[1]))  # the estimate always lies inside


def _octaves(values: Floats) -> Floats:
    """Lengths on a scale of octaves, below 1 as 1: nothing at all has no octave."""
    return np.asarray(np.log2(np.maximum(values, 1.0)))


def _estimate(context: EffectiveContext, first: int) -> tuple[float, float]:
    if context.estimate is None:
        return float(context.value or 0), np.inf
    if context.estimate == first and first > 0:
        return 0.0, float(first)
    return float(context.estimate), float(context.estimate)


def _edges(curve: FittedCurve) -> tuple[Floats, Floats]:
    """Ends of the range that each bin stands for as an answer, beyond reach behind the last."""
    lower, reach = curve.sums.lower, curve.sums.upper[-1]
    late = lower[lower < reach / np.sqrt(2)].max(initial=lower[0])
    ends = [outward(curve, index, index) for index in range(len(lower))]
    below, above = zip(*ends, (late, np.inf), strict=True)
    return np.array(below, dtype=np.float64), np.array(above, dtype=np.float64)


def _lower_quantile(values: Floats, share: float) -> float:
    """Quantile that is one of the values, the lower one between two; infinities are in order."""
    return float(np.sort(values)[int(np.floor(share * (len(values) - 1)))])


def _words(exact: tuple[float, float], limits: tuple[float, float], digits: int) -> str:
    """The difference; of a bound, as of a length, the number behind the sign is the limit."""
    low, high = (signed(value, digits) if np.isfinite(value) else None for value in limits)
    first, last = (signed(value, digits) if np.isfinite(value) else "" for value in exact)
    if first and last:
        value = first if exact[0] == exact[1] else f"{first} to {last}"
        if low and high:
            return f"{value} ({low} to {high})"
        return f"{value} ({f'{low} or more' if low else f'{high} or less' if high else 'no limit'})"
    if first:
        return f"> {low} (estimate above {first})" if low else f"estimate above {first}, no limit"
    return f"< {high} (estimate below {last})" if high else f"estimate below {last}, no limit"
