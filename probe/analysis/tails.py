"""What a mean hides: how many targets are helped or hurt, and how much a few of them carry."""

import math
from collections.abc import Mapping

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import octave_edges, octave_index
from probe.analysis.cells import cells
from probe.analysis.sums import from_starts

TOP = 0.01
"""Share of the targets whose part of the sum is told."""


def tails(
    connection: duckdb.DuckDBPyConnection,
    reach: int,
    curve_starts: Mapping[str, int] | None = None,
    edges: NDArray[np.int64] | None = None,
) -> pd.DataFrame:
    """Shares of targets helped and hurt, and the part of the sum in the top 1 % of the targets.

    Args:
        connection: From :func:`probe.results.views.connect`.
        reach: End of the last octave (tokens).
        curve_starts: First distance (tokens) of each condition's curve; octaves that begin before
            it are left out.
        edges: Edges of the bins (tokens) that the run is summed by, which end at *reach*; by
            default the octaves.

    Returns:
        One row per condition and octave of distance, grey rows left out: ``condition,
        distance_from, distance_to`` (tokens)``, helped, hurt`` (shares of targets with delta above
        and below 0)``, top_share`` (sum of the largest 1 % of the deltas over the sum of all; NaN
        where the sum is not above 0, above 1 where the rest adds up to less than 0)``, targets``.
    """
    octaves = octave_edges(reach)
    edges = octaves if edges is None else edges
    table = cells(connection, edges)
    groups = pd.DataFrame({"bin": np.arange(len(edges) - 1), "octave": octave_index(edges[:-1])})
    connection.register("octaves", groups)
    frame = connection.execute(
        f"""SELECT condition, octave, sum(helped) / sum(targets) AS helped,
            sum(hurt) / sum(targets) AS hurt, sum(delta_sum) AS total,
            sum(targets)::BIGINT AS targets
        FROM {table} JOIN octaves USING (bin) WHERE NOT grey
        GROUP BY condition, octave ORDER BY condition, octave"""
    ).df()
    tops = [
        top
        for condition, part in frame.groupby("condition", sort=False)
        for top in _top_sums(connection, table, str(condition), part, octaves)
    ]
    connection.unregister("octaves")
    total = frame.pop("total")
    frame.insert(4, "top_share", (pd.Series(tops, dtype=float) / total).where(total > 0))
    numbers = frame.pop("octave").to_numpy(dtype=np.int64)
    frame.insert(1, "distance_from", octaves[numbers])
    frame.insert(2, "distance_to", octaves[numbers + 1])
    return from_starts(frame, curve_starts)


def top_sum(largest: NDArray[np.float64], targets: int) -> float | None:
    """Sum of the deltas from the quantile 1 - TOP on.

    Args:
        largest: The largest deltas (nats), in any order, however many are known.
        targets: Number of all deltas; the quantile is one of them (inverted distribution).

    Returns:
        The sum (nats), ``None`` where the quantile is not among *largest*.
    """
    rank = max(1, targets - math.floor(targets - (1 - TOP) * targets))
    if len(largest) < targets - rank + 1:
        return None
    cut = np.partition(largest, len(largest) - (targets - rank + 1))[-(targets - rank + 1)]
    return float(largest[largest >= cut].sum())


def _top_sums(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    condition: str,
    rows: pd.DataFrame,
    octaves: NDArray[np.int64],
) -> list[float]:
    """Sum of the largest deltas in each octave of *rows*; the bound of the cells was a guess."""
    kept = connection.execute(
        f"""SELECT octave, unnest(tail) AS delta FROM {table} JOIN octaves USING (bin)
        WHERE condition = $1 AND NOT grey""",
        [condition],
    ).fetchnumpy()
    found = []
    for octave, targets in zip(rows["octave"], rows["targets"], strict=True):
        top = top_sum(np.asarray(kept["delta"][kept["octave"] == octave]), int(targets))
        if top is None:
            everything = connection.execute(
                """SELECT delta FROM targets WHERE condition = $1 AND NOT grey
                AND distance >= $2 AND distance < $3""",
                [condition, int(octaves[octave]), int(octaves[octave + 1])],
            ).fetchnumpy()
            top = top_sum(np.asarray(everything["delta"]), int(targets))
        found.append(np.nan if top is None else top)
    return found
