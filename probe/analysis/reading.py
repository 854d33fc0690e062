"""Where far text is read at all: KL to the intact distribution, above its own noise floor."""

from collections.abc import Mapping, Sequence

import duckdb
import numpy as np
import pandas as pd

from probe.analysis.bins import octave_edges
from probe.analysis.bootstrap import Floats, bootstrap
from probe.analysis.floor import limit, noise_condition
from probe.analysis.intervals import intervals
from probe.analysis.sums import binned, from_starts, located, stacked, to_sums

LEAST = 1e-6
"""A KL below this (nats) is rounding of float32, whatever the noise condition happened to hit."""

COLUMNS = (
    "condition",
    "distance_from",
    "distance_to",
    "kl",
    "low",
    "high",
    "floor",
    "read",
    "targets",
)


def reading(
    connection: duckdb.DuckDBPyConnection,
    reach: int,
    *,
    documents: Sequence[str],
    weights: Floats,
    confidence: float,
    curve_starts: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Mean KL(intact ‖ condition) by octave of distance, with its interval and floor.

    A loss says where far text helps on average; KL also sees what helps as often as it hurts. It
    is not below 0 but for rounding, so that its noise has a mean: the floor is the upper limit of
    the noise condition's mean KL in the octave. Grey rows and distances before a curve's start
    are left out, as in curves.

    Args:
        connection: From :func:`probe.results.views.connect`.
        reach: End of the last octave (tokens).
        documents: All documents of the run, in the order of *weights*.
        weights: Draws of the documents, shape ``(resamples, documents)``.
        confidence: Confidence of interval and floor.
        curve_starts: First distance (tokens) of each condition's curve.

    Returns:
        One row per condition and octave with the columns ``COLUMNS``: ``kl``, ``low``, ``high`` and
        ``floor`` in nats, ``read`` whether ``low`` lies above the floor (false without a floor);
        empty where KL was not measured.
    """
    columns = {row[0] for row in connection.execute("DESCRIBE scores").fetchall()}
    if "kl" not in columns:
        return stacked([], COLUMNS)
    edges = octave_edges(reach)
    with binned(connection, edges):
        rows = connection.execute(
            """SELECT condition, bin, s.document, count(*) AS targets, sum(kl::DOUBLE) AS delta_sum,
                sum(kl::DOUBLE * kl::DOUBLE) AS delta_squares
            FROM scores s JOIN bins USING (distance)
                JOIN windows w ON s.document = w.document AND s."window" = w."window"
            WHERE boundary >= 0 AND kl IS NOT NULL
                AND distance <= far_tokens(boundary, distance, w.start)
            GROUP BY condition, bin, s.document ORDER BY condition, bin, s.document"""
        ).df()
    rows = from_starts(located(rows, edges), curve_starts)
    noise = rows[rows["condition"] == noise_condition(rows)]
    columns_of_limit = ["targets", "delta_sum", "delta_squares"]
    floors = {
        int(start): limit(
            noise[noise["distance_from"] == start].set_index("document")[columns_of_limit],
            confidence,
        )
        for start in noise["distance_from"].unique()
    }
    parts = [
        _curve(str(condition), part, floors, documents, weights, confidence)
        for condition, part in rows.groupby("condition")
    ]
    return stacked(parts, COLUMNS)


def _curve(
    condition: str,
    rows: pd.DataFrame,
    floors: dict[int, float],
    documents: Sequence[str],
    weights: Floats,
    confidence: float,
) -> pd.DataFrame:
    sums = to_sums(rows, documents)
    frame = intervals(sums, bootstrap(sums.sums, sums.targets, weights, confidence), confidence)
    floor = np.array([floors.get(int(start), np.nan) for start in sums.lower])
    read = frame["low"] > np.maximum(floor, LEAST)
    frame = frame.assign(condition=condition, floor=floor, read=read)
    return frame.rename(columns={"delta": "kl"})[list(COLUMNS)]
