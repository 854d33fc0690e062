"""What a mean hides: targets helped and hurt, how much a few of them carry, and quantiles."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import octave_edges, octave_index
from probe.analysis.floor import without_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import from_starts, located
from probe.findings.base import Finding, register
from probe.findings.chart import Chart, Role, Series, delta_axis, distance_axis
from probe.findings.curve import threshold_of
from probe.findings.table import Table, between, by_condition, decimals, middles, percent, records

TOP = 0.01
"""Share of the targets whose part of the sum is given."""
LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
NAMES = tuple(f"q{level * 100:02.0f}" for level in LEVELS)
PLACES = ("condition", "distance_from", "distance_to")

FAN: Sequence[tuple[Role, str, str, int]] = (
    ("fan0", "q01", "q99", 98),
    ("fan1", "q05", "q95", 90),
    ("fan2", "q25", "q75", 50),
)
"""Shares of targets that are drawn over one another, and the quantiles between which they lie."""
MORE_THAN_ALL = (
    "More than 100 % in the top 1 %: the deltas of the other targets sum to less than 0, so that"
    " the sum over all targets is smaller than that over the top 1 %."
)


@register("shares", order=140, level="brief")
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """Targets helped and hurt, and what the top 1 % of them carry.

    Args:
        run: The open run.
        others: Not needed.
    """
    every = run.once(shares)
    files = {"summary.json": {"tails": records(every)}}
    rows = without_noise(every)
    nothing = Finding("shares", "What the mean hides", files=files)
    if rows.empty or not run.has_length:
        return nothing
    return replace(
        nothing,
        sentence=_sentence(rows, run.main_condition or ""),
        tables=[_table(rows)],
        caveats=[MORE_THAN_ALL] if (rows["top_share"] > 1).any() else [],
    )


@register("quantiles", order=141)
def spread(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """Quantiles of delta over targets.

    Args:
        run: The open run.
        others: Not needed.
    """
    rows, main = run.once(quantiles), run.main_condition
    files = {"findings.json": {"quantiles": records(rows)}}
    nothing = Finding("quantiles", "Quantiles of delta", files=files)
    of_main = records(rows[rows["condition"] == main].sort_values("distance_from"))
    if not run.has_length or not of_main:
        return nothing
    last = of_main[-1]
    sentence = (
        f"Under {main} at {between(last)} half of the targets change by {decimals(last['q25'])} to"
        f" {decimals(last['q75'])} nats, and one in a hundred loses {decimals(last['q99'])} or"
        " more."
    )
    return replace(nothing, sentence=sentence, charts=[_chart(run, rows, str(main))])


def shares(run: OpenRun) -> pd.DataFrame:
    """Shares of targets helped and hurt, and the part of the sum in the top 1 % of the targets.

    Args:
        run: The open run.

    Returns:
        One row per condition and octave of distance, grey rows left out: ``condition,
        distance_from, distance_to`` (tokens)``, helped, hurt`` (shares of targets with delta above
        and below 0 by more than rounding)``, top_share`` (sum of the largest 1 % of the deltas over
        the sum of all; NaN where the sum is not above 0, above 1 where the rest adds up to less
        than 0)``, targets``.
    """
    octaves = octave_edges(run.last_edge)
    sums = run.plain_sums[~run.plain_sums["grey"].astype(bool)]
    groups = sums.assign(bin=octave_index(sums["distance_from"])).groupby(["condition", "bin"])
    frame = groups[["helped", "hurt", "delta_sum", "targets"]].sum().reset_index()
    tops = [
        top
        for condition, part in frame.groupby("condition")
        for top in _top_sums(run, str(condition), part, octaves)
    ]
    frame[["helped", "hurt"]] = frame[["helped", "hurt"]].div(frame["targets"], axis=0)
    total = frame.pop("delta_sum")
    frame.insert(4, "top_share", (pd.Series(tops, dtype=float) / total).where(total > 0))
    return from_starts(located(frame, octaves), run.starts)


def quantiles(run: OpenRun) -> pd.DataFrame:
    """Quantiles of delta over targets, by condition and octave of distance.

    They are read off the counts of :class:`probe.analysis.counter.Deltas`: no quantile is further
    off than a cell is wide.

    Args:
        run: The open run.

    Returns:
        One row per condition and octave with the columns ``PLACES``, ``NAMES`` and ``targets``
        (tokens, nats), grey rows and the noise control left out. A quantile is the delta of a
        target (inverted distribution function), to 0.1 %.
    """
    cells = run.connection.execute(
        f"""SELECT condition, octave AS bin, targets, delta_sum / targets AS delta
        FROM {run.cells}_deltas ORDER BY condition, bin, delta"""
    ).df()
    cells = from_starts(located(cells, octave_edges(run.last_edge)), run.starts)
    rows = []
    for octave, part in cells.groupby(list(PLACES)):
        passed = part["targets"].to_numpy(dtype=np.int64).cumsum()
        at = np.searchsorted(passed, np.array(LEVELS) * passed[-1] * (1 - 1e-12))
        rows.append((*octave, *part["delta"].iloc[at], passed[-1]))
    return pd.DataFrame(rows, columns=[*PLACES, *NAMES, "targets"])


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
    run: OpenRun, condition: str, rows: pd.DataFrame, octaves: NDArray[np.int64]
) -> list[float]:
    """Sum of the largest deltas in each octave of *rows*; the bound of the cells was a guess."""
    kept = run.connection.execute(
        f"SELECT octave, delta_sum AS delta FROM {run.cells}_tails WHERE condition = $1",
        [condition],
    ).fetchnumpy()
    found = []
    for octave, targets in zip(rows["bin"], rows["targets"], strict=True):
        top = top_sum(np.asarray(kept["delta"][kept["octave"] == octave]), int(targets))
        if top is None:
            everything = run.connection.execute(
                """SELECT delta FROM targets WHERE condition = $1 AND NOT grey
                AND distance >= $2 AND distance < $3""",
                [condition, int(octaves[octave]), int(octaves[octave + 1])],
            ).fetchnumpy()
            top = top_sum(np.asarray(everything["delta"]), int(targets))
        found.append(np.nan if top is None else top)
    return found


def _sentence(rows: pd.DataFrame, main: str) -> str:
    of_main = records(rows[rows["condition"] == main].sort_values("distance_from"))
    if not of_main:
        return ""
    last = of_main[-1]
    top = last["top_share"]
    carried = "" if top is None else f"; the top 1 % account for {percent(top)} of the sum"
    return (
        f"Under {main} at {between(last)} the far text helped {percent(last['helped'])} of the"
        f" targets and hurt {percent(last['hurt'])}{carried}."
    )


def _table(rows: pd.DataFrame) -> Table:
    """By condition and octave: helped, hurt, and the part of the top 1 %."""
    return Table(
        "Targets that far context helped and hurt (by more than 1e−5 nats)",
        ["condition", "distance", "helped", "hurt", "top 1 %, share of the sum"],
        [
            [
                str(row["condition"]),
                between(row),
                *(percent(row[name]) for name in ("helped", "hurt", "top_share")),
            ]
            for row in by_condition(rows)
        ],
        shown="both",
    )


def _chart(run: OpenRun, every: pd.DataFrame, main: str) -> Chart:
    rows = every[every["condition"] == main].sort_values("distance_from")
    x = middles(rows)
    series = [
        Series(
            f"middle {share} % of targets",
            x,
            np.full(len(x), np.nan),
            0,
            rows[low].to_numpy(float),
            rows[high].to_numpy(float),
            role=role,
            points=False,
        )
        for role, low, high, share in FAN
    ]
    series.append(Series("median", x, rows["q50"].to_numpy(float), 0))
    cells = [
        [str(row["condition"]), between(row), *(decimals(row[name]) for name in NAMES)]
        for row in records(without_noise(every))
    ]
    headers = ["condition", "distance", *(f"{int(name[1:])} %" for name in NAMES)]
    return Chart(
        f"Quantiles of delta under {main}",
        distance_axis(float(rows["distance_to"].max()), unit=run.unit),
        delta_axis(rows[["q01", "q99"]].to_numpy(float), threshold_of(run)),
        series,
        how=(
            "The spread over single targets: where the mean lies far above the median, it is"
            " determined by the few targets that depend strongly on the far text."
        ),
        tables=[Table("Quantiles of delta (nats)", headers, cells)],
        heading=[run.model, run.data],
    )
