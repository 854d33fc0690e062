"""The answer and the curve behind it: the first sections of a run's page."""

import numpy as np
import pandas as pd

from probe.analysis.answer import (
    basis,
    conditions_of,
    epsilons,
    headline,
    in_order,
    notes,
    sentence,
    short,
)
from probe.analysis.effective import EffectiveContext
from probe.analysis.record import records
from probe.analysis.summary import Summary
from probe.analysis.tolerance import spaced
from probe.report.charts import Chart, Interval, Line, Rule
from probe.report.explained import (
    Explained,
    Section,
    Table,
    between,
    decimals,
    figure,
    middles,
    percent,
    pivot,
    ranged,
)
from probe.report.svg import delta_scale, distance_scale

THRESHOLD = 0.01
"""Where axes of delta turn logarithmic when no tolerance says better (nats)."""


def main_condition(summary: Summary) -> str | None:
    """The condition that is put first: that of the headline, else any with a curve."""
    context = headline(summary)
    if context is not None:
        return context.condition
    return next(iter(conditions_of(summary)), None)


def answer_section(explained: Explained) -> Section:
    """The answer in words, its table, and what limits it."""
    summary = explained.summary
    tolerances = [tolerance.text for tolerance in summary.analysis.tolerances]
    rows = [
        [name, *(short(summary.context(name, tolerance)) for tolerance in tolerances)]
        for name in in_order(context.condition for context in summary.contexts)
    ]
    tables = []
    if rows:
        headers = ["condition", *map(spaced, tolerances)]
        caption = "Effective context (tokens) by condition and tolerance, with its interval"
        tables.append(Table(caption, headers, rows))
    told = [basis(summary), *notes(summary)]
    told += [str(note) for note in getattr(explained, "notes", None) or ()]
    return Section("answer", "The answer", sentence(summary), [], tables, told)


def threshold_of(summary: Summary) -> float:
    """The smallest tolerance (nats), where axes of delta turn logarithmic."""
    return min(epsilons(summary), default=THRESHOLD)


def told(rows: pd.DataFrame, name: str, value: str = "delta") -> list[str]:
    """What the points of a line say when they are pointed at."""
    return [f"{name}, {between(row)}: {ranged(row, value)}" for row in records(rows)]


def curve_line(rows: pd.DataFrame, name: str, look: int, class_: str = "") -> Line:
    """A line of delta with its band and, where there is one, its fit."""
    return Line(
        name,
        middles(rows),
        rows["delta"].to_numpy(float),
        look,
        rows["low"].to_numpy(float),
        rows["high"].to_numpy(float),
        rows["fit"].to_numpy(float) if "fit" in rows else None,
        told(rows, name or class_),
        class_,
    )


def value_line(rows: pd.DataFrame, name: str, look: int, value: str) -> Line:
    """A line of one value with its limits."""
    low, high = (rows[name].to_numpy(float) if name in rows else None for name in ("low", "high"))
    return Line(
        name,
        middles(rows),
        rows[value].to_numpy(float),
        look,
        low,
        high,
        told=told(rows, name, value),
    )


def curve_section(summary: Summary) -> Section | None:
    """Delta by distance under every condition; ``None`` without any."""
    conditions = conditions_of(summary)
    if not conditions:
        return None
    shown = summary.curve[summary.curve["condition"].isin(conditions)]
    grey = shown["grey"].astype(bool)
    lines = []
    for look, name in enumerate(conditions):
        rows = shown[(shown["condition"] == name) & ~grey]
        late = shown[(shown["condition"] == name) & grey]
        if len(late):
            lines.append(curve_line(late.drop(columns="fit"), "", look, "grey"))
        if len(rows):
            lines.append(curve_line(rows, name, look))
    keys = []
    floor = None
    if summary.floor is not None:
        edges = np.append(summary.floor.lower, summary.floor.upper[-1]).astype(float)
        floor = edges, summary.floor.limit
        if np.isfinite(summary.floor.limit).any():
            highest = np.nanmax(summary.floor.limit)
            keys.append(("floor", f"noise floor, at most {highest:.1g} nats"))
    if grey.any():
        keys.append(("grey", "less far than near text"))
    context = headline(summary)
    marked = interval(context) if context is not None else None
    if marked is not None and context is not None:
        at = f"{context.condition} at {spaced(context.tolerance)}"
        keys.append(("answer", f"effective context, {at}: {short(context)}"))
    chart = Chart(
        "Delta against distance",
        distance_scale(float(shown["distance_to"].max())),
        delta_scale(shown[["delta", "high"]].to_numpy(float), threshold_of(summary)),
        lines,
        [Rule(value, text) for value, text in epsilons(summary).items()],
        [marked] if marked else [],
        floor,
        keys,
    )
    usable = records(shown[~grey])
    share = f"{summary.analysis.confidence * 100:g} %"
    band = "simultaneous" if summary.analysis.simultaneous else "pointwise"
    how = (
        "Each line is the loss added when the text further back than the distance is changed in"
        " that way: the higher, the more the model needs it. Where a line drops below a dotted"
        f" tolerance, its mean delta is below it. Bands: {share} {band}"
        " interval over documents; hairlines: the never-rising fit that the answer is read from."
    )
    tables = [
        pivot(
            f"Delta (nats a token) by distance (tokens), with its {share} interval",
            usable,
            conditions,
            by="condition",
            cell=lambda row: ranged(row, "delta"),
        ),
        pivot(
            "Targets behind each bin, and the share that the far text helped",
            usable,
            conditions,
            by="condition",
            cell=lambda row: f"{int(row['targets']):,} ({percent(row['helped'])})",
        ),
    ]
    name = main_condition(summary) or conditions[0]
    rows = shown[(shown["condition"] == name) & ~grey].sort_values("distance_from")
    return Section("curve", "Loss by distance", _ends(name, rows), [figure(chart, how, *tables)])


def _ends(name: str, rows: pd.DataFrame) -> str:
    """The first and the last delta of a curve in words."""
    if rows.empty:
        return f"{name}: every distance has less far than near text."
    first, last = records(rows.iloc[[0, -1]])
    return (
        f"Under {name} a token loses {decimals(first['delta'])} nats at distance {between(first)}"
        f" and {ranged(last, 'delta')} nats at {between(last)}."
    )


def interval(context: EffectiveContext) -> Interval | None:
    """The mark of an answer on the line of its tolerance, ``None`` if it is unresolved."""
    if context.kind == "unresolved" or context.epsilon is None:
        return None
    return Interval(
        context.epsilon,
        float(context.reach if context.lower is None else context.lower),
        float(context.reach if context.upper is None else context.upper),
        None if context.estimate is None else float(context.estimate),
        context.upper is None,
        f"{context.condition}, {context.tolerance}: {short(context)}",
    )
