"""LSD, the loss in a short context less that in the whole text, by distance."""

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import octave_edges
from probe.analysis.keys import KeyRule, key_view
from probe.analysis.sums import binned, located
from probe.results.folder import RunFolder, connected

BINS = 8  # of the distances of a short context, which span less than an octave
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
COLUMNS = (
    "distance_from",
    "distance_to",
    "mean",
    *(f"q{round(100 * q):02d}" for q in QUANTILES),
    "above",
    "key",
    "targets",
    "documents",
)
"""Columns of the table of LSD by distance: distances in tokens, LSD in nats, shares of targets."""


def lsd_by_distance(
    connection: duckdb.DuckDBPyConnection, edges: NDArray[np.int64]
) -> pd.DataFrame:
    """The distribution of LSD by distance, over truncated rows of any run.

    Rows in front of which nothing was cut off are left out: their LSD is 0 by construction.

    Args:
        connection: With the view of :func:`probe.analysis.keys.key_view`.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.

    Returns:
        One row a bin with the columns ``COLUMNS``: mean and quantiles of LSD (nats), shares of
        targets ``above`` the rule's LSD and ``key``, and their numbers.
    """
    with binned(connection, edges):
        frame = connection.execute(
            f"""SELECT bin, avg(lsd) AS mean, quantile_cont(lsd, {list(QUANTILES)}) AS quantiles,
                avg(above::DOUBLE) AS above, avg(key::DOUBLE) AS key, count(*) AS targets,
                count(DISTINCT document) AS documents
            FROM candidates JOIN bins USING (distance) WHERE far > 0 GROUP BY bin ORDER BY bin"""
        ).df()
    frame = located(frame, edges)
    quantiles = np.array(frame.pop("quantiles").tolist()).reshape(len(frame), len(QUANTILES))
    for number, q in enumerate(QUANTILES):
        frame[f"q{round(100 * q):02d}"] = quantiles[:, number]
    return frame[list(COLUMNS)]


def lsd_table(run: RunFolder, rule: KeyRule | None = None) -> pd.DataFrame:
    """The same of a run folder, whatever its protocol, in octaves or in eighths of a stride.

    Raises:
        ProbeError: If its scores cannot be read or none is truncated.
    """
    with connected(run) as connection:
        key_view(connection, rule or KeyRule())
        return lsd_by_distance(connection, lsd_edges(connection))


def lsd_edges(connection: duckdb.DuckDBPyConnection) -> NDArray[np.int64]:
    """Octaves, or equal bins where the distances span less than one."""
    ((shortest, longest),) = connection.execute(
        "SELECT min(distance), max(distance) FROM candidates WHERE far > 0"
    ).fetchall()
    if shortest is None:
        return octave_edges(1)
    if longest >= 2 * shortest:
        return octave_edges(longest + 1)
    edges = np.linspace(shortest, longest + 1, BINS + 1).round()
    return np.unique(edges.astype(np.int64))
