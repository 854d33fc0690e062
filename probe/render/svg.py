"""Charts as inline SVG for the page; colours and dashes come from the page's style sheet."""

from markupsafe import Markup

from probe.findings.chart import Chart, Rule, Series
from probe.render.layout import Entry, legend_entries
from probe.render.markup import element, visible
from probe.render.svg_frame import WIDTH, Frame, axes, rule_class, rules
from probe.render.svg_marks import (
    CROSS,
    DIAMOND,
    SHAPES,
    cells_parts,
    classes,
    floor_parts,
    interval_parts,
    line_of,
    marker,
    series_parts,
)


def draw(chart: Chart) -> Markup:
    """The chart as an SVG element that takes the width it is given.

    Args:
        chart: The chart; all text in it is made visible and escaped.

    Returns:
        The element, without inline styles; points and cells have titles.
    """
    frame = Frame.of(chart)
    parts = [*cells_parts(frame), *floor_parts(frame), *axes(frame), *rules(frame)]
    behind = sorted(chart.series, key=lambda series: series.role != "reference")
    parts += [part for series in behind for part in series_parts(frame, series)]
    parts += [part for interval in chart.intervals for part in interval_parts(frame, interval)]
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
    return [(_sample(*_drawn(chart, entry)), entry[1]) for entry in legend_entries(chart)]


def _sample(*children: Markup) -> Markup:
    return element("svg", *children, viewBox="0 0 28 12", class_="sample", aria_hidden="true")


def _drawn(chart: Chart, entry: Entry) -> list[Markup]:
    what = entry[0]
    if isinstance(what, Series):
        return _series(what)
    if isinstance(what, Rule):
        return [_stroke(rule_class(what))]
    several = any(interval.look is not None for interval in chart.intervals)
    answer = " grey" if several else ""
    samples = {
        "floor": [element("rect", x=1, y=2, width=26, height=8, class_="floor")],
        "grey": [_stroke("line grey")],
        "answer": [_stroke(f"bar{answer}"), _mark(DIAMOND, f"answer{answer}")],
        "dot": [element("circle", cx=14, cy=6, r=2.5, class_="dot")],
        "unresolved": [_mark(CROSS, "point unresolved")],
        "beyond": [_mark(SHAPES[2], "point beyond grey")],
    }
    return samples.get(what, [])


def _series(series: Series) -> list[Markup]:
    """What a sample shows of a series: its line and its mark, or its band where it has no line."""
    look = classes(series)
    if series.role == "beyond":  # of every series that has one
        return [_mark(SHAPES[2], "point beyond grey")]
    if series.role.startswith("fan"):
        return [element("rect", x=1, y=1, width=26, height=10, class_=f"band {look}")]
    stroke = [_stroke(f"line {look}")] if line_of(series) else []
    return stroke if series.points is False else [*stroke, marker(series, 14, 6)]


def _stroke(class_: str) -> Markup:
    return element("line", x1=1, y1=6, x2=27, y2=6, class_=class_)


def _mark(shape: str, class_: str) -> Markup:
    return element("path", d=shape, transform="translate(14 6)", class_=class_)
