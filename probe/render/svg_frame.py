"""The frame of an SVG chart: its size, places in it, axes with their ticks, and rules."""

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike

from probe.findings.chart import Axis, Chart, Floats, Rule
from probe.render.layout import (
    LABEL,
    NAME,
    labels,
    name_room,
    names_below,
    rules_inside,
    value_axis,
    widest,
    zero_line,
)
from probe.render.markup import element, shortened

WIDTH = 460.0
"""Width of a chart; all of its numbers are shares of it, as it takes the width of the page."""
HEIGHT = 290.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 40.0, 10.0, 42.0
SCALE = 88.0
"""Width of what stands at the right of a heat map."""
CHARACTER, LINE = 6.6, 11.5
"""Width of a character and height of a line, at most, in the fonts of the style sheet."""
RULE = 16
"""Characters of the label of a rule."""
ROW, SERIES = 18.0, 10.0
"""Height of a row of a chart with named rows, and of each series in one."""


class Frame:
    """Where a chart stands inside its drawing.

    Args:
        chart: The chart.

    Attributes:
        x_names: Names below the axis to the right, of one or two lines each.
        upright: Whether these stand upright, for want of room.
        y_names: Names at the axis upwards.
        height: Height of the drawing.
        left: Width of what stands at the left of the axes.
        right: Width of what stands at the right.
        bottom: Height of what stands below.
    """

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.y_names = [shortened(name, NAME) for name in chart.y.names]
        self.left = LEFT
        if self.y_names:
            label = LINE if chart.y.label else 0
            self.left = max(LEFT, 14 + CHARACTER * widest(self.y_names) + label)
        self.right = RIGHT if chart.cells is None else SCALE
        if chart.cells is None and not chart.horizontal:
            ends = [shortened(rule.label, RULE) for rule in chart.rules if not rule.named]
            self.right = max(RIGHT, 15 + CHARACTER * widest(ends))
        names = [shortened(name, NAME) for name in chart.x.names]
        room = name_room(chart.x, self.across)
        self.x_names, self.upright = names_below(names, room, CHARACTER)
        self.bottom, self.height = BOTTOM, HEIGHT
        if self.upright:
            more = CHARACTER * widest(names) - LINE
            self.bottom, self.height = BOTTOM + more, HEIGHT + more
        elif self.x_names != names:
            self.bottom += LINE
        rows = len(self.y_names)
        if chart.horizontal and rows:
            self.height = TOP + self.bottom + rows * max(ROW, SERIES * len(chart.series))
        elif rows:
            self.height = max(self.height, TOP + self.bottom + LINE * rows)

    @property
    def across(self) -> float:
        """Width of the axes."""
        return WIDTH - self.left - self.right

    @property
    def upwards(self) -> float:
        """Height of the axes."""
        return self.height - TOP - self.bottom

    def x(self, values: ArrayLike) -> Floats:
        """Places of values along the axis to the right."""
        return np.asarray(self.left + self.chart.x.at(values) * self.across)

    def y(self, values: ArrayLike) -> Floats:
        """Places of values along the axis upwards."""
        return np.asarray(self.height - self.bottom - self.chart.y.at(values) * self.upwards)

    def values(self, values: ArrayLike) -> Floats:
        """Places of values along the axis of values."""
        return self.x(values) if self.chart.horizontal else self.y(values)

    def pair(self, along: Floats, values: Floats) -> tuple[Floats, Floats]:
        """Places across and upwards, of places along the other axis and along that of values."""
        return (values, along) if self.chart.horizontal else (along, values)

    def line(self, at: float, **attributes: object) -> Markup:
        """A line across the axes at a value of the axis of values."""
        place = float(self.values(at))
        if self.chart.horizontal:
            ends = {"x1": place, "x2": place, "y1": TOP, "y2": self.height - self.bottom}
        else:
            ends = {"x1": self.left, "x2": WIDTH - self.right, "y1": place, "y2": place}
        return element("line", **ends, **attributes)


def axes(frame: Frame) -> list[Markup]:
    """Both axes with ticks and labels, and the grid of values."""
    chart, bottom, right = frame.chart, frame.height - frame.bottom, WIDTH - frame.right
    values = value_axis(chart)
    parts = [] if chart.cells else [_grid(frame, values, tick) for tick in values.ticks]
    if zero_line(chart) and 0 not in values.ticks:
        parts.append(_grid(frame, values, 0))
    parts += [*_x_ticks(frame, bottom), *_y_ticks(frame)]
    parts.append(element("line", x1=frame.left, x2=right, y1=bottom, y2=bottom, class_="axis"))
    if chart.horizontal:
        parts.append(
            element("line", x1=frame.left, x2=frame.left, y1=TOP, y2=bottom, class_="axis")
        )
    below = {"x": (frame.left + right) / 2, "y": frame.height - 6, "text_anchor": "middle"}
    parts.append(element("text", shortened(chart.x.label, LABEL), **below, class_="label"))
    turned = f"translate(11 {(TOP + bottom) / 2:.1f}) rotate(-90)"
    label = {"transform": turned, "text_anchor": "middle", "class_": "label"}
    return [*parts, element("text", shortened(chart.y.label, LABEL), **label)]


def _grid(frame: Frame, axis: Axis, tick: float) -> Markup:
    zero = tick == 0 and not axis.names
    return frame.line(tick, class_="grid zero" if zero else "grid")


def _x_ticks(frame: Frame, bottom: float) -> list[Markup]:
    axis, parts = frame.chart.x, []
    texts = frame.x_names or axis.tick_names()
    sizes = [LINE if frame.upright else CHARACTER * (widest([text]) + 1) for text in texts]
    shown = labels(axis, texts, frame.across, sizes)
    for place, text in zip(frame.x(axis.ticks), shown, strict=True):
        parts.append(element("line", x1=place, x2=place, y1=bottom, y2=bottom + 4, class_="axis"))
        if text and frame.upright:
            turned = f"translate({place + 3.5:.1f} {bottom + 7:.1f}) rotate(-90)"
            parts.append(element("text", text, transform=turned, text_anchor="end"))
        elif text:
            parts += [
                element("text", line, x=place, y=bottom + 16 + LINE * row, text_anchor="middle")
                for row, line in enumerate(text.split("\n"))
            ]
    return parts


def _y_ticks(frame: Frame) -> list[Markup]:
    axis = frame.chart.y
    texts = frame.y_names or axis.tick_names()
    shown = labels(axis, texts, frame.upwards, [LINE - 0.5] * len(texts))
    return [
        element("text", text, x=frame.left - 6, y=place + 3.5, text_anchor="end")
        for place, text in zip(frame.y(axis.ticks), shown, strict=True)
        if text
    ]


def rules(frame: Frame) -> list[Markup]:
    """Rules across the axes, with labels at their ends where these have room."""
    parts = []
    for rule, whole in rules_inside(frame.chart):
        label = shortened(whole, RULE)
        parts.append(frame.line(rule.at, class_=rule_class(rule)))
        if label and frame.chart.horizontal:
            place = {"x": float(frame.x(rule.at)), "y": TOP - 2, "text_anchor": "middle"}
            parts.append(element("text", label, **place))
        elif label:
            right = WIDTH - frame.right + 11
            parts.append(element("text", label, x=right, y=float(frame.y(rule.at)) + 3.5))
    return parts


def rule_class(rule: Rule) -> str:
    """Class of a rule: dashed where the legend names it, else dotted."""
    return "tolerance named" if rule.named else "tolerance"
