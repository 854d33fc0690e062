"""The curve as a frame: delta by condition and distance bin, with bands, fit and floor."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from probe.analysis.bootstrap import Floats, bootstrap
from probe.analysis.fitted import FittedCurve, fit_curve
from probe.analysis.floor import NoiseFloor
from probe.analysis.frames import stacked
from probe.analysis.intervals import intervals
from probe.analysis.sums import to_sums

COLUMNS = (
    "condition",
    "distance_from",
    "distance_to",
    "grey",
    "delta",
    "low",
    "high",
    "fit",
    "targets",
    "documents",
    "windows",
    "floor",
    "helped",
    "hurt",
    "standard_error",
    "draws_error",
)
"""Columns of ``curve.csv``: distances in tokens; delta, its limits, fit, floor and standard errors
in nats a token: of the mean between documents, and the part of it that another draw of the
perturbation would change (missing where it was drawn once); ``helped`` and ``hurt`` as shares of
targets."""


def fitted_curves(
    frame: pd.DataFrame, documents: Sequence[str], weights: Floats, confidence: float
) -> dict[str, FittedCurve]:
    """Fit each condition of the sums, grey rows left out.

    Args:
        frame: From :func:`probe.analysis.sums.document_sums`.
        documents: All documents of the run, in the order of *weights*.
        weights: Draws of the documents, shape ``(resamples, documents)``.
        confidence: Confidence of the intervals.

    Returns:
        Curves by condition; a condition with nothing but grey rows has none.
    """
    usable = frame[~frame["grey"]]
    return {
        str(condition): fit_curve(str(condition), to_sums(rows, documents), weights, confidence)
        for condition, rows in usable.groupby("condition")
    }


def curve_frame(
    frame: pd.DataFrame,
    fitted: Mapping[str, FittedCurve],
    *,
    documents: Sequence[str],
    weights: Floats,
    confidence: float,
    floor: NoiseFloor | None,
    draws: pd.DataFrame,
    simultaneous: bool = False,
) -> pd.DataFrame:
    """The curve of every condition, one row a bin; grey distances have rows of their own.

    Args:
        frame: From :func:`probe.analysis.sums.document_sums`.
        fitted: From :func:`fitted_curves`.
        documents: All documents of the run, in the order of *weights*.
        weights: Draws of the documents, shape ``(resamples, documents)``.
        confidence: Confidence of the band.
        floor: Noise floor of the run.
        draws: From :func:`probe.analysis.repeats.draws_errors`.
        simultaneous: Whether the band holds for all bins of a curve at once, not bin by bin.

    Returns:
        A frame with the columns ``COLUMNS``; fit is NaN where grey, floor where not measured.
    """
    frames = []
    for (condition, grey), rows in frame.groupby(["condition", "grey"]):
        curve = None if grey else fitted[str(condition)]
        sums = to_sums(rows, documents) if curve is None else curve.sums
        resampled = (
            bootstrap(sums.sums, sums.targets, weights, confidence)
            if curve is None
            else curve.resampled
        )
        frame_of_means = intervals(sums, resampled, confidence, simultaneous=simultaneous)
        counts = rows.groupby("distance_from")[["windows", "helped", "hurt"]].sum()
        targets = sums.targets.sum(axis=0)
        frames.append(
            frame_of_means.assign(
                condition=str(condition),
                grey=bool(grey),
                fit=np.nan if curve is None else curve.fit,
                windows=counts["windows"].to_numpy(dtype=np.int64),
                floor=np.nan if floor is None else floor.at(sums.lower),
                helped=counts["helped"].to_numpy(dtype=np.float64) / targets,
                hurt=counts["hurt"].to_numpy(dtype=np.float64) / targets,
                standard_error=resampled.standard_error,
            )
        )
    if not frames:
        return stacked([], COLUMNS)
    table = stacked(frames, COLUMNS)
    own = draws[["condition", "distance_from", "draws_error"]].assign(grey=False)
    table = table.merge(own, on=["condition", "distance_from", "grey"], how="left")
    ordered = table.sort_values(["condition", "distance_from", "grey"], ignore_index=True)
    return ordered[list(COLUMNS)]
