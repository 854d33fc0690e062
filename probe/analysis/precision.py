"""How many documents a length needs for an interval of a given width, read off a finished run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from probe.analysis.bootstrap import (
    Bootstrap,
    Floats,
    ratio,
    resample_weights,
    standard_error,
    stretch,
)
from probe.analysis.effective import EffectiveContext
from probe.analysis.fit import FittedCurve, isotonic_stack
from probe.analysis.floor import is_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.settings import Analysis
from probe.analysis.sums import Sums
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import ProbeError, UsageError
from probe.results.tolerance import Tolerance

MOST = 64
"""Numbers of documents are tried up to this many times those of the run."""

COLUMNS = ("condition", "tolerance", "documents", "half_width", "needed", "text")


def pilot(
    run: OpenRun, octaves: float, tolerances: Sequence[Tolerance] | None = None
) -> pd.DataFrame:
    """Say how many documents like those of a run would be enough.

    Args:
        run: The open run.
        octaves: Half the width that the interval of an effective context may have.
        tolerances: Tolerances to ask for, by default those of the run.

    Returns:
        What :func:`documents_needed` gives.

    Raises:
        ProbeError: If the run holds no condition with a curve.
        UsageError: If *octaves* is not above 0, or a tolerance cannot be formed from this run.
    """
    how = run.analysis
    how = how if tolerances is None else replace(how, tolerances=tuple(tolerances))
    curves = {name: one for name, one in run.fitted.items() if not is_noise(name)}
    if all(curve.sums.texts is not None for curve in curves.values()):
        names, which = ", ".join(run.fitted) or "intact", " of texts of their own" if curves else ""
        raise ProbeError(
            f"run '{run.path}' has no condition with a curve{which}, only {names}: nothing can be"
            " planned from it"
        )
    return documents_needed(run.fitted, octaves, how, run.context_of, run.sums_with)


def documents_needed(
    fitted: Mapping[str, FittedCurve],
    octaves: float,
    how: Analysis,
    answer: Callable[[FittedCurve, Tolerance], EffectiveContext],
    sums_with: Callable[[str, int], Sums] | None = None,
) -> pd.DataFrame:
    """The fewest documents whose interval around an effective context is narrow enough.

    For m = 6 … 64 n documents, a half octave apart and through the run's own n, m documents are
    drawn from the n with replacement (an m-out-of-n bootstrap), the curve of each draw is fitted,
    and the effective context read off with all its rules, as if the run had m documents: its
    interval shrinks with ``1 / sqrt(m)`` where the curve is straight, faster at a step, and not
    below the bins.

    Args:
        fitted: Curves by condition; the noise control is left out, and conditions whose documents
            share far texts, which more documents would share as well.
        octaves: Half the width that the interval may have.
        how: Tolerances, resamples and seed.
        answer: The effective context of a curve at a tolerance.
        sums_with: From a condition and a number of documents to the sums of the run's documents as
            they would be with so many scored; by default those of the curve.

    Returns:
        One row per condition and tolerance with the columns ``COLUMNS``: ``documents`` (of the
        run), ``half_width`` (of its interval, octaves; infinite where a limit is beyond reach, NaN
        if unresolved), ``needed`` (nullable Int64), ``text`` (the number, or why there is none).

    Raises:
        UsageError: If *octaves* is not above 0, or a tolerance needs text that the run lacks.

    Source: Bickel, Götze and van Zwet 1997, "Resampling fewer than n observations".
    """
    if not octaves > 0:
        raise UsageError(f"octaves is {octaves:g}: a number above 0 is needed")
    rows: list[tuple[object, ...]] = []
    for name, curve in fitted.items():
        if is_noise(name) or curve.sums.texts is not None:
            continue
        present = curve.resampled.documents
        contexts = [answer(curve, tolerance) for tolerance in how.tolerances]
        within = {context.tolerance for context in contexts if context.estimate is not None}
        found: dict[str, int] = {}
        closed, ends = set[str](), set[str]()
        last = contexts
        for size in _sizes(present):
            if found.keys() >= within:
                break
            sums = None if sums_with is None else sums_with(name, size)
            more = with_documents(curve, size, how.resamples, how.seed, sums)
            last = [answer(more, tolerance) for tolerance in how.tolerances]
            for context in last:
                if half_width(context) <= octaves and context.tolerance not in found:
                    found[context.tolerance] = size
                    if context.tolerance in ends:
                        closed.add(context.tolerance)
            ends = {context.tolerance for context in last if np.isinf(half_width(context))}
        rows += [
            (
                *(name, now.tolerance, present, half_width(now), found.get(now.tolerance)),
                _text(found.get(now.tolerance), now, at_most, now.tolerance in closed),
            )
            for now, at_most in zip(contexts, last, strict=True)
        ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype({"needed": "Int64"})


def with_documents(
    curve: FittedCurve, size: int, resamples: int, seed: int, sums: Sums | None = None
) -> FittedCurve:
    """The curve as it would be expected from *size* documents like its own.

    Its mean is kept. Its resamples draw *size* documents, stretched as for so many, and each
    document's deviation from the mean is shrunk by ``sqrt(n / size)``, so that the tests behind
    the lower limit have the standard errors of *size* documents as well (with the t-quantile of
    n, which is a little wide for more).

    Args:
        curve: Curve of a run of n documents.
        size: Documents to draw.
        resamples: Number of resamples.
        seed: Seed of the draws.
        sums: Those of the run's documents as they would be among so many, where a prediction leaves
            more of them the more are scored; by default those of the curve.
    """
    sums, mean = sums or curve.sums, curve.resampled.mean
    present = curve.resampled.documents
    kept = np.flatnonzero(sums.targets.sum(axis=1) > 0)
    weights = _weights(len(kept), size, resamples, seed)
    targets = weights @ sums.targets[kept]
    drawn = ratio(weights @ sums.sums[kept], targets)
    # The t-quantile is that of the larger run; what n documents vary too little, n / (n − 1) mends.
    widening = np.sqrt(present / (present - 1)) / np.sqrt(size / (size - 1))
    draws = mean + stretch(size, curve.confidence) * widening * (drawn - mean)
    shrink = np.sqrt(present / size)
    expected = np.nan_to_num(mean) * sums.targets
    shrunk = replace(sums, sums=expected + shrink * (sums.sums - expected))
    error = standard_error(sums.sums, sums.targets) * shrink
    resampled = Bootstrap(mean, draws, targets, error, size)
    fits = isotonic_stack(draws, targets)
    return replace(curve, sums=shrunk, resampled=resampled, fits=fits)


def half_width(context: EffectiveContext) -> float:
    """Half the width of an interval in octaves, distance 0 taken as 1.

    Infinite where a limit lies beyond reach, NaN where the answer is unresolved.
    """
    if context.kind == "unresolved":
        return float("nan")
    if context.lower is None or context.upper is None:
        return float("inf")
    return float(np.log2(max(context.upper, 1) / max(context.lower, 1)) / 2)


def _weights(documents: int, size: int, resamples: int, seed: int) -> Floats:
    """How often each document is among *size* that are drawn, shape ``(resamples, documents)``."""
    if size == documents:
        return resample_weights(documents, resamples, seed)
    rng = np.random.default_rng([seed, size])
    shares = np.full(documents, 1 / documents)
    return rng.multinomial(size, shares, size=resamples).astype(np.float64)


def _sizes(present: int) -> list[int]:
    """Numbers of documents to try, rising; none where there are too few to draw from."""
    if present < FEWEST_DOCUMENTS:
        return []
    fewest = int(np.ceil(2 * np.log2(FEWEST_DOCUMENTS / present)))
    steps = np.arange(fewest, 2 * int(np.log2(MOST)) + 1)
    return sorted({FEWEST_DOCUMENTS, *(round(present * 2 ** (step / 2)) for step in steps)})


def _text(needed: int | None, now: EffectiveContext, last: EffectiveContext, closed: bool) -> str:
    """The number of documents, or why there is none.

    *now* is the run's answer, *last* that of the largest number tried; *closed* says that the
    interval of the number tried before *needed* still had no upper limit.
    """
    if needed is not None and closed:
        return (
            f"{needed:,} (fewer leave the upper limit beyond the reach of {now.reach:,}, whatever"
            " the width asked for; a longer reach needs fewer)"
        )
    if needed is not None:
        return f"{needed:,}"
    if last.kind == "unresolved":
        return f"unresolved ({'; '.join(last.reasons)})"
    if last.estimate is None:
        return f"needs a longer reach than {last.reach:,}, not more documents"
    return f"> {MOST * now.documents:,}"
