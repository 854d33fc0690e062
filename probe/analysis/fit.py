"""A fitted curve with its resamples, and where such a curve falls below a tolerance."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from probe.analysis.bootstrap import Bootstrap, Floats, bootstrap, standard_error
from probe.analysis.floor import is_noise
from probe.analysis.sums import Sums, binned, located, to_sums
from probe.perturbations.steps import shared_of
from probe.results.views import is_repeated


@dataclass(frozen=True, eq=False)
class FittedCurve:
    """A curve with its resamples, all of them fitted: what every tolerance is read from.

    Args:
        condition: Canonical text of the condition.
        sums: The measured bins, grey ones left out.
        resampled: Its document bootstrap.
        fit: Non-increasing fit of the mean (nats), shape ``(bins,)``.
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
    resampled = bootstrap(sums.sums, sums.targets, weights, confidence, sums.texts)
    fit = isotonic(resampled.mean, sums.targets.sum(axis=0))
    fits = isotonic_stack(resampled.draws, resampled.targets)
    return FittedCurve(condition, sums, resampled, fit, fits, confidence)


def first_below(
    fits: Floats, epsilon: float | Floats, lower: NDArray[np.int64], reach: int
) -> NDArray[np.int64]:
    """Index of the bin from which a non-increasing curve lies below the tolerance.

    A curve that gets there only in the last half octave before *reach* counts as beyond it: too
    little is left behind the crossing to say that the curve stays down. Below from the first bin
    on is an answer however few bins there are.

    Args:
        fits: Non-increasing curves (nats), shape ``(…, bins)``.
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
    before = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return np.asarray(fitted, dtype=np.float64)[np.maximum(before, 0)]


TOGETHER = 64
"""Rows that are fitted in one call."""


def isotonic_stack(values: Floats, weights: Floats) -> Floats:
    """The fit of each row, see :func:`isotonic`.

    Args:
        values: Curves (nats), shape ``(resamples, bins)``.
        weights: Targets of each, same shape.

    Returns:
        Fits (nats), shape ``(resamples, bins)``.
    """
    fits = np.empty(values.shape)
    whole = ((weights > 0) & np.isfinite(values)).all(axis=1)
    for row in np.flatnonzero(~whole):
        fits[row] = isotonic(values[row], weights[row])
    # Rows are fitted one behind the other, each so far below the last that none is pooled with it:
    # a call for each row would take ten times as long as its fit.
    rows = np.flatnonzero(whole)
    for at in range(0, len(rows), TOGETHER):
        part = rows[at : at + TOGETHER]
        below = (np.ptp(values[part]) + 1) * np.arange(len(part))[:, None]
        row_by_row = (values[part] - below).ravel()
        fit = isotonic_regression(row_by_row, weights=weights[part].ravel(), increasing=False).x
        fits[part] = np.asarray(fit).reshape(-1, values.shape[1]) + below
    return fits


def fitted_curves(
    frame: pd.DataFrame,
    documents: Sequence[str],
    weights: Floats,
    confidence: float,
    texts: Callable[[str], NDArray[np.int64] | None] = lambda _: None,
) -> dict[str, FittedCurve]:
    """Fit each condition of the sums, grey rows left out.

    Args:
        frame: From :func:`probe.analysis.sums.document_sums`.
        documents: All documents of the run, in the order of *weights*.
        weights: Draws of the documents, shape ``(resamples, documents)``.
        confidence: Confidence of the intervals.
        texts: From a condition to the far text of each document, where they share some.

    Returns:
        Curves by condition; a condition with nothing but grey rows has none.
    """
    usable = frame[~frame["grey"]]
    return {
        str(condition): fit_curve(
            str(condition), to_sums(rows, documents, texts(str(condition))), weights, confidence
        )
        for condition, rows in usable.groupby("condition")
    }


def texts_error(curve: FittedCurve) -> Floats:
    """Standard error of a mean that the choice of shared far texts causes, nats, ``(bins,)``.

    What the spread between texts has more than documents of texts of their own would give it.
    """
    documents = standard_error(curve.sums.sums, curve.sums.targets)
    return np.sqrt(np.maximum(curve.resampled.standard_error**2 - documents**2, 0))


def draws_errors(connection: duckdb.DuckDBPyConnection, edges: NDArray[np.int64]) -> pd.DataFrame:
    """Standard error of the mean delta that the draws alone cause, by condition and bin.

    The variance between the repeats of one document, window by window drawn anew, added over the
    documents: what the mean would still move by with these very documents. The interval of a
    document bootstrap holds it already, beside the variance between documents.

    Args:
        connection: From :func:`probe.results.views.connect`.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.

    Returns:
        ``condition, distance_from, distance_to`` (tokens)``, draws_error`` (nats per token), one
        row for each condition and bin that was drawn more than once; empty without repeats. Grey
        rows are left out.
    """
    if not is_repeated(connection):
        return pd.DataFrame(columns=["condition", "distance_from", "distance_to", "draws_error"])
    with binned(connection, edges):
        frame = connection.execute(
            """SELECT condition, bin, sqrt(sum(variance / repeats)) / sum(targets) AS draws_error
            FROM (SELECT condition, bin, document, var_samp(total) AS variance, count(*) AS repeats,
                    avg(targets) AS targets
                FROM (SELECT condition, bin, document, repeat, count(*) AS targets,
                        sum(nll::DOUBLE - nll_intact) AS total
                    FROM scores JOIN bins USING (distance)
                    JOIN (SELECT document, "window", start FROM windows) USING (document, "window")
                    WHERE boundary >= 0 AND distance <= boundary - start
                    GROUP BY condition, bin, document, repeat)
                GROUP BY condition, bin, document)
            GROUP BY condition, bin HAVING max(repeats) > 1 ORDER BY condition, bin"""
        ).df()
    return located(frame, edges)


def draws_in_words(curve: pd.DataFrame) -> list[str]:
    """What part of an error the draws cause, one line a condition that was drawn more than once.

    Args:
        curve: The curve of a run, with ``standard_error`` and ``draws_error`` (nats per token).

    Returns:
        The share of the variance in the median bin; the documents cause the rest.
    """
    lines = []
    for condition, rows in curve.dropna(subset=["draws_error"]).groupby("condition"):
        known = rows[rows["standard_error"] > 0]
        if known.empty or is_noise(str(condition)):
            continue
        share = (known["draws_error"] / known["standard_error"]) ** 2
        middle = min(1.0, float(share.median()))  # either is an estimate: a bin's share may pass 1
        shared = shared_of(str(condition))
        draws = "the draws cause" if shared is None else f"the choice of {shared} texts causes"
        more = "" if shared is None else "; documents of one text are a unit of its interval"
        lines.append(
            f"{condition}: in the median bin {draws} {middle * 100:.0f} % of the variance"
            f" of delta, the documents the rest{more}"
        )
    return lines


def in_order(conditions: Iterable[str]) -> list[str]:
    """Conditions as tables and figures show them: truncate, content, order, then by name."""
    order = {"truncate": 0, "replace": 1, "shuffle": 2}
    return sorted(set(conditions), key=lambda name: (order.get(name.partition("(")[0], 3), name))
