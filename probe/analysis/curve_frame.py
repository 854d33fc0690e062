"""The curve of every condition as a frame, `curve.csv`."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from probe.analysis.bootstrap import Floats, bootstrap
from probe.analysis.fit import draws_errors, texts_error
from probe.analysis.sums import intervals, stacked, to_sums

if TYPE_CHECKING:
    from probe.analysis.open_run import OpenRun

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
in nats per token: of the mean between documents, or the texts that they share, and the part of it
that another draw of the perturbation would change (missing where it was drawn once, and shares no
text); ``helped`` and ``hurt`` as shares of targets whose delta is above and below 0 by more than
rounding."""


def curve_frame(run: "OpenRun") -> pd.DataFrame:
    """The curve of every condition, one row a bin; grey distances have rows of their own.

    Args:
        run: The open run.

    Returns:
        A frame with the columns ``COLUMNS``; fit is NaN where grey, floor where not measured.
    """
    confidence, simultaneous = run.analysis.confidence, run.analysis.simultaneous
    frames = []
    for (condition, grey), rows in run.sums.groupby(["condition", "grey"]):
        fit: Floats | float = np.nan
        if grey:
            sums = to_sums(rows, run.documents, run.texts(str(condition)))
            resampled = bootstrap(sums.sums, sums.targets, run.weights, confidence, sums.texts)
        else:
            curve = run.fitted[str(condition)]
            sums, fit, resampled = curve.sums, curve.fit, curve.resampled
        counts = rows.groupby("distance_from")[["windows", "helped", "hurt"]].sum()
        targets = sums.targets.sum(axis=0)
        frames.append(
            intervals(sums, resampled, confidence, simultaneous=simultaneous).assign(
                condition=str(condition),
                grey=bool(grey),
                fit=fit,
                windows=counts["windows"].to_numpy(dtype=np.int64),
                floor=np.nan if run.floor is None else run.floor.at(sums.lower),
                helped=counts["helped"].to_numpy(dtype=np.float64) / targets,
                hurt=counts["hurt"].to_numpy(dtype=np.float64) / targets,
                standard_error=resampled.standard_error,
            )
        )
    if not frames:
        return stacked([], COLUMNS)
    draws = draws_errors(run.connection, run.edges).drop(columns="distance_to").assign(grey=False)
    keys = ["condition", "distance_from", "grey"]
    table = stacked(frames, COLUMNS).merge(draws, on=keys, how="left")
    for condition, curve in run.fitted.items():
        if curve.sums.texts is not None:  # texts that documents share are no draws of each
            own = (table["condition"] == condition) & ~table["grey"]
            table.loc[own, "draws_error"] = texts_error(curve)
    return table.sort_values(keys, ignore_index=True)[list(COLUMNS)]
