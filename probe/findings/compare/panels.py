"""Small multiples: a panel a data set, a line a model, all to one scale."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from probe.analysis.effective import EffectiveContext
from probe.analysis.open_run import OpenRun
from probe.errors import UsageError
from probe.findings.base import CONDITION, Drawn, Plot
from probe.findings.chart import Chart, EmptyChartError, Rule, Series, delta_axis, distance_axis
from probe.findings.compare.pivot import main_condition, row_names
from probe.findings.curve import curve_series, marks, threshold_of
from probe.results.tolerance import spaced
from probe.text import suggestion


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
    rows = {run: _rows(run, asked) for run in runs if asked in run.curve_conditions}
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
        answers = [_answer(run, asked) for run in of_data]
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


def _rows(run: OpenRun, condition: str) -> pd.DataFrame:
    curve = run.curve
    return curve[(curve["condition"] == condition) & ~curve["grey"].astype(bool)]


def _answer(run: OpenRun, condition: str) -> EffectiveContext | None:
    answer = run.headline(condition)
    return answer if answer is not None and answer.condition == condition else None
