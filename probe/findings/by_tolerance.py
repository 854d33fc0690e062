"""Effective context over the whole range of tolerances, and the hinge beside the threshold rule."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.effective import effective_context
from probe.analysis.fit import in_order
from probe.analysis.floor import is_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.segmented import hinges
from probe.findings.base import CONDITION, Drawn, Finding, Plot, only, register
from probe.findings.chart import (
    Axis,
    Chart,
    EmptyChartError,
    Role,
    Rule,
    Series,
    distance_axis,
)
from probe.findings.table import (
    Table,
    by_condition,
    decimals,
    estimate,
    of_lengths,
    pivot,
    records,
)
from probe.results.tolerance import Tolerance

_DECADE = (
    *(100, 112, 125, 140, 160, 180, 200, 224, 250, 280),
    *(315, 355, 400, 450, 500, 560, 630, 710, 800, 900),
)

GRID = (*(step * 10**decade / 1e5 for decade in range(3) for step in _DECADE), 1.0)
"""Rises in perplexity, 0.001 (0.1 %) to 1 (100 %), twenty a decade (Renard's R20 series): even
steps of the logarithm that hold 1, 2, 5 and 10 %."""

COLUMNS = ("condition", "tolerance", "epsilon", "kind", "length", "low", "high", "short")
TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_INTERVAL = re.compile(r" \([^()]*\)$")


def plot(runs: Sequence[OpenRun], *, condition: str | None = None) -> Drawn:
    """Effective context by tolerance, for `probe plot`.

    Args:
        runs: One run.
        condition: Only this condition.
    """
    (run,) = runs
    yield "", chart(run, only(run.once(tolerance_curve), "condition", condition, "condition"))


@register("tolerance", order=130, plots=[Plot("tolerance", plot, options=[CONDITION])])
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """The length at every tolerance, with the hinge of each curve.

    Args:
        run: The open run.
        others: Not needed.
    """
    rows, bends = run.once(tolerance_curve), hinges(run.fitted)
    kept = rows.drop(columns="short")
    files = {"findings.json": {"tolerance_curve": records(kept), "hinges": records(bends)}}
    nothing = Finding("tolerance", "Length by tolerance", files=files)
    if not run.has_length:
        return nothing
    resolved = rows["kind"] != "unresolved"
    names = in_order(rows["condition"].astype(str))
    main = run.main_condition or next(iter(names), "")
    known = records(rows[(rows["condition"] == main) & resolved].sort_values("tolerance"))
    sentence = f"{main} is unresolved at every tolerance." if names else ""
    if known:
        sentence = (
            f"Effective context under {main}: {known[0]['short']} at a rise of {_rise(known[0])},"
            f" {known[-1]['short']} at {_rise(known[-1])}."
        )
    return replace(
        nothing,
        sentence=sentence,
        tables=[] if bends.empty else [_hinges(bends, run.unit)],
        charts=[chart(run, rows)] if resolved.any() else [],
    )


def tolerance_curve(run: OpenRun) -> pd.DataFrame:
    """The length that each tolerance gives, with its interval.

    Every length is what :func:`probe.analysis.effective.effective_context` says of the same fitted
    curve, by all of its rules. A greater tolerance never gives a greater length. The noise control
    is left out.

    Args:
        run: The open run; its own tolerances are among those of the grid.

    Returns:
        One row per condition and tolerance with the columns ``COLUMNS``: ``tolerance`` (share),
        ``epsilon`` (nats), ``kind`` as in ``EffectiveContext``, ``length, low, high`` (tokens,
        nullable Int64; a missing one lies beyond reach, and all are missing if ``unresolved``),
        ``short`` the answer as tables have it.

    Raises:
        UsageError: If bits per byte are asked of a run without text.
    """
    rows = []
    for name, curve in run.fitted.items():
        for share in () if is_noise(name) else shares_of(run):
            tolerance = Tolerance(f"{share * 100:g}%", "perplexity", share)
            context = effective_context(curve, tolerance, floor=run.floor, length=run.length_change)
            answer = context.kind, *context.lengths, context.text()
            rows.append((name, share, context.epsilon, *answer))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(("length", "low", "high"), "Int64"))


def shares_of(run: OpenRun) -> tuple[float, ...]:
    """The grid and the run's own tolerances as rises in perplexity.

    A tolerance that is a share of delta has no rise of its own.

    Args:
        run: The open run.

    Raises:
        UsageError: If bits per byte are asked of a run without text.
    """
    shares = []
    for tolerance in run.analysis.tolerances:
        nats = tolerance.nats(bytes_per_token=run.bytes_per_token)
        if tolerance.unit == "perplexity":
            shares.append(tolerance.amount)
        elif nats is not None:
            shares.append(math.expm1(nats))
    return tuple(sorted({*GRID, *shares}))


def chart(run: OpenRun, rows: pd.DataFrame) -> Chart:
    """Effective context at every tolerance, one line a condition; what lies beyond at the reach.

    Args:
        run: The run.
        rows: Rows of :func:`tolerance_curve`.

    Raises:
        EmptyChartError: If no condition has an answer at any tolerance.
    """
    resolved = rows["kind"] != "unresolved"
    if not resolved.any():
        raise EmptyChartError("no effective context at any tolerance to draw")
    reach = float(run.reach)
    names = in_order(rows["condition"].astype(str))
    series = [
        line
        for name in names
        for line in _lines(
            rows[rows["condition"] == name].sort_values("tolerance"), run.rank(name), reach
        )
    ]
    lengths = rows.loc[resolved, ["length", "low", "high"]].astype("Float64")
    shortest = float(np.nanmin(np.append(lengths.to_numpy(np.float64, na_value=np.nan), reach)))
    low, high = float(rows["tolerance"].min()), float(rows["tolerance"].max())
    answers = records(rows.sort_values(["tolerance", "condition"]))
    cells = pivot(
        of_lengths(f"Effective context ({run.unit}) by tolerance", answers),
        answers,
        names,
        by="condition",
        cell=lambda row: str(row["short"]),
        head={"tolerance": _rise},
        detail=estimate,
    )
    legend = [("beyond", "beyond reach")] if rows.loc[resolved, "length"].isna().any() else []
    legend += [] if resolved.all() else [("unresolved", "unresolved")]
    return Chart(
        "Effective context by tolerance",
        Axis(
            "tolerance (rise in perplexity)",
            low,
            max(high, low * 1.01),
            "log",
            [tick for tick in TICKS if low <= tick <= high],
            percent=True,
        ),
        distance_axis(
            reach * 1.25,
            label=f"effective context ({run.unit})",
            low=0 if shortest < 8 else 2 ** int(np.log2(shortest)),
        ),
        series,
        [Rule(reach, "reach")],
        legend=legend,
        how=(
            "The stricter the tolerance (to the left), the longer the context that counts as used."
            f" A line at the upper edge is beyond the {run.reach:,} {run.unit} measured."
            " Bands: interval over documents; where a line is missing the answer is unresolved."
        ),
        tables=[cells],
        heading=[run.model, run.data],
    )


def _lines(rows: pd.DataFrame, look: int, reach: float) -> list[Series]:
    """Line and band of one condition, triangles beyond the reach, crosses where unresolved."""
    name = str(rows["condition"].iloc[0])
    known = (rows["kind"] != "unresolved").to_numpy(dtype=bool)
    share = rows["tolerance"].to_numpy(dtype=np.float64)
    columns = rows[["length", "low", "high"]].astype("Float64")
    lengths = columns.to_numpy(dtype=np.float64, na_value=np.nan)
    drawn = np.where(known[:, None], np.where(np.isnan(lengths), reach, lengths), np.nan)
    titles = [f"{name}, {_rise(row)}: {row['short']}" for row in records(rows)]
    role: Role = "series" if known.any() else "grey"  # its name alone: there is nothing to draw
    y, low, high = drawn.T
    series = [Series(name, share, y, look, low, high, titles=titles, role=role, points=False)]
    # Some only, and others for the next condition: none hides those of another.
    some = slice(2 * (look % 3), None, 6)
    marks: Sequence[tuple[Role, NDArray[np.bool_], float]] = (
        ("beyond", known & np.isnan(lengths[:, 0]), reach),
        ("unresolved", ~known, np.nan),
    )
    for role, where, height in marks:
        x = share[where][some]
        if len(x):
            series.append(Series("", x, np.full(len(x), height), look, role=role, joined=False))
    return series


def _hinges(bends: pd.DataFrame, unit: str) -> Table:
    rows = by_condition(bends)
    estimates = [estimate(row | {"length": row["hinge"]}) for row in rows]
    return Table(
        of_lengths("Hinge fit: where delta, falling linearly in log distance, turns flat", rows),
        ["condition", f"hinge ({unit})", "slope (nats per octave)"],
        [[str(row["condition"]), _hinge(row), decimals(row["slope"])] for row in rows],
        details={(number, 1): text for number, text in enumerate(estimates) if text},
    )


def _hinge(row: dict[str, Any]) -> str:
    """A hinge in a cell; where two straight pieces fit poorly it has no interval."""
    text, poor, off = str(row["text"]).partition("; poor fit")
    bare = poor or row["kind"] == "greater"
    return f"{_INTERVAL.sub('', text) if bare else text}{poor}{off}"


def _rise(row: Mapping[str, Any]) -> str:
    return f"{float(row['tolerance']) * 100:.3g} %"
