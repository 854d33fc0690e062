"""Charts as inline SVG: lines with bands over one pair of axes; colours come from the style."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from probe.render.markup import visible
from probe.report.svg import Floats, Scale, element, marker, polygon, polyline

WIDTH, HEIGHT = 460.0, 290.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 40.0, 10.0, 42.0


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a chart.

    Args:
        name: What the legend calls it; empty keeps it out of the legend.
        x: Places along the axis, shape ``(n,)``.
        y: Values, same shape; NaN breaks the line.
        look: Number of its colour, dashes and marks.
        low: Lower limits of its band.
        high: Upper limits of its band.
        fit: Values of a hairline beside it.
        told: What each point says when it is pointed at.
        class_: Classes of the style sheet beside those of the look, such as ``grey``.
        points: Whether points are marked; ``None`` marks some of many.
        apart: Whether each point stands for itself: limits are bars, and no line joins them.
    """

    name: str
    x: Floats
    y: Floats
    look: int = 0
    low: Floats | None = None
    high: Floats | None = None
    fit: Floats | None = None
    told: Sequence[str] = ()
    class_: str = ""
    points: bool | None = None
    apart: bool = False


@dataclass(frozen=True)
class Rule:
    """A thin line across a chart at a height, with its label at the right edge."""

    y: float
    label: str = ""
    class_: str = "tolerance"


@dataclass(frozen=True)
class Interval:
    """An answer on its line: a diamond with a bar, an arrow where it ends beyond the axis."""

    y: float
    low: float
    high: float
    at: float | None
    beyond: bool
    told: str
    class_: str = ""


@dataclass(frozen=True)
class Chart:
    """What is drawn; :func:`draw` makes it SVG, :func:`legend` names its lines."""

    title: str
    x: Scale
    y: Scale
    lines: Sequence[Line]
    rules: Sequence[Rule] = ()
    intervals: Sequence[Interval] = ()
    floor: tuple[Floats, Floats] | None = None
    keys: Sequence[tuple[str, str]] = field(default=())


def draw(chart: Chart) -> Markup:
    """The chart as an SVG element that takes the width it is given."""
    parts = [*_floor(chart), *_axes(chart), *_rules(chart)]
    parts += [part for line in chart.lines for part in _line(chart, line)]
    parts += [part for interval in chart.intervals for part in _interval(chart, interval)]
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=visible(chart.title),
        class_="chart",
    )


def legend(chart: Chart) -> list[tuple[Markup, str]]:
    """A sample and a name for each line, then for what else is drawn."""
    entries = [(_sample(*_drawn(line)), line.name) for line in chart.lines if line.name]
    samples = {
        "floor": element("rect", x=1, y=2, width=26, height=8, class_="floor"),
        "grey": element("line", x1=1, y1=6, x2=27, y2=6, class_="line grey"),
        "answer": element("line", x1=1, y1=6, x2=27, y2=6, class_="bar")
        + element("path", d="M14 2L18 6L14 10L10 6Z", class_="answer"),
    }
    return entries + [(_sample(samples[kind]), name) for kind, name in chart.keys]


def _drawn(line: Line) -> list[Markup]:
    """What a sample shows of a line: its stroke and mark, or its band where that is all."""
    look = f"s{line.look} {line.class_}".strip()
    if not np.isfinite(line.y).any():
        return [element("rect", x=1, y=1, width=26, height=10, class_=f"band {look}")]
    stroke = element("line", x1=1, y1=6, x2=27, y2=6, class_=f"line {look}")
    mark = marker(line.look, 14, 6, class_=line.class_)
    if line.apart:
        return [mark]
    return [stroke] if line.points is False else [stroke, mark]


def _sample(*children: Markup) -> Markup:
    return element("svg", *children, viewBox="0 0 28 12", class_="sample", aria_hidden="true")


def _x(chart: Chart, values: object) -> Floats:
    return LEFT + chart.x.at(np.asarray(values, dtype=np.float64)) * (WIDTH - LEFT - RIGHT)


def _y(chart: Chart, values: object) -> Floats:
    share = chart.y.at(np.asarray(values, dtype=np.float64))
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _axes(chart: Chart) -> list[Markup]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick, place in zip(chart.x.ticks, _x(chart, chart.x.ticks), strict=True):
        parts.append(element("line", x1=place, x2=place, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(
            element("text", chart.x.name(tick), x=place, y=bottom + 16, text_anchor="middle")
        )
    for tick, place in zip(chart.y.ticks, _y(chart, chart.y.ticks), strict=True):
        kind = "grid zero" if tick == 0 else "grid"
        parts.append(element("line", x1=LEFT, x2=right, y1=place, y2=place, class_=kind))
        parts.append(
            element("text", chart.y.name(tick), x=LEFT - 6, y=place + 3.5, text_anchor="end")
        )
    parts.append(element("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    middle = (LEFT + right) / 2
    parts.append(
        element("text", chart.x.label, x=middle, y=HEIGHT - 6, text_anchor="middle", class_="label")
    )
    turned = f"translate(11 {(TOP + bottom) / 2:.1f}) rotate(-90)"
    parts.append(
        element("text", chart.y.label, transform=turned, text_anchor="middle", class_="label")
    )
    return parts


def _rules(chart: Chart) -> list[Markup]:
    parts, taken = [], HEIGHT
    for rule in sorted(chart.rules, key=lambda rule: rule.y):
        if not chart.y.low < rule.y < chart.y.high:
            continue
        place = float(_y(chart, rule.y))
        parts.append(
            element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=place, y2=place, class_=rule.class_)
        )
        if taken - place >= 10:  # labels that would overlap are left to the table
            parts.append(element("text", rule.label, x=WIDTH - RIGHT + 11, y=place + 3.5))
            taken = place
    return parts


def _floor(chart: Chart) -> list[Markup]:
    """The noise floor: a strip around 0, stepwise over its edges."""
    if chart.floor is None:
        return []
    edges, limits = chart.floor
    parts = []
    for start, end, limit in zip(edges[:-1], edges[1:], limits, strict=True):
        if np.isfinite(limit):
            left, right = _x(chart, [start, end])
            top, bottom = _y(chart, [limit, -limit])
            height = max(float(bottom - top), 1.0)
            middle = float(top + bottom) / 2
            parts.append(
                element(
                    "rect",
                    x=float(left),
                    y=middle - height / 2,
                    width=float(right - left),
                    height=height,
                    class_="floor",
                )
            )
    return parts


def _line(chart: Chart, line: Line) -> list[Markup]:
    x, y = _x(chart, line.x), _y(chart, line.y)
    look = f"s{line.look} {line.class_}".strip()
    parts = []
    if line.low is not None and line.high is not None:
        low, high = _y(chart, line.low), _y(chart, line.high)
        known = np.isfinite(low) & np.isfinite(high)
        if line.apart:
            parts += [
                element("line", x1=at, x2=at, y1=top, y2=bottom, class_=f"line {look} limits")
                for at, top, bottom in zip(x[known], high[known], low[known], strict=True)
            ]
        for run in [] if line.apart else _runs(known):
            upper = list(zip(x[run], high[run], strict=True))
            lower = list(zip(x[run], low[run], strict=True))
            parts.append(polygon([*upper, *reversed(lower)], f"band {look}"))
    if line.fit is not None:
        fit = _y(chart, line.fit)
        for run in _runs(np.isfinite(fit)):
            parts.append(polyline(zip(x[run], fit[run], strict=True), f"fit {look}"))
    for run in [] if line.apart else _runs(np.isfinite(y)):
        parts.append(polyline(zip(x[run], y[run], strict=True), f"line {look}"))
    if line.points is False:
        return parts
    every = max(1, len(x) // 14) if line.points is None else 1
    for index in range(0, len(x), every):
        if np.isfinite(y[index]):
            told = line.told[index] if len(line.told) else None
            parts.append(marker(line.look, x[index], y[index], title=told, class_=line.class_))
    return parts


def _interval(chart: Chart, interval: Interval) -> list[Markup]:
    start, end = _x(chart, [interval.low, interval.high])
    y = float(_y(chart, interval.y))
    look = interval.class_
    title = element("title", interval.told)
    parts = [
        element(
            "line", title, x1=float(start), x2=float(end), y1=y, y2=y, class_=f"bar {look}".strip()
        )
    ]
    if interval.beyond:
        arrow = f"M{end:.1f} {y - 5:.1f}L{end + 8:.1f} {y:.1f}L{end:.1f} {y + 5:.1f}Z"
        parts.append(element("path", title, d=arrow, class_=f"arrow {look}".strip()))
    if interval.at is not None:
        x = float(_x(chart, interval.at))
        diamond = (
            f"M{x:.1f} {y - 5:.1f}L{x + 5:.1f} {y:.1f}L{x:.1f} {y + 5:.1f}L{x - 5:.1f} {y:.1f}Z"
        )
        parts.append(element("path", title, d=diamond, class_=f"answer {look}".strip()))
    return parts


def _runs(known: NDArray[np.bool_]) -> list[slice]:
    """Stretches of neighbours that are all known."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(np.int8), [0]])))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
