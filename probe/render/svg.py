"""Charts as inline SVG for the page; colours and dashes come from the page's style sheet."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from probe.findings.chart import Axis, Cells, Chart, Floats, Interval, Rule, Series
from probe.render.layout import LABEL, coordinates, label_side, legend_entries, marked
from probe.render.markup import element, joined, shortened, visible
from probe.render.svg_frame import LINE, RULE, TOP, WIDTH, Frame, axes, rule_class, rules

SHAPES = (
    "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0Z",
    "M-2.7 -2.7H2.7V2.7H-2.7Z",
    "M0 -3.4L3.3 2.6H-3.3Z",
    "M0 -3.7L3.7 0L0 3.7L-3.7 0Z",
    "M0 3.4L3.3 -2.6H-3.3Z",
    "M-1.2 -3.4H1.2V-1.2H3.4V1.2H1.2V3.4H-1.2V1.2H-3.4V-1.2H-1.2Z",
)
"""A mark for each look: what tells series apart without colour and dashes."""
CROSS = "M-2.8 -2.8L2.8 2.8M-2.8 2.8L2.8 -2.8"
DIAMOND = "M0 -5L5 0L0 5L-5 0Z"
ARROW = "M0 -5L8 0L0 5Z"
CAP, LANE = 5.0, 9.0
"""Half the height of the end of an answer's bar, and the height of a bar above another."""
TITLED = 2000
"""Cells of a heat map up to which each says its value when it is pointed at."""
SIZES = tuple(digit * 10.0**power for power in range(-9, 7) for digit in (1, 3))
"""Where steps of colour may begin; the style sheet has four of each sign around the middle."""


def draw(chart: Chart) -> Markup:
    """The chart as an SVG element that takes the width it is given.

    Args:
        chart: The chart; all text in it is made visible and escaped.

    Returns:
        The element, without inline styles; points and cells have titles.
    """
    frame = Frame(chart)
    parts = [*_cells(frame), *_floor(frame), *axes(frame), *rules(frame)]
    behind = sorted(chart.series, key=lambda series: series.role != "reference")
    parts += [part for series in behind for part in _series(frame, series)]
    parts += [part for interval in chart.intervals for part in _interval(frame, interval)]
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {WIDTH:g} {frame.height:g}",
        role="img",
        aria_label=visible(chart.title),
        class_="chart",
    )


def legend(chart: Chart) -> list[tuple[Markup, str]]:
    """A sample, drawn as the chart draws it, and a text for each entry of the legend."""
    box = {"viewBox": "0 0 28 12", "class_": "sample", "aria_hidden": "true"}
    return [
        (element("svg", *_sample(chart, what), **box), text) for what, text in legend_entries(chart)
    ]


def _sample(chart: Chart, what: Series | Rule | str) -> list[Markup]:
    if isinstance(what, Series):
        return _series_sample(what)
    if isinstance(what, Rule):
        return [_stroke(rule_class(what))]
    several = any(interval.look is not None for interval in chart.intervals)
    answer = " grey" if several else ""
    samples = {
        "floor": [element("rect", x=1, y=2, width=26, height=8, class_="floor")],
        "grey": [_mark(SHAPES[0], 14, 6, "point grey")],
        "answer": [_stroke(f"bar{answer}"), _mark(DIAMOND, 14, 6, f"answer{answer}")],
        "open answer": [_stroke(f"bar{answer}"), _mark(ARROW, 19, 6, f"arrow{answer}")],
        "dot": [element("circle", cx=14, cy=6, r=2.5, class_="dot")],
        "unresolved": [_mark(CROSS, 14, 6, "point unresolved")],
        "beyond": [_mark(SHAPES[2], 14, 6, "point beyond grey")],
    }
    return samples.get(what, [])


def _series_sample(series: Series) -> list[Markup]:
    """Its line and its mark, or its band where it has no line."""
    look = _classes(series)
    if series.role == "beyond":  # of every series that has one
        return [_mark(SHAPES[2], 14, 6, "point beyond grey")]
    if series.role.startswith("fan"):
        return [element("rect", x=1, y=1, width=26, height=10, class_=f"band {look}")]
    bold = "line bold" if series.fit is not None else "line"
    stroke = [_stroke(f"{bold} {look}")] if bold != "line" or _has_line(series) else []
    return stroke if series.points is False else [*stroke, _point(series, 14, 6)]


def _stroke(class_: str) -> Markup:
    return element("line", x1=1, y1=6, x2=27, y2=6, class_=class_)


def _mark(shape: str, x: float, y: float, class_: str, title: str = "") -> Markup:
    """A shape at a place, with what it says when it is pointed at."""
    says = [element("title", title)] if title else []
    place = f"translate({x:.1f} {y:.1f})"
    return element("path", *says, d=shape, transform=place, class_=class_)


def _point(series: Series, x: float, y: float, title: str = "") -> Markup:
    shape = SHAPES[series.appearance[2]]
    if series.role in ("full", "unresolved"):
        shape = CROSS
    elif series.role == "beyond":
        shape = SHAPES[2]
    return _mark(
        shape, x, y, f"{'point' if series.fit is None else 'point light'} {_classes(series)}", title
    )


def _classes(series: Series) -> str:
    """Classes of the style sheet for the colour and the dashes of a series, and for its role."""
    colour, dash, _ = series.appearance
    names = [f"s{dash}"] if colour == dash else [f"s{dash}", f"k{colour}"]
    return " ".join(names if series.role == "series" else [*names, series.role])


def _has_line(series: Series) -> bool:
    return series.joined and series.role not in ("unresolved", "beyond", "full")


def _series(frame: Frame, series: Series) -> list[Markup]:
    """A series: its band or bars, its fit, its line and its points."""
    x, y = coordinates(frame.chart, series)
    across, up = frame.x(x), frame.y(y)
    along = up if frame.chart.horizontal else across
    look = _classes(series)
    parts = _limits(frame, series, along)
    if series.fit is not None:
        places, values = series.fit
        parts += _polylines(frame.x(places), frame.y(values), f"line bold {look}")
    elif _has_line(series):
        parts += _polylines(across, up, f"{'line thin' if series.barred else 'line'} {look}")
    shown = set(range(len(x))[marked(series)])
    for index, title in enumerate(series.titles or [""] * len(x)):
        if not (np.isfinite(across[index]) and np.isfinite(up[index])):
            continue
        if index in shown:
            parts.append(_point(series, across[index], up[index], title))
        elif title and series.points is None:  # says what it is when pointed at
            says, place = element("title", title), {"cx": across[index], "cy": up[index]}
            parts.append(element("circle", says, **place, r=3, class_="hit"))
    return parts


def _limits(frame: Frame, series: Series, along: Floats) -> list[Markup]:
    """Limits as bars, or as a band along the axis of places."""
    if series.low is None or series.high is None:
        return []
    low, high, look = frame.values(series.low), frame.values(series.high), _classes(series)
    known = np.isfinite(low) & np.isfinite(high) & np.isfinite(along)
    parts = []
    if series.barred:
        for at, *ends in zip(along[known], low[known], high[known], strict=True):
            (x1, x2), (y1, y2) = frame.pair(np.array([at, at]), np.array(ends))
            place = {"x1": float(x1), "x2": float(x2), "y1": float(y1), "y2": float(y2)}
            class_ = "line limits" if series.fit is None else "line limits light"
            parts.append(element("line", **place, class_=f"{class_} {look}"))
        return parts
    for run in _runs(known):
        outline = np.concatenate([high[run], low[run][::-1]])
        there_and_back = np.concatenate([along[run], along[run][::-1]])
        points = joined(zip(*frame.pair(there_and_back, outline), strict=True))
        parts.append(element("polygon", points=points, class_=f"band {look}"))
    return parts


def _polylines(x: Floats, y: Floats, class_: str) -> Iterable[Markup]:
    for run in _runs(np.isfinite(x) & np.isfinite(y)):
        points = joined(zip(x[run], y[run], strict=True))
        yield element("polyline", points=points, class_=class_)


def _runs(known: NDArray[np.bool_]) -> list[slice]:
    """Stretches of neighbours that are all known."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(np.int8), [0]])))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _floor(frame: Frame) -> list[Markup]:
    """The noise floor: a strip around 0, stepwise over its edges, never too thin to be seen."""
    floor = frame.chart.floor
    if floor is None:
        return []
    parts = []
    for start, end, limit in zip(floor.edges[:-1], floor.edges[1:], floor.limits, strict=True):
        if np.isfinite(limit):
            left, right = map(float, frame.x([start, end]))
            top, bottom = map(float, frame.y([limit, -limit]))
            height = max(bottom - top, 1.0)
            size = {"x": left, "y": (top + bottom - height) / 2, "width": right - left}
            parts.append(element("rect", **size, height=height, class_="floor"))
    return parts


def _interval(frame: Frame, interval: Interval) -> list[Markup]:
    """An answer: its bar with a cap at each end, or an arrow where it goes on, and its diamond."""
    start, end = map(float, frame.x([interval.low, interval.high]))
    y = float(frame.y(interval.y)) - LANE * interval.lane
    look = "" if interval.look is None else f" s{interval.look % len(SHAPES)}"
    title = element("title", interval.title)
    parts = [element("line", title, x1=start, x2=end, y1=y, y2=y, class_=f"bar{look}")]
    for cap in [start] if interval.beyond else [start, end]:
        height = {"y1": y - CAP, "y2": y + CAP}
        parts.append(element("line", x1=cap, x2=cap, **height, class_=f"bar cap{look}"))
    if interval.beyond:
        parts.append(_mark(ARROW, end, y, f"arrow{look}", interval.title))
    if interval.at is not None:
        at = float(frame.x(interval.at))
        parts.append(_mark(DIAMOND, at, y, f"answer{look}", interval.title))
    if interval.label:
        side = label_side(frame.chart, interval)
        x, above, anchor = {
            "left": (start - 8, -3.5, "end"),
            "right": (end + 8, -3.5, "start"),
            "above": ((start + end) / 2, 8.0, "middle"),
        }[side]
        place = {"x": x, "y": y - above}
        text = shortened(interval.label, RULE)
        parts.append(element("text", text, **place, text_anchor=anchor, class_="answered"))
    return parts


def steps(cells: Cells) -> Floats:
    """Sizes from which the four steps of colour begin, each about three times the one before.

    The last is at most the largest value, but never so small that noise is coloured.
    """
    finite = np.abs(cells.values[np.isfinite(cells.values)])
    largest = max(float(finite.max(initial=0)), 3 * cells.threshold) * 1.0001
    last = int(np.searchsorted(SIZES, largest, side="right"))
    return np.array(SIZES[max(0, last - 4) : last])


def levels(values: Floats, sizes: Floats) -> NDArray[np.int64]:
    """Steps of colour, 0 to 8 and 4 in the middle; −1 without a value."""
    size = np.searchsorted(sizes * (1 - 1e-9), np.abs(np.nan_to_num(values)), side="right")
    return np.where(np.isfinite(values), 4 + np.sign(np.nan_to_num(values)) * size, -1).astype(int)


def _cells(frame: Frame) -> list[Markup]:
    """The cells, their dots and the scale of their colours."""
    cells = frame.chart.cells
    if cells is None:
        return []
    colours = levels(cells.values, steps(cells))
    parts = (
        _titled(frame, cells, colours) if colours.size <= TITLED else _merged(frame, cells, colours)
    )
    parts += [
        element("circle", cx=float(frame.x(x)), cy=float(frame.y(y)), r=2, class_="dot")
        for x, y in cells.dots
    ]
    return [*parts, *_scale(frame, cells)]


def _class(level: int) -> str:
    return "cell none" if level < 0 else f"cell c{level}"


def _edges(frame: Frame, cells: Cells) -> tuple[Floats, Floats]:
    """Edges of columns and rows, rounded as they are written: neighbours leave no gap."""
    return np.round(frame.x(cells.x), 1), np.round(frame.y(cells.y), 1)


def _titled(frame: Frame, cells: Cells, colours: NDArray[np.int64]) -> list[Markup]:
    """A rectangle a cell, which says where it is and its value."""
    x, y = _edges(frame, cells)
    columns = [between(frame.chart.x, *ends) for ends in pairwise(cells.x)]
    rows = [between(frame.chart.y, *ends) for ends in pairwise(cells.y)]
    parts = []
    for (row, column), level in np.ndenumerate(colours):
        value = cells.values[row, column]
        said = f"{value:.3g}".replace("-", "−") if np.isfinite(value) else "–"
        size = {
            "x": float(x[column]),
            "y": float(min(y[row], y[row + 1])),
            "width": float(x[column + 1] - x[column]),
            "height": float(abs(y[row + 1] - y[row])),
        }
        title = element("title", f"{columns[column]}; {rows[row]}: {said}")
        parts.append(element("rect", title, **size, class_=_class(int(level))))
    return parts


def _merged(frame: Frame, cells: Cells, colours: NDArray[np.int64]) -> list[Markup]:
    """A path a colour, in which neighbours of a row are one rectangle: a map of many cells."""
    x, y = _edges(frame, cells)
    shapes: dict[int, list[str]] = {}
    for row, line in enumerate(colours):
        edges = [0, *(np.flatnonzero(np.diff(line)) + 1), len(line)]
        for start, end in pairwise(edges):
            width, height = x[end] - x[start], y[row + 1] - y[row]
            shape = f"M{x[start]:.1f} {y[row]:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}Z"
            shapes.setdefault(int(line[start]), []).append(shape)
    return [
        element("path", d="".join(shapes[level]), class_=_class(level)) for level in sorted(shapes)
    ]


def between(axis: Axis, start: float, end: float) -> str:
    """What a column or row is called: its tick's name, else the whole numbers that it holds."""
    low, high = min(start, end), max(start, end)
    for tick, name in zip(axis.ticks, axis.names, strict=False):
        if low <= tick < high:
            return f"{axis.label} {name}".strip()
    first, last = int(np.ceil(low)), int(np.ceil(high)) - 1
    numbers = [f"{number:,}" for number in dict.fromkeys((first, last))]
    inside = "–".join(numbers) if last >= first else f"{(low + high) / 2:g}"
    return f"{axis.label} {inside}".strip()


def _scale(frame: Frame, cells: Cells) -> list[Markup]:
    """The steps of colour from the lowest at the bottom, each edge with its number."""
    sizes = steps(cells)
    edges: Sequence[float] = [*(-sizes[::-1]), *sizes]
    left, bottom = WIDTH - frame.right + 12, frame.height - frame.bottom
    height = min(bottom - TOP, 250.0) / 9
    parts = []
    for level in range(9):
        place = {"x": left, "y": bottom - (level + 1) * height, "width": 10.0, "height": height}
        parts.append(element("rect", **place, class_=f"cell edged c{level}"))
    for index, edge in enumerate(edges, start=1):
        said = f"{edge:g}".replace("-", "−")
        if height >= LINE or index % 2:
            parts.append(element("text", said, x=left + 14, y=bottom - index * height + 3.5))
    turned = f"translate({WIDTH - 5:g} {bottom - 4.5 * height:.1f}) rotate(-90)"
    label = {"transform": turned, "text_anchor": "middle", "class_": "label"}
    return [*parts, element("text", shortened(cells.label, LABEL), **label)]
