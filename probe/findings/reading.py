"""Where far text is read at all: KL to the intact distribution, above its own noise floor."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from probe.analysis.bins import octave_edges
from probe.analysis.bootstrap import bootstrap
from probe.analysis.fit import in_order
from probe.analysis.floor import is_noise, limit, noise_conditions, without_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import binned, from_starts, intervals, located, stacked, to_sums
from probe.findings.base import Finding, register
from probe.findings.table import pivot, ranged, records

LEAST = 1e-6
"""A KL below this (nats) is rounding of float32, whatever the noise condition happened to hit."""

COLUMNS = (
    *("condition", "distance_from", "distance_to", "kl", "low", "high"),
    *("floor", "read", "targets"),
)


@register("reading", order=150, level="brief")
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """How far each condition's far text is read, where KL was measured.

    Args:
        run: The open run.
        others: Not needed.
    """
    rows = run.once(reading)
    files = {"summary.json": {"reading": records(rows)}}
    nothing = Finding("reading", "Where far text is read", files=files)
    shown = without_noise(rows)
    if shown.empty or not run.has_length:
        return nothing
    names = in_order(shown["condition"].astype(str))
    table = pivot(
        "KL(intact ‖ condition), nats, by octave of distance; * above its noise floor",
        records(shown),
        names,
        by="condition",
        cell=lambda row: ranged(row, "kl") + (" *" if row["read"] else ""),
    )
    return replace(
        nothing,
        sentence=_sentence(shown, names),
        tables=[table],
        caveats=[
            "KL to the intact distribution also shows changes that lower the loss as often as they"
            " raise it."
        ],
    )


def reading(run: OpenRun) -> pd.DataFrame:
    """Mean KL(intact ‖ condition) by octave of distance, with its interval and floor.

    A loss says where far text helps on average; KL also sees what helps as often as it hurts. It
    is not below 0 but for rounding, so that its noise has a mean: the floor is the upper limit of
    the noise condition's mean KL in the octave. Grey rows and distances before a curve's start
    are left out, as in curves.

    Args:
        run: The open run.

    Returns:
        One row per condition and octave with the columns ``COLUMNS``: distances in tokens; ``kl``,
        ``low``, ``high`` and ``floor`` in nats, ``read`` whether ``low`` lies above the floor
        (false without a floor); empty where KL was not measured.
    """
    if "kl" not in run.connection.view("scores").columns:
        return stacked([], COLUMNS)
    edges = octave_edges(run.last_edge)
    with binned(run.connection, edges):
        rows = run.connection.execute(
            """SELECT condition, bin, s.document, count(*) AS targets, sum(kl::DOUBLE) AS delta_sum,
                sum(kl::DOUBLE * kl::DOUBLE) AS delta_squares
            FROM scores s JOIN bins USING (distance)
                JOIN windows w ON s.document = w.document AND s."window" = w."window"
            WHERE boundary >= 0 AND kl IS NOT NULL
                AND distance <= far_tokens(boundary, distance, w.start)
            GROUP BY condition, bin, s.document ORDER BY condition, bin, s.document"""
        ).df()
    rows = from_starts(located(rows, edges), run.starts)
    noise = rows[rows["condition"].isin(noise_conditions(rows))]
    summed = ["targets", "delta_sum", "delta_squares"]
    confidence = run.analysis.confidence
    limits = [
        {"start": start, "limit": limit(own.set_index("document")[summed], confidence)}
        for (start, _), own in noise.groupby(["distance_from", "condition"])
    ]
    floors = pd.DataFrame(limits, columns=["start", "limit"]).groupby("start")["limit"].max()
    frames = []
    for condition, own in rows.groupby("condition"):
        sums = to_sums(own, run.documents, run.texts(str(condition)))
        resampled = bootstrap(sums.sums, sums.targets, run.weights, confidence, sums.texts)
        frame = intervals(sums, resampled, confidence).rename(columns={"delta": "kl"})
        floor = frame["distance_from"].map(floors)
        frame = frame.assign(condition=str(condition), floor=floor)
        frames.append(frame.assign(read=frame["low"] > floor.clip(lower=LEAST))[list(COLUMNS)])
    return stacked(frames, COLUMNS)


def read_to(run: OpenRun) -> list[str]:
    """How far each condition's text is read by KL, a line each, where that was measured."""
    lines = []
    for condition, rows in run.once(reading).groupby("condition"):
        if rows["floor"].notna().any() and not is_noise(str(condition)):
            unread = rows[~rows["read"].astype(bool)]["distance_from"]
            end = unread.min() if len(unread) else rows["distance_to"].max()
            lines.append(f"{condition}: KL to intact is above its noise floor up to {int(end):,}")
    return lines


def _sentence(rows: pd.DataFrame, names: Sequence[str]) -> str:
    """How far the KL of each condition is above its noise floor."""
    parts = []
    for name in names:
        own = rows[rows["condition"] == name].sort_values("distance_from")
        unread = own[~own["read"].astype(bool)]
        if np.isnan(own["floor"].iloc[0]):
            parts.append(f"{name} has no noise floor to compare with")
        elif len(unread):
            parts.append(f"{name} up to {int(unread['distance_from'].iloc[0]):,}")
        else:
            last = records(own)[-1]
            parts.append(
                f"{name} at all distances up to {int(last['distance_to']):,}, where KL is"
                f" {ranged(last, 'kl')} nats"
            )
    return f"Far text is read (KL above its noise floor) under {'; '.join(parts)}."
