"""Means by bin with their limits, as a frame."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from probe.analysis.bootstrap import Bootstrap, band, bootstrap, pointwise_band, resample_weights
from probe.analysis.settings import Analysis
from probe.analysis.sums import Sums
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.text import difference


def intervals(
    sums: Sums, resampled: Bootstrap, confidence: float, *, simultaneous: bool = False
) -> pd.DataFrame:
    """The mean of each bin with its limits.

    Args:
        sums: What was summed.
        resampled: Its document bootstrap, for the same *confidence*.
        confidence: Confidence of the limits.
        simultaneous: Whether they hold for all bins at once, not bin by bin.

    Returns:
        ``distance_from, distance_to`` (tokens)``, delta, low, high`` (nats)``, targets, documents``
        (with a target).
    """
    low, high = band(resampled, confidence, simultaneous=simultaneous)
    return pd.DataFrame(
        {
            "distance_from": sums.lower,
            "distance_to": sums.upper,
            "delta": resampled.mean,
            "low": low,
            "high": high,
            "targets": sums.targets.sum(axis=0).astype(np.int64),
            "documents": (sums.targets > 0).sum(axis=0),
        }
    )


def delta_table(sums: pd.DataFrame, keys: Sequence[str], how: Analysis) -> pd.DataFrame:
    """Mean delta of every group, and the limits of a bootstrap over all documents of the sums.

    Args:
        sums: Columns *keys*, ``document, targets, delta_sum``, at most one row a group and
            document.
        keys: What tells groups apart.
        how: Resamples, seed and confidence.

    Returns:
        Columns *keys*, ``delta, low, high`` (nats a token), ``targets, documents``, in order of the
        keys; limits are missing with fewer documents than an interval needs.
    """
    documents = pd.Index(sorted(set(sums["document"].astype(str))))
    weights = resample_weights(len(documents), how.resamples, how.seed)
    rows = []
    for _, own in sums.groupby(list(keys), sort=True):
        places = documents.get_indexer(pd.Index(own["document"].astype(str)))
        delta, targets = np.zeros((2, len(documents), 1))
        delta[places, 0], targets[places, 0] = own["delta_sum"], own["targets"]
        resampled = bootstrap(delta, targets, weights, how.confidence)
        low, high = pointwise_band(resampled, how.confidence)
        known = resampled.documents >= FEWEST_DOCUMENTS
        rows.append(
            {key: own[key].iloc[0] for key in keys}
            | {
                "delta": resampled.mean[0],
                "low": low[0] if known else np.nan,
                "high": high[0] if known else np.nan,
                "targets": int(targets.sum()),
                "documents": resampled.documents,
            }
        )
    names = [*keys, "delta", "low", "high", "targets", "documents"]
    return pd.DataFrame(rows, columns=names)


def in_words(row: "pd.Series[float]") -> str:
    """Delta with its limits, nats: ``+0.0123 (+0.0100 to +0.0150)``."""
    return difference(row["delta"], row["low"], row["high"])


def strongest(table: pd.DataFrame, name: Callable[["pd.Series[float]"], str], group: str) -> str:
    """Which group matters most, as the end of a sentence: only what an interval bears out.

    Args:
        table: Of :func:`delta_table`, with a row at least and a column ``condition``.
        name: What to call the group of a row.
        group: What groups are: ``band``.

    Returns:
        The group with the largest delta of those whose interval lies above 0; that none does; or,
        without intervals, the largest with nothing claimed.
    """
    known = table.dropna(subset=["low"])
    above = known[known["low"] > 0]
    rows = above if len(above) else table
    row = rows.iloc[int(rows["delta"].to_numpy().argmax())]
    told = f"{name(row)} ({row['condition']}: {in_words(row)} nats a token)"
    if len(above):
        return f"{told} matters most"
    if len(known):
        return f"no {group}'s interval lies above 0; the largest delta is that of {told}"
    return f"the largest delta is that of {told}, with too few documents for an interval"
