"""The answer: how far a run reads under each condition, and the curve of delta by distance."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from probe.analysis.effective import EffectiveContext
from probe.analysis.fit import in_order
from probe.analysis.floor import NoiseFloor, without_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import in_words
from probe.findings.answer import (
    answer_table,
    basis,
    caveats,
    counts,
    sentence,
    short,
    summary_record,
    usable,
)
from probe.findings.base import CONDITION, Drawn, Files, Finding, Plot, only, register
from probe.findings.chart import (
    THRESHOLD,
    Chart,
    EmptyChartError,
    Interval,
    Rule,
    Series,
    Strip,
    delta_axis,
    distance_axis,
)
from probe.findings.table import (
    between,
    decimals,
    middles,
    percent,
    pivot,
    ranged,
    records,
)
from probe.results.folder import unique_labels
from probe.results.tolerance import spaced


def curve_plot(runs: Sequence[OpenRun], *, condition: str | None = None) -> Drawn:
    """Delta by distance of one run, or of several over one another, for `probe plot`.

    Args:
        runs: The runs.
        condition: Only this condition.

    Raises:
        EmptyChartError: If none has a curve.
    """
    yield "", overlay(runs, condition=condition)


@register("curve", order=0, level="answer", plots=[Plot("curve", curve_plot, None, [CONDITION])])
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """The answer of a run with lengths, and the curve of one that another finding answers.

    Args:
        run: The open run.
        others: Not needed.
    """
    files: Files = {"summary.json": summary_record(run), "curve.csv": run.curve}
    names = run.curve_conditions if run.has_length else []
    charts = [chart(run)] if names else []
    nothing = Finding("curve", "Loss by distance", files=files)
    if not run.is_answered_by("curve"):
        return replace(
            nothing,
            sentence=_ends(run, run.main_condition or names[0]) if names else "",
            charts=[replace(each, file="") for each in charts],  # the answer has its own figure
            level="brief",
        )
    if not run.contexts and run.patterns:  # attention alone was limited
        return nothing
    return Finding(
        "answer",
        "The answer",
        sentence(run),
        basis(run),
        tables=[answer_table(run)] if run.contexts else [],
        charts=charts,
        caveats=caveats(run),
        files=files,
    )


def epsilons(run: OpenRun) -> dict[float, str]:
    """Tolerances (nats) that are the same for every curve, with their text."""
    return {
        context.epsilon: spaced(context.tolerance)
        for context in run.contexts
        if context.epsilon is not None and not context.tolerance.endswith("delta0")
    }


def threshold_of(run: OpenRun) -> float:
    """The smallest tolerance (nats), where axes of delta turn logarithmic."""
    return min(epsilons(run), default=THRESHOLD)


def chart(run: OpenRun) -> Chart:
    """Delta by distance under every condition, with the answer on the line of its tolerance."""
    names = run.curve_conditions
    usable = records(without_noise(run.curve[~run.curve["grey"].astype(bool)]))
    share = f"{run.analysis.confidence * 100:g} %"
    band = "simultaneous" if run.analysis.simultaneous else "pointwise"
    how = (
        "Each line is the loss added when the text further back than the distance is changed in"
        " that way: the higher, the more the model needs it. Where a line drops below a dotted"
        f" tolerance, its mean delta is below it. Bands: {share} {band}"
        " interval over documents; hairlines: the non-increasing (isotonic) fit that the answer is"
        " read from."
    )
    tables = [
        pivot(
            f"Delta (nats per token) by distance (tokens), with its {share} interval",
            usable,
            names,
            by="condition",
            cell=lambda row: ranged(row, "delta"),
        ),
        pivot(
            "Targets behind each bin, and the share that the far text helped",
            usable,
            names,
            by="condition",
            cell=lambda row: f"{int(row['targets']):,} ({percent(row['helped'])})",
        ),
    ]
    return replace(overlay([run]), how=how, tables=tables)


def overlay(
    runs: Sequence[OpenRun], *, condition: str | None = None, answered: bool = False
) -> Chart:
    """Delta by distance of one run, one line a condition, or of several over one another.

    Of several runs the colour tells the run, dash and mark the condition.

    Args:
        runs: The runs.
        condition: Only this condition.
        answered: Whether each run is drawn under the condition of its answer alone.

    Raises:
        EmptyChartError: If none has a curve.
    """
    labels = unique_labels([run.folder for run in runs])
    headlines = [run.headline() if answered else None for run in runs]
    of_each = [condition if found is None else found.condition for found in headlines]
    curves = [
        without_noise(only(run.curve, "condition", name, "--condition"))
        for run, name in zip(runs, of_each, strict=True)
    ]
    names = in_order(str(name) for rows in curves for name in rows["condition"].unique())
    if not names:
        if runs and all(run.patterns for run in runs):
            raise EmptyChartError("it limits attention alone; allowed: --kind tradeoff, heads")
        raise EmptyChartError("no run with a curve to draw")
    series = [
        line
        for number, (label, rows) in enumerate(zip(labels, curves, strict=True))
        for line in _lines(rows, names, label if len(runs) > 1 else None, number)
    ]
    shown = pd.concat(curves)
    rules = {value: text for run in runs for value, text in epsilons(run).items()}
    floors = [floor for run in runs if (floor := run.floor) is not None]
    marked = [_marked(run, condition) for run in runs]
    marks = map(mark, marked, [None] if len(runs) == 1 else range(len(runs)))
    threshold = min(rules, default=THRESHOLD)
    # Where the first bins are far, as on a grid, the near ones are no empty half of the picture.
    nearest = float(shown["distance_from"].min())
    # A band that reaches far below 0 says no more than one that reaches below it: it is cut.
    lows = np.maximum(shown["low"].to_numpy(np.float64), -3 * threshold)
    return Chart(
        "Delta against distance" + ("" if len(runs) == 1 else ", by run"),
        distance_axis(float(shown["distance_to"].max()), low=nearest if nearest > 1 else 0),
        delta_axis([*lows, *shown["delta"], *shown["high"]], threshold),
        series,
        [Rule(value, text) for value, text in rules.items()],
        [drawn for drawn in marks if drawn is not None],
        _strip(floors[0]) if floors else None,
        legend=_legend(marked, floors, bool(shown["grey"].any())),
        heading=_heading(runs, labels),
        file="curve" if len(runs) == 1 and runs[0].contexts else "",
    )


def look_of(run: OpenRun, condition: str) -> int:
    """Number of the look that a condition has in every chart of a run: its place in the curve's."""
    names = run.curve_conditions
    return names.index(condition) if condition in names else len(names)


def curve_series(
    rows: pd.DataFrame, name: str, look: int, value: str = "delta", **more: Any
) -> Series:
    """A line of one value over distance, with its limits and its fit where it has them.

    Args:
        rows: ``distance_from, distance_to`` and the column *value*, with or without ``low``,
            ``high`` and ``fit``.
        name: Its name in the legend.
        look: Number of its look.
        value: The column that is drawn.
        more: Other fields of the series.
    """
    low, high, fit = (
        rows[column].to_numpy(float) if column in rows else None
        for column in ("low", "high", "fit")
    )
    if fit is not None and np.isnan(fit).all():
        fit = None
    titles = [f"{name}, {between(row)}: {ranged(row, value)}" for row in records(rows)]
    fields: dict[str, Any] = {"low": low, "high": high, "fit": fit, "titles": titles} | more
    return Series(name, middles(rows), rows[value].to_numpy(float), look, **fields)


def group_series(rows: pd.DataFrame, group: str, places: Sequence[str]) -> list[Series]:
    """Marks with bars at the places of groups, those of several conditions side by side.

    Args:
        rows: ``condition, delta, low, high`` (nats per token) and the column *group*.
        group: The column that says where a row stands, which its title names.
        places: Values of that column, in the order of the axis.
    """
    names = in_order(rows["condition"].astype(str))
    series = []
    for look, name in enumerate(names):
        own = rows[rows["condition"] == name]
        shift = (look - (len(names) - 1) / 2) * 0.7 / len(names)
        at = pd.Index(places).get_indexer(pd.Index(own[group])).astype(np.float64) + shift
        titles = [f"{name}, {row[group]}: {in_words(row)}" for _, row in own.iterrows()]
        delta, low, high = own[["delta", "low", "high"]].to_numpy(float).T
        series.append(
            Series(name, at, delta, look, low, high, titles=titles, points=True, joined=False)
        )
    return series


def mark(context: EffectiveContext | None, look: int | None = None) -> Interval | None:
    """The mark of an answer on the line of its tolerance, ``None`` if it is unresolved."""
    if context is None or context.kind == "unresolved" or context.epsilon is None:
        return None
    return Interval(
        context.epsilon,
        float(context.reach if context.lower is None else context.lower),
        float(context.reach if context.upper is None else context.upper),
        None if context.estimate is None else float(context.estimate),
        context.upper is None,
        f"{context.condition}, {spaced(context.tolerance)}: {short(context)}",
        look,
    )


def _ends(run: OpenRun, name: str) -> str:
    """The first and the last delta of a curve in words."""
    rows = usable(run, name)
    if rows.empty:
        return f"{name}: every distance has less far than near text."
    first, last = records(rows.sort_values("distance_from").iloc[[0, -1]])
    return (
        f"Under {name} delta is {decimals(first['delta'])} nats per token at distance"
        f" {between(first)} and {ranged(last, 'delta')} at {between(last)}."
    )


def _lines(rows: pd.DataFrame, names: Sequence[str], run: str | None, number: int) -> list[Series]:
    """A series a condition, what never answers apart; of several runs the colour is the run's."""
    lines = []
    for look, name in enumerate(names):
        own = rows[rows["condition"] == name]
        grey = own["grey"].astype(bool)
        colour = None if run is None else number
        label = name if run is None else f"{run}: {name}"
        if grey.any():
            grey_line = curve_series(own[grey], label, look, role="grey", colour=colour)
            lines.append(replace(grey_line, name=""))  # one entry of the legend stands for all
        if not grey.all():
            lines.append(curve_series(own[~grey], label, look, colour=colour))
    return lines


def _marked(run: OpenRun, condition: str | None) -> EffectiveContext | None:
    """The answer that is drawn: the headline, or that of the one condition that is."""
    found = run.headline(condition or "truncate")
    return found if found is None or condition in (None, found.condition) else None


def _strip(floor: NoiseFloor) -> Strip:
    return Strip(np.append(floor.lower, floor.upper[-1]).astype(float), floor.limit)


def _legend(
    marked: Sequence[EffectiveContext | None], floors: Sequence[NoiseFloor], grey: bool
) -> list[tuple[str, str]]:
    """What the strip, what is grey and the diamond are."""
    entries = []
    limits = [limit for floor in floors for limit in floor.limit if np.isfinite(limit)]
    if limits:
        size = f"{max(limits):.1g}".replace("-", "−")
        entries.append(("floor", f"noise floor, at most {size} nats"))
    if grey:
        entries.append(("grey", "less far than near text"))
    first = marked[0]
    if first is not None and mark(first) is not None:
        at = f"{first.condition}, {spaced(first.tolerance)}: {short(first)}"
        tolerances = dict.fromkeys(spaced(one.tolerance) for one in marked if one is not None)
        several = f"effective context, {' or '.join(tolerances)}, by run"
        entries.append(("answer", at if len(marked) == 1 else several))
    return entries


def _heading(runs: Sequence[OpenRun], labels: Sequence[str]) -> list[str]:
    """Model, data and counts; what several runs have in common stands in the first lines."""
    told = ("model", "data")
    shared = [name for name in told if len({getattr(run, name) for run in runs}) == 1]
    lines = [str(getattr(runs[0], name)) for name in shared]
    if len(runs) == 1:
        return [*lines, ", ".join(counts(runs[0]))]
    for label, run in zip(labels, runs, strict=True):
        own = [str(getattr(run, what)) for what in told if what not in shared]
        lines.append(f"{label}: {', '.join([counts(run)[0], *own])}")
    return lines
