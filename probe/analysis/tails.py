"""What a mean hides: how many targets are helped or hurt, and how much a few of them carry."""

from collections.abc import Mapping

import duckdb
import numpy as np
import pandas as pd

from probe.analysis.bins import bin_index, octave_edges

TOP = 0.01
"""Share of the targets whose part of the sum is told."""


def tails(
    connection: duckdb.DuckDBPyConnection,
    reach: int,
    curve_starts: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Shares of targets helped and hurt, and the part of the sum in the top 1 % of the targets.

    Args:
        connection: From :func:`probe.analysis.views.connect`.
        reach: End of the last octave (tokens).
        curve_starts: First distance (tokens) of each condition's curve; octaves that begin before
            it are left out.

    Returns:
        One row per condition and octave of distance, grey rows left out: ``condition,
        distance_from, distance_to`` (tokens)``, helped, hurt`` (shares of targets with delta above
        and below 0)``, top_share`` (sum of the largest 1 % of the deltas over the sum of all; NaN
        where the sum is not above 0, above 1 where the rest adds up to less than 0)``, targets``.
    """
    edges = octave_edges(reach)
    distances = np.arange(reach)
    connection.register(
        "octaves", pd.DataFrame({"distance": distances, "octave": bin_index(distances, edges)})
    )
    frame = connection.execute(
        """WITH deltas AS (
            SELECT condition, octave, delta FROM targets JOIN octaves USING (distance)
            WHERE NOT grey
        ), cuts AS (
            SELECT condition, octave, quantile_disc(delta, $cut) AS cut FROM deltas GROUP BY ALL
        )
        SELECT condition, octave, avg((delta > 0)::INT) AS helped, avg((delta < 0)::INT) AS hurt,
            CASE WHEN sum(delta) > 0 THEN sum(delta) FILTER (WHERE delta >= cut) / sum(delta) END
                AS top_share,
            count(*) AS targets
        FROM deltas JOIN cuts USING (condition, octave)
        GROUP BY condition, octave ORDER BY condition, octave""",
        {"cut": 1 - TOP},
    ).df()
    connection.unregister("octaves")
    octaves = frame.pop("octave").to_numpy(dtype=np.int64)
    frame.insert(1, "distance_from", edges[octaves])
    frame.insert(2, "distance_to", edges[octaves + 1])
    starts = frame["condition"].map(dict(curve_starts or {})).fillna(0)
    return frame[frame["distance_from"] >= starts].reset_index(drop=True)
