"""The minimum detectable effect: what the documents of a run would show, had it been there."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from probe.analysis.fit import in_order
from probe.analysis.floor import is_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import stacked
from probe.findings.base import Finding, register
from probe.findings.chart import Chart, Rule, delta_axis, distance_axis
from probe.findings.curve import curve_series, threshold_of
from probe.findings.table import between, decimals, pivot, records

POWER = 0.8
COLUMNS = ("condition", "distance_from", "distance_to", "standard_error", "detectable", "documents")


@register("detectable", order=180)
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """The smallest delta that this run would have shown, by distance.

    Args:
        run: The open run.
        others: Not needed.
    """
    rows = detectable(run)
    files = {"findings.json": {"detectable": records(rows)}}
    nothing = Finding("detectable", "Minimum detectable effect", files=files)
    if rows.empty or not run.has_length:
        return nothing
    last = records(rows[rows["condition"] == run.main_condition].sort_values("distance_from"))[-1:]
    sentence = "".join(
        f"Under {row['condition']} at {between(row)} the minimum detectable effect is"
        f" {decimals(row['detectable'])} nats per token ({POWER * 100:g} % power)."
        for row in last
    )
    return replace(nothing, sentence=sentence, charts=[_chart(run, rows)])


def detectable(run: OpenRun) -> pd.DataFrame:
    """The mean delta that a t-test over the documents of each bin would find with 80 % power.

    ``(t(n−1, (1 + confidence) / 2) + t(n−1, 0.8)) · SE``: a delta this large differs significantly
    from 0, on either side, four times out of five. A bin in which nothing was found rules out no
    less.

    Args:
        run: The open run; its confidence is one less the level of the two-sided test.

    Returns:
        One row per condition and bin with the columns ``COLUMNS`` (tokens, nats); NaN
        below two documents in a bin.

    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", chapter 2, with
        Student's quantiles.
    """
    frames = []
    for name, curve in run.fitted.items():
        if is_noise(name):
            continue
        documents = (curve.sums.targets > 0).sum(axis=0)
        units = documents if curve.sums.texts is None else curve.resampled.units
        freedom = np.where(documents > 1, units - 1, np.nan)
        factor = stdtrit(freedom, (1 + run.analysis.confidence) / 2) + stdtrit(freedom, POWER)
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


def _chart(run: OpenRun, rows: pd.DataFrame) -> Chart:
    names = in_order(rows["condition"].astype(str))
    threshold = threshold_of(run)
    cells = pivot(
        f"Minimum detectable effect (nats per token) by distance ({run.unit})",
        records(rows),
        names,
        by="condition",
        cell=lambda row: decimals(row["detectable"]),
    )
    return Chart(
        "Minimum detectable effect by distance",
        distance_axis(float(rows["distance_to"].max()), unit=run.unit),
        delta_axis(
            rows["detectable"].to_numpy(float),
            threshold,
            "detectable effect (nats per token)",
        ),
        [
            curve_series(rows[rows["condition"] == name], name, run.rank(name), "detectable")
            for name in names
        ],
        [Rule(threshold)],
        how=(
            "The mean delta that a two-sided test at"
            f" {100 - 100 * run.analysis.confidence:g} % over these documents detects with"
            f" {POWER * 100:g} % power. Where it is above the dotted line, the smallest tolerance,"
            " a run needs more documents."
        ),
        tables=[cells],
        heading=[run.model, run.data],
    )
