"""What a run could have seen: the smallest mean delta that its documents would show."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import t

from probe.analysis.fitted import FittedCurve
from probe.analysis.floor import is_noise
from probe.analysis.frames import stacked

POWER = 0.8

COLUMNS = (
    "condition",
    "distance_from",
    "distance_to",
    "standard_error",
    "detectable",
    "documents",
)


def detectable(fitted: Mapping[str, FittedCurve], confidence: float = 0.95) -> pd.DataFrame:
    """The mean delta that a t-test over the documents of each bin would find with 80 % power.

    ``(t(n−1, (1 + confidence) / 2) + t(n−1, 0.8)) · SE``: a delta this large is told from 0, on
    both sides, four times out of five. A bin in which nothing was found rules out no less.

    Args:
        fitted: Curves by condition; the noise control is left out.
        confidence: One less the level of the two-sided test.

    Returns:
        One row per condition and bin with the columns ``COLUMNS`` (tokens, nats); NaN below two
        documents in a bin.

    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", chapter 2, with
        Student's quantiles.
    """
    frames = []
    for name, curve in fitted.items():
        if is_noise(name):
            continue
        documents = (curve.sums.targets > 0).sum(axis=0)
        freedom = np.where(documents > 1, documents - 1, np.nan)
        factor = t.ppf((1 + confidence) / 2, freedom) + t.ppf(POWER, freedom)
        frames.append(
            pd.DataFrame(
                {
                    "condition": name,
                    "distance_from": curve.sums.lower,
                    "distance_to": curve.sums.upper,
                    "standard_error": curve.resampled.standard_error,
                    "detectable": factor * curve.resampled.standard_error,
                    "documents": documents,
                }
            )
        )
    return stacked(frames, COLUMNS)
