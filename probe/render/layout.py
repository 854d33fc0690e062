"""What both back ends agree on: entries of the legend, labels that have room, places at edges."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from probe.findings.chart import Axis, Chart, Floats, Interval, Rule, Series

Entry = tuple[Series | Rule | str, str]
"""What an entry of the legend samples (a series, a rule, a word of ``Chart.legend``), its text."""

LABEL, NAME = 56, 24
"""Characters of the label of an axis, and of a name at it."""
GAP = 0.05
"""What the label of a rule takes of the axis."""
GRID, MARK, EDGE = 100, 2, 1
"""Steps of either axis in which a place for the legend is looked for; those around what is drawn,
and at the edge of the axes."""


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


def rules_inside(chart: Chart, gap: float = GAP) -> list[tuple[Rule, str]]:
    """The rules that lie inside the axis, from its start on, each with its label if it has room.

    Args:
        chart: The chart.
        gap: Share of the axis that a label takes.
    """
    axis = value_axis(chart)
    inside = [rule for rule in chart.rules if axis.low < rule.at < axis.high]
    rules, last = [], -1.0
    for rule in sorted(inside, key=lambda rule: rule.at):
        place = float(axis.at(rule.at))
        shown = not rule.named and place - last >= gap
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


def label_side(chart: Chart, interval: Interval) -> Literal["left", "right", "above"]:
    """Where the label of an answer has room: before its bar the curve lies above it."""
    start, end = (float(place) for place in chart.x.at([interval.low, interval.high]))
    if start > _label_width(interval):
        return "left"
    return "above" if interval.beyond or end > 1 - _label_width(interval) else "right"


def _label_width(interval: Interval) -> float:
    """What the label of an answer takes of the axis, at most."""
    return 0.04 + 0.03 * len(interval.label)


def free_place(chart: Chart, width: float, height: float) -> tuple[float, float] | None:
    """Where a legend inside the axes hides nothing: a corner if there is one, else a side.

    Args:
        chart: The chart.
        width: Width of the legend, as a share of the axes.
        height: Its height, likewise.

    Returns:
        Where its lower left corner stands, in shares of the axes, the same for equal charts;
        ``None`` where it has no room, and in heat maps. Dotted rules are hidden only where there
        is no place without one.
    """
    wide, high = (int(np.ceil(size * GRID)) for size in (width, height))
    if chart.cells is not None or max(wide, high) > GRID - 2 * EDGE:
        return None
    used, rules = _raster(_shapes(chart)), _raster(_across(chart, rules_inside(chart)))
    left, right, bottom, top = EDGE, GRID - EDGE - wide, EDGE, GRID - EDGE - high
    corners = [(right, top), (left, top), (left, bottom), (right, bottom)]
    sides = [(x, y) for y in range(top, bottom - 1, -1) for x in (right, left)]
    for hidden in (used | rules, used):
        for x, y in [*corners, *sides]:
            if not hidden[y : y + high, x : x + wide].any():
                return x / GRID, y / GRID
    return None


Shape = tuple[Floats, Floats]
"""Lines in shares of the axes, each as far as the next NaN."""


def _shapes(chart: Chart) -> Iterator[Shape]:
    """All that a legend must not hide."""
    for series in chart.series:
        yield from _series_shapes(chart, series)
    if zero_line(chart):
        yield from _across(chart, [(Rule(0), "")])
    for interval in chart.intervals:
        ends = chart.x.at([interval.low, interval.high])
        if interval.label:
            side, width = label_side(chart, interval), _label_width(interval)
            before, behind = float(side == "left") * width, float(side == "right") * width
            ends = ends + np.array([-before, behind])
        for above in (-0.03, 0, 0.03, 0.06):
            yield ends, np.repeat(chart.y.at(interval.y) + above + 0.04 * interval.lane, 2)
    if chart.floor is not None:
        limits = np.append(chart.floor.limits, chart.floor.limits[-1])
        for signed in (-limits, limits):
            yield chart.x.at(chart.floor.edges), chart.y.at(signed)


def _series_shapes(chart: Chart, series: Series) -> Iterator[Shape]:
    x, y = coordinates(chart, series)
    nothing = np.full(len(x), np.nan)
    across, up = chart.x.at(x), chart.y.at(y)
    if series.joined and series.fit is None:
        yield across, up
    else:
        yield np.column_stack([across, nothing]).ravel(), np.column_stack([up, nothing]).ravel()
    if series.fit is not None:
        yield chart.x.at(series.fit[0]), chart.y.at(series.fit[1])
    if series.low is not None and series.high is not None:
        axis, along = value_axis(chart), up if chart.horizontal else across
        ends = [axis.at(series.low), axis.at(series.high)]
        places = np.column_stack([along, along, nothing]).ravel()
        values = np.column_stack([*ends, nothing]).ravel()
        yield (values, places) if chart.horizontal else (places, values)


def _across(chart: Chart, rules: Iterable[tuple[Rule, str]]) -> Iterator[Shape]:
    for rule, _ in rules:
        whole, level = np.array([0.0, 1.0]), np.repeat(value_axis(chart).at(rule.at), 2)
        yield (level, whole) if chart.horizontal else (whole, level)


def _raster(shapes: Iterable[Shape]) -> NDArray[np.bool_]:
    """The parts of the axes that lines go through, and the size of a mark around them."""
    used = np.zeros((GRID, GRID), dtype=bool)
    steps = np.linspace(0, 1, 2 * GRID)
    for shape in shapes:
        column, row = (
            np.append(ends[:-1, None] + np.diff(ends)[:, None] * steps, ends) * GRID
            for ends in shape
        )
        known = np.isfinite(column) & np.isfinite(row)
        inside = (np.clip(places[known], 0, GRID - 1).astype(int) for places in (row, column))
        used[tuple(inside)] = True
    return np.asarray(binary_dilation(used, np.ones((3, 3), dtype=bool), MARK))
