"""Means by bin with their limits, as a frame."""

import numpy as np
import pandas as pd

from probe.analysis.bootstrap import Bootstrap, band
from probe.analysis.sums import Sums


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
