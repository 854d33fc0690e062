"""What kind of information far text holds: contrasts, ratios, lengths, what a mean hides."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from probe.analysis.answer import in_order
from probe.analysis.floor import without_noise
from probe.analysis.record import records
from probe.report.answers import curve_line, main_condition, threshold_of, value_line
from probe.report.charts import Chart, Line, Rule
from probe.report.explained import (
    Explained,
    Section,
    Table,
    between,
    by_condition,
    decimals,
    figure,
    frame,
    length,
    pivot,
    ranged,
)
from probe.report.svg import Scale, delta_scale, distance_scale, linear_scale

_INTERVAL = re.compile(r" \([^()]*\)$")


def contrast_section(explained: Explained) -> Section | None:
    """Deletion, content and order by octave; ``None`` without a contrast."""
    summary = explained.summary
    rows = summary.contrasts
    rows = rows[rows["scale"] == "octave"] if len(rows) else rows
    if rows.empty:
        return None
    names = list(dict.fromkeys(rows["contrast"].astype(str)))
    lines = [
        curve_line(rows[rows["contrast"] == name], name, look) for look, name in enumerate(names)
    ]
    chart = Chart(
        "Contrasts by distance",
        distance_scale(float(rows["distance_to"].max())),
        delta_scale(
            rows[["delta", "low", "high"]].to_numpy(float),
            threshold_of(summary),
            "difference of losses (nats a token)",
        ),
        lines,
    )
    how = (
        "Each line is one loss less another on the same targets: truncate − intact is what the far"
        " text gives, replace − truncate what wrong text does beyond missing text, shuffle −"
        " replace what the right words in the wrong order do. Below 0 the first of the two is the"
        " better one. They are no shares of a whole."
    )
    table = pivot(
        "Contrasts (nats a token) by octave of distance (tokens)",
        records(rows),
        names,
        by="contrast",
        cell=lambda row: ranged(row, "delta"),
    )
    found = [_farthest(rows, name) for name in names]
    finding = "At the farthest distances: " + "; ".join(found) + "."
    return Section("contrasts", "Deletion, content and order", finding, [figure(chart, how, table)])


def _farthest(rows: pd.DataFrame, name: str) -> str:
    last = records(rows[rows["contrast"] == name].sort_values("distance_from").iloc[[-1]])[0]
    return f"{name} is {ranged(last, 'delta')} nats at {between(last)}"


def information_section(explained: Explained) -> Section | None:
    """Ablated information: each condition's loss over that of truncation."""
    rows = without_noise(
        frame(
            explained,
            "information",
            *("condition", "distance_from", "distance_to", "ratio", "low", "high", "resolved"),
        )
    )
    if rows.empty:
        return None
    known = rows["resolved"].fillna(False).astype(bool)
    names = in_order(rows["condition"].astype(str))
    lines = []
    for look, name in enumerate(names):
        own = rows[(rows["condition"] == name) & known]
        if len(own):
            lines.append(value_line(own, name, look, "ratio"))
    shown = rows.loc[known, ["ratio", "low", "high"]].to_numpy(float)
    shown = np.clip(shown, -1, 5)  # one wide interval must not flatten all the others
    chart = Chart(
        "Ablated information by distance",
        distance_scale(float(rows["distance_to"].max())),
        linear_scale(shown, "share of truncation's delta", include=(0, 1)),
        lines,
        [Rule(1.0, "1")],
    )
    how = (
        "How much of what truncation costs is also lost under the condition: 0 keeps all of it, 1"
        " loses as much as cutting the text off, above 1 is worse than no far text at all. No"
        " bound. Octaves where truncation's own interval contains 0 have no ratio."
    )
    table = pivot(
        "Ablated information by octave of distance (tokens)",
        records(rows),
        names,
        by="condition",
        cell=lambda row: (
            ranged(row, "ratio", 2)
            if row.get("resolved")
            else f"unresolved ({row.get('reason') or 'the interval of truncation contains 0'})"
        ),
    )
    finding = _ratios(rows[known], names)
    return Section("information", "Ablated information", finding, [figure(chart, how, table)])


def _ratios(rows: pd.DataFrame, names: Sequence[str]) -> str:
    """The farthest ratio of each condition, the highest first, and on which side of 1 it lies."""
    own = [rows[rows["condition"] == name].sort_values("distance_from") for name in names]
    last = [records(each.iloc[[-1]])[0] for each in own if len(each)]
    if not last:
        return "No ratio is resolved: the interval of truncation contains 0 everywhere."
    parts = []
    for row in sorted(last, key=lambda row: -row["ratio"]):
        low, high = (row[name] for name in ("low", "high"))
        side = "which is not told from 1"
        if low is not None and low > 1:
            side = "worse than no far text at all"
        elif high is not None and high < 1:
            side = "less than what deletion costs"
        parts.append(
            f"{row['condition']} loses {ranged(row, 'ratio', 2)} times what truncation does at"
            f" {between(row)}, {side}"
        )
    return "At the farthest distances: " + "; ".join(parts) + "."


def tolerance_section(explained: Explained) -> Section | None:
    """Effective context for every tolerance, with the hinge fit beside it."""
    rows = frame(
        explained, "tolerance_curve", "condition", "tolerance", "kind", "length", "low", "high"
    )
    rows = without_noise(rows).copy()
    hinges = _hinges(explained)
    if rows.empty:
        if hinges is None:
            return None
        return Section("tolerance", "Length by tolerance", "", [], [hinges])
    reach = explained.summary.reach
    resolved = rows["kind"] != "unresolved"
    for name in ("length", "low", "high"):
        rows[f"{name}_shown"] = rows[name].astype("Float64").fillna(reach).astype(float)
        rows.loc[~resolved, f"{name}_shown"] = np.nan
    names = in_order(rows["condition"].astype(str))
    lines = []
    for look, name in enumerate(names):
        own = rows[rows["condition"] == name].sort_values("tolerance")
        sayings = [f"{name}, {_rise(row)}: {_answered(row)}" for row in records(own)]
        lines.append(
            Line(
                name,
                own["tolerance"].to_numpy(float),
                own["length_shown"].to_numpy(float),
                look,
                own["low_shown"].to_numpy(float),
                own["high_shown"].to_numpy(float),
                told=sayings,
            )
        )
    low, high = float(rows["tolerance"].min()), float(rows["tolerance"].max())
    ticks = [t for t in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0) if low <= t <= high]
    heights = distance_scale(float(reach), label="effective context (tokens)")
    across = Scale(
        "tolerance (rise in perplexity)", low, max(high, low * 1.01), "log", ticks, percent=True
    )
    chart = Chart("Effective context by tolerance", across, heights, lines)
    how = (
        "The stricter the tolerance (to the left), the longer the context that counts as used."
        f" A line at the upper edge is beyond the {reach:,} tokens measured. Bands: interval over"
        " documents; where a line is missing the answer is unresolved."
    )
    table = pivot(
        "Effective context (tokens) by tolerance",
        records(rows.sort_values(["tolerance", "condition"])),
        names,
        by="condition",
        cell=_answered,
        corner="tolerance",
        row_name=_rise,
    )
    main = main_condition(explained.summary) or names[0]
    found = records(rows[(rows["condition"] == main) & resolved].sort_values("tolerance"))
    finding = (
        f"Effective context under {main}: {_answered(found[0])} at a rise of {_rise(found[0])},"
        f" {_answered(found[-1])} at {_rise(found[-1])}."
        if found
        else f"{main} is unresolved at every tolerance."
    )
    tables = [hinges] if hinges else []
    return Section("tolerance", "Length by tolerance", finding, [figure(chart, how, table)], tables)


def _hinges(explained: Explained) -> Table | None:
    rows = frame(explained, "hinges", "condition", "hinge", "low", "high", "slope", "text")
    if rows.empty:
        return None
    caption = "Hinge fit beside the threshold rule: where a falling line in log distance meets flat"
    headers = ["condition", "hinge (tokens)", "slope (nats an octave)"]
    cells = [
        [str(row["condition"]), _hinge(row), decimals(row["slope"])] for row in by_condition(rows)
    ]
    return Table(caption, headers, cells)


def _hinge(row: dict[str, object]) -> str:
    """A hinge in words; where two straight pieces fit poorly it has no interval."""
    text, poor, off = str(row["text"]).partition("; poor fit")
    return f"{_INTERVAL.sub('', text)}{poor}{off}" if poor else text


def _rise(row: dict[str, object]) -> str:
    return f"{float(str(row['tolerance'])) * 100:.3g} %"


def _answered(row: dict[str, object]) -> str:
    if row["kind"] == "unresolved":
        return "unresolved"
    found, low, high = (row.get(name) for name in ("length", "low", "high"))
    if found is None:
        return "beyond reach" + (f" (at least {length(low)})" if low is not None else "")
    return f"{length(found)} ({length(low)}–{length(high)})"
