"""Curves of several runs: over one another, a panel a data set, and the difference of two."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from probe.analysis.fit import in_order
from probe.analysis.open_run import OpenRun
from probe.errors import UsageError
from probe.findings.answer import usable
from probe.findings.base import CONDITION, Drawn, Option, Plot, only
from probe.findings.chart import (
    THRESHOLD,
    Chart,
    EmptyChartError,
    Rule,
    Series,
    delta_axis,
    distance_axis,
    linear_axis,
)
from probe.findings.compare.comparison import compare
from probe.findings.compare.differences import SHOWN
from probe.findings.compare.matched import main_condition, row_names
from probe.findings.curve import curve_series, marked_answer, marks, overlay, threshold_of
from probe.findings.table import pivot, ranged, records
from probe.results.folder import unique_labels
from probe.results.tolerance import spaced
from probe.text import suggestion

LINEAR = 10 * THRESHOLD
"""Differences that are all smaller than this are drawn to a linear scale."""
UNIT = Option(
    "--unit",
    "unit",
    "compare: what distances are counted in; default: tokens, if both runs have the same.",
    choices=list(SHOWN),
)


def curves_chart(runs: Sequence[OpenRun], *, answered: bool = False) -> Chart | None:
    """The curves of the runs that have lengths over one another, ``None`` where no run has.

    Args:
        runs: The runs.
        answered: Whether each has one line, under the condition of its answer.
    """
    drawn = [run for run in runs if run.contexts]  # other protocols have no curve of lengths
    if not drawn:
        return None
    chart = overlay(drawn, answered=answered)
    named = [series.name for series in chart.series if series.name]
    labels = [f"{label}: " for label in unique_labels([run.folder for run in drawn])]
    rows = pd.concat(
        [
            run.curve.assign(series=label + run.curve["condition"].astype(str))
            for label, run in zip(labels if len(drawn) > 1 else [""], drawn, strict=True)
        ]
    )
    rows = rows[~rows["grey"].astype(bool)]
    units = " or ".join(dict.fromkeys(run.unit for run in drawn))
    numbers = pivot(
        f"Delta (nats per token) by distance ({units})",
        records(rows[rows["series"].isin(named)]),
        named,
        by="series",
        cell=lambda row: ranged(row, "delta"),
    )
    how = (
        f"One line a run{', under the condition of its answer' if answered else ' and condition'};"
        " diamonds are effective contexts. Runs of different text or tokenizer are not paired:"
        " probe compare gives the difference with its interval."
    )
    return replace(chart, how=how, tables=[numbers], file="curves")


def overlays(runs: Sequence[OpenRun]) -> list[Chart]:
    """One line a run for the page, every condition for the figure beside it."""
    whole = curves_chart(runs)
    if whole is None:
        return []
    answers = curves_chart(runs, answered=True) or whole
    return [replace(answers, file=""), replace(whole, on_page=False)]


def panels_plot(runs: Sequence[OpenRun], *, condition: str | None = None) -> Drawn:
    """The curves of any number of runs, a panel a data set, for `probe plot`.

    Args:
        runs: The runs.
        condition: See :func:`panels`.
    """
    yield "", panels(runs, condition)


PANELS = Plot("matrix", panels_plot, None, [CONDITION])


def panels(runs: Sequence[OpenRun], condition: str | None = None) -> list[Chart]:
    """A chart for each data set, with axes, colours and names of all.

    Args:
        runs: The runs.
        condition: The condition of every line; by default truncate, or what most runs have.

    Raises:
        EmptyChartError: If no run has a curve under it.
        UsageError: If a condition is asked for that no run has.
    """
    known = dict.fromkeys(one for run in runs for one in run.curve_conditions)
    if condition is not None and condition not in known:
        hint = suggestion(condition, known, f"allowed: {', '.join(known) or 'none'}")
        raise UsageError(f"condition '{condition}' was not found{hint}")
    asked = condition or main_condition(runs)
    names = dict(zip(runs, row_names(runs), strict=True))
    rows = {run: usable(run, asked) for run in runs if asked in run.curve_conditions}
    if not rows:
        raise EmptyChartError("no run with a curve to draw")
    looks = {name: look for look, name in enumerate(dict.fromkeys(names[run] for run in rows))}
    threshold = min(map(threshold_of, rows))
    values = pd.concat(rows.values())["fit"].to_numpy(np.float64)
    # A line that falls far below 0 says no more than one that falls below it: it is cut.
    y = delta_axis(np.maximum(values, -3 * threshold), threshold)
    x = distance_axis(max(float(own["distance_to"].max()) for own in rows.values()))
    charts: list[Chart] = []
    named: set[str] = set()
    for data in dict.fromkeys(run.data for run in rows):
        of_data = [run for run in rows if run.data == data]
        lines = [_line(rows[run], names[run], looks[names[run]]) for run in of_data]
        # Each model looks the same in every panel, and is named in the first that has it.
        series = [replace(one, name="" if one.name in named else one.name) for one in lines]
        named |= {names[run] for run in of_data}
        answers = [marked_answer(run, asked) for run in of_data]
        drawn = marks(answers, [looks[names[run]] for run in of_data])
        rules = {one.epsilon: spaced(one.tolerance) for one in answers if one and one.epsilon}
        charts.append(
            Chart(
                f"Delta under {asked}",
                x,
                y,
                series,
                [Rule(at, text) for at, text in rules.items()],
                drawn,
                legend=[] if charts or not drawn else [("answer", "effective context")],
                how=(
                    "A panel a data set, a line a model, all to one scale: the loss added when the"
                    " text further away than the distance is changed, as the non-increasing"
                    " (isotonic) fit that effective contexts are read from."
                ),
                heading=[f"{data}: {asked}"],
            )
        )
    return charts


def _line(rows: pd.DataFrame, name: str, look: int) -> Series:
    """The fit of a curve alone: the bands of several models would hide one another."""
    line = curve_series(rows, name, look, "fit")
    return replace(line, low=None, high=None, fit=None)


def difference_plot(
    runs: Sequence[OpenRun], *, condition: str | None = None, unit: str | None = None
) -> Drawn:
    """The difference of delta between two runs by distance, for `probe plot`.

    Args:
        runs: Both runs.
        condition: Only this condition.
        unit: What distances are counted in, ``tokens`` or ``bytes``; without, tokens where both
            runs have the same.

    Raises:
        EmptyChartError: If there is no difference in this unit.
        UsageError: If not both runs have the condition.
    """
    comparison = compare(*runs)
    rows = only(comparison.curve, "condition", condition, "condition")
    if unit is None:
        unit = "tokens" if (rows["unit"] == "tokens").any() else "bytes"
    labels = comparison.a, comparison.b
    heading = [f"{label}: {what}" for label, what in zip(labels, comparison.about, strict=True)]
    yield "", difference_chart(rows, labels, unit, heading, comparison.told_in(unit))


DIFFERENCE = Plot("compare", difference_plot, 2, [CONDITION, UNIT])


def difference_chart(
    rows: pd.DataFrame,
    labels: tuple[str, str] = ("A", "B"),
    unit: str = "tokens",
    heading: Sequence[str] = (),
    told_in: str = "",
) -> Chart:
    """The difference of delta between two runs, one line a condition, with pointwise bands.

    Args:
        rows: The difference of the second run and the first, columns ``condition, unit,
            distance_from, distance_to, difference, low, high``.
        labels: The names of the first run and of the second.
        unit: What distances are counted in, ``tokens`` or ``bytes``.
        heading: Lines above it that say what the runs are.
        told_in: The unit in the words of a reader, by default the unit.

    Raises:
        EmptyChartError: If no row has this unit.
        ValueError: If *unit* is neither.
    """
    if unit not in SHOWN:
        raise ValueError(f"unit is {unit!r}; allowed: {', '.join(SHOWN)}")
    rows = rows[rows["unit"] == unit].sort_values("distance_from", kind="stable")
    if rows.empty:
        raise EmptyChartError(f"no difference by distance in {unit} to draw")
    title = f"{labels[1]} − {labels[0]}"
    values = rows[["difference", "low", "high"]].to_numpy(float)
    label = f"difference of delta ({SHOWN[unit]})"
    small = not (abs(values) > LINEAR).any()  # NaN where there is no interval
    return Chart(
        title,
        distance_axis(
            float(rows["distance_to"].max()),
            label=f"distance ({told_in or unit})",
            low=float(rows["distance_from"].min()),
        ),
        linear_axis(values, label, include=[0]) if small else delta_axis(values, label=label),
        [
            curve_series(rows[rows["condition"] == name], name, look, "difference")
            for look, name in enumerate(in_order(rows["condition"].astype(str)))
        ],
        how=(
            "Each line is the delta of the second run less that of the first: above 0 the second"
            " run needs the text further back more."
        ),
        heading=[*heading, title],
    )
