"""How much of an interval comes from the draws of a perturbation, and not from the documents."""

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.floor import is_noise
from probe.analysis.sums import distance_bins
from probe.analysis.views import is_repeated

COLUMNS = ("condition", "distance_from", "repeats", "draws_error")
"""Distances in tokens; the error in nats a token."""


def draws_errors(connection: duckdb.DuckDBPyConnection, edges: NDArray[np.int64]) -> pd.DataFrame:
    """Standard error of the mean delta that the draws alone cause, by condition and bin.

    The variance between the repeats of one document, window by window drawn anew, added over the
    documents: what the mean would still move by with these very documents. The interval of a
    document bootstrap holds it already, beside the variance between documents.

    Args:
        connection: From :func:`probe.analysis.views.connect`.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.

    Returns:
        Columns ``COLUMNS``, one row for each condition and bin that was drawn more than once;
        empty without repeats. Grey rows are left out.
    """
    if not is_repeated(connection):
        return pd.DataFrame(columns=list(COLUMNS))
    connection.register("repeat_bins", distance_bins(edges))
    frame = connection.execute(
        """SELECT condition, bin, max(repeats)::BIGINT AS repeats,
            sqrt(sum(variance / repeats)) / sum(targets) AS draws_error
        FROM (SELECT condition, bin, document, var_samp(total) AS variance, count(*) AS repeats,
                avg(targets) AS targets
            FROM (SELECT condition, bin, document, repeat, count(*) AS targets,
                    sum(nll::DOUBLE - nll_intact) AS total
                FROM scores JOIN repeat_bins USING (distance)
                JOIN (SELECT document, "window", start FROM windows) USING (document, "window")
                WHERE boundary >= 0 AND distance <= boundary - start
                GROUP BY condition, bin, document, repeat)
            GROUP BY condition, bin, document)
        GROUP BY condition, bin HAVING max(repeats) > 1 ORDER BY condition, bin"""
    ).df()
    connection.unregister("repeat_bins")
    frame["distance_from"] = edges[frame.pop("bin").to_numpy(dtype=np.int64)]
    return frame[list(COLUMNS)]


def draws_in_words(curve: pd.DataFrame) -> list[str]:
    """What part of an error the draws cause, one line a condition that was drawn more than once.

    Args:
        curve: The curve of a run, with ``standard_error`` and ``draws_error`` (nats a token).

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
        lines.append(
            f"{condition}: in the median bin the draws cause {middle * 100:.0f} % of the variance"
            " of delta, the documents the rest"
        )
    return lines
