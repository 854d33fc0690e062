"""Quantiles of delta: what the targets of a condition pay, not only on average."""

from collections.abc import Mapping

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import octave_edges
from probe.analysis.sums import binned, from_starts, located

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
NAMES = tuple(f"q{level * 100:02.0f}" for level in LEVELS)
COLUMNS = ("condition", "distance_from", "distance_to", *NAMES, "targets")

LINEAR = 1e-4
"""Below this (nats) cells have equal width; above it a width of ``1 / CELLS`` of the value."""
CELLS = 1000


def quantiles(
    connection: duckdb.DuckDBPyConnection,
    reach: int,
    curve_starts: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Quantiles of delta over targets, by condition and octave of distance.

    Targets are counted in cells of delta, one thousandth of the value wide, and the quantiles
    read off the counts: memory does not grow with the rows, and no quantile is further off than
    a cell.

    Args:
        connection: From :func:`probe.results.views.connect`.
        reach: End of the last octave (tokens).
        curve_starts: First distance (tokens) of each condition's curve; octaves that begin before
            it are left out.

    Returns:
        One row per condition and octave with the columns ``COLUMNS`` (tokens, nats), grey rows
        and the noise control left out. A quantile is the delta of a target (inverted distribution
        function), to 0.1 %.
    """
    edges = octave_edges(reach)
    with binned(connection, edges):
        cells = connection.execute(
            """SELECT condition, bin, round(asinh(delta / $linear) * $cells)::INTEGER AS cell,
                count(*) AS targets, avg(delta) AS delta
            FROM targets JOIN bins USING (distance)
            WHERE NOT grey AND split_part(condition::VARCHAR, '(', 1) <> 'noise'
            GROUP BY condition, bin, cell ORDER BY condition, bin, cell""",
            {"linear": LINEAR, "cells": CELLS},
        ).df()
    cells = from_starts(located(cells, edges), curve_starts)
    rows = []
    for octave, part in cells.groupby(list(COLUMNS[:3])):
        counts = part["targets"].to_numpy(dtype=np.int64)
        values = _read(part["delta"].to_numpy(dtype=np.float64), counts)
        rows.append((*octave, *values, counts.sum()))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _read(values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Quantiles at ``LEVELS`` of rising *values* that stand *counts* times each."""
    passed = np.cumsum(counts)
    at = np.searchsorted(passed, np.array(LEVELS) * passed[-1] * (1 - 1e-12))
    return np.asarray(values[at])
