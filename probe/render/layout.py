"""What both back ends agree on: entries of the legend, labels that have room, places at edges."""

from collections.abc import Sequence

import numpy as np

from probe.findings.chart import Axis, Chart, Floats, Rule, Series

Entry = tuple[Series | Rule | str, str]
"""What an entry of the legend samples (a series, a rule, a word of ``Chart.legend``), its text."""

LABEL, NAME = 56, 24
"""Characters of the label of an axis, and of a name at it."""
GAP = 0.05
"""Labels of rules that would be nearer to one another are left out, as a share of the axis."""


def legend_entries(chart: Chart) -> list[Entry]:
    """The entries of a chart's legend: named series, named rules, then what else it lists."""
    series: list[Entry] = [(each, each.name) for each in chart.series if each.name]
    rules: list[Entry] = [(rule, rule.label) for rule in chart.rules if rule.named]
    return [*series, *rules, *chart.legend]


def value_axis(chart: Chart) -> Axis:
    """The axis that rules and limits belong to."""
    return chart.x if chart.horizontal else chart.y


def zero_line(chart: Chart) -> bool:
    """Whether 0 lies inside the axis of values, where a thin line then stands."""
    axis = value_axis(chart)
    signed = axis.kind in ("delta", "linear") and axis.low < 0 < axis.high
    return signed and not axis.names and chart.cells is None


def rules_inside(chart: Chart) -> list[tuple[Rule, str]]:
    """The rules that lie inside the axis, from its start on, each with its label if it has room."""
    axis = value_axis(chart)
    inside = [rule for rule in chart.rules if axis.low < rule.at < axis.high]
    rules, last = [], -1.0
    for rule in sorted(inside, key=lambda rule: rule.at):
        place = float(axis.at(rule.at))
        shown = not rule.named and place - last >= GAP
        rules.append((rule, rule.label if shown else ""))
        last = place if shown and rule.label else last
    return rules


def coordinates(
    chart: Chart, series: Series, edges: tuple[float, float] | None = None
) -> tuple[Floats, Floats]:
    """Places of a series; what has no answer or lies beyond stands at an edge where it is NaN.

    Args:
        chart: Its chart.
        series: The series.
        edges: Where the axis of values begins and ends, if not where the chart says.
    """
    x, y = (np.asarray(values, dtype=np.float64) for values in (series.x, series.y))
    if series.role not in ("unresolved", "beyond"):
        return x, y
    axis = value_axis(chart)
    low, high = edges or (axis.low, axis.high)
    edge = low if series.role == "unresolved" else high
    if chart.horizontal:
        return np.where(np.isnan(x), edge, x), y
    return x, np.where(np.isnan(y), edge, y)


def marked(series: Series) -> slice:
    """Which points of a series have a mark: about a dozen of many where nothing else is asked."""
    if series.points is False:
        return slice(0)
    every = series.points or series.barred or not series.joined or series.role != "series"
    return slice(None, None, 1 if every else max(1, len(series.x) // 12))


def labels(axis: Axis, texts: Sequence[str], length: float, sizes: Sequence[float]) -> list[str]:
    """The text at each tick of an axis, empty where it would touch one that matters more.

    0 comes first, then powers of ten, then the others from the end of the axis on; names from its
    start.

    Args:
        axis: The axis.
        texts: The text of each tick.
        length: How long it is drawn.
        sizes: How much of it the text of each tick takes, in the same unit.

    Returns:
        One text a tick.
    """
    places = axis.at(axis.ticks) * length
    order = range(len(texts)) if axis.names else range(len(texts) - 1, -1, -1)
    fitting: list[int] = []
    for tick in order if axis.names else sorted(order, key=lambda tick: _rank(axis.ticks[tick])):
        apart = (abs(places[tick] - places[other]) for other in fitting)
        needed = ((sizes[tick] + sizes[other]) / 2 for other in fitting)
        if all(space >= need for space, need in zip(apart, needed, strict=True)):
            fitting.append(tick)
    return [text if tick in fitting else "" for tick, text in enumerate(texts)]


def _rank(value: float) -> int:
    """0 for zero, 1 for powers of ten, else 2."""
    if value == 0:
        return 0
    power = float(np.log10(abs(value)))
    return 1 if abs(power - round(power)) < 1e-9 else 2


def names_below(names: Sequence[str], room: float, character: float) -> tuple[list[str], bool]:
    """Names below an axis: on a line, else broken behind the dash of a range, else upright.

    Args:
        names: The names.
        room: How much of the axis each has.
        character: How wide a character is, in the same unit.

    Returns:
        The names as they are written, and whether they stand upright.
    """
    if widest(names) * character <= room:
        return list(names), False
    lines = [name.replace("–", "–\n", 1) for name in names]
    upright = widest(lines) * character > room
    return (list(names) if upright else lines), upright


def name_room(axis: Axis, length: float) -> float:
    """How much of an axis of this length each of its names has."""
    places = np.sort(axis.at(axis.ticks)) * length
    return float(np.diff(places).min(initial=length))


def widest(names: Sequence[str]) -> int:
    """Characters of the longest line of any name."""
    return max((len(line) for name in names for line in name.split("\n")), default=0)
