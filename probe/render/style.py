"""The look of figures: style sheet, colours, lines and markers; scales, ticks and rules of axes.

Ticks are whole numbers, and no two labels stand over each other.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

from probe.findings.chart import Axis, Chart, Series
from probe.render.layout import (
    GAP,
    LABEL,
    NAME,
    labels,
    name_room,
    names_below,
    rules_inside,
    widest,
    zero_line,
)
from probe.render.markup import shortened
from probe.text import NO_BREAK, unbroken

SHEET = Path(__file__).with_name("probe.mplstyle")
"""The style sheet, a matplotlib style file: ``plt.style.use(SHEET)`` gives any figure our look."""

WIDTH, DOUBLE = 3.3, 6.8
"""Width of a figure in inches: one column of a paper, and both."""
ENTRY = 0.155
"""Height of an entry of a legend in inches."""
LINE = 0.12
"""Height of a line of a title in inches."""

# The colours of the sheet's cycle, so that a line, its band and its marks can be given one.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
LINES = (
    "-",
    (0, (5, 1.5)),
    (0, (1.5, 1)),
    (0, (5, 1, 1.5, 1)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#9A9A9A"
MOST = 100
"""Characters of a line of a title, however narrow they are."""
EMPTY = "#E4E4E4"
"""Cells of a heat map without a value."""
FLOOR: dict[str, Any] = {
    "facecolor": "none",  # hatched: bands that overlap are grey
    "edgecolor": "#555555",
    "hatch": "/////",
    "linewidth": 0,
}
FANS = {"fan0": 0.16, "fan1": 0.24, "fan2": 0.38}
"""How opaque the bands of a fan of quantiles are, each over the one before."""
BAND = 0.18
# Blue is above 0, where far text is needed, as on the page. Both ends are dark and 0 is white, so
# that signs differ also for those who see no red.
DIVERGING = ("#5C2600", "#D55E00", "#F5C242", "#FFFFFF", "#8CC4E8", "#0072B2", "#003B5C")
AROUND, WITH_SCALE, SHORT = 63.0, 90.0, 4
"""What stands at the left and the right of axes, without and with a scale of colours (points), as
far as it is known before drawing; and characters of the label of a rule that are among it."""
CHARACTER, HEIGHT, RULE = 4.3, 8.5, 6.5
"""Width and height of a character of a tick's label, and of the label of a rule (points)."""
FIT = 1.6
"""Width of a fitted curve (points)."""
LIGHT = 0.6
"""How opaque bars of points beside their fitted curve are."""
ROW = 18
"""Characters of a name beside a heat map."""
MARGIN = 0.03
"""Empty share of an axis at either end, so that points there are seen whole."""


@contextmanager
def sheet() -> Iterator[None]:
    """The style sheet, in force inside a ``with``; what it does not set stays the user's own.

    Letters that its font lacks are drawn as boxes, without a warning for each of them.
    """
    with mpl.rc_context(_settings()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font", UserWarning)
        yield


@cache
def _settings() -> Any:
    return mpl.rc_params_from_file(SHEET, use_default_template=False)


def look(series: Series) -> dict[str, Any]:
    """Colour, line and marker of a series.

    All three differ among the first six looks; behind these the same colours come with other lines
    and markers.
    """
    colour, dash, mark = series.appearance
    plain = {"color": COLOURS[colour], "linestyle": LINES[dash], "marker": MARKERS[mark]}
    roles: dict[str, dict[str, Any]] = {
        "grey": {"color": GREY},
        "reference": {"color": GREY, "linestyle": "-", "linewidth": 0.9, "zorder": 1.8},
        "full": {"color": "black", "marker": "x", "linestyle": "none", "markersize": 5},
        "unresolved": {"color": GREY, "marker": "x", "linestyle": "none", "zorder": 5},
        "beyond": {"marker": "^", "linestyle": "none", "zorder": 5},
    }
    drawn = plain | roles.get(series.role, {})
    if series.points is False:
        drawn["marker"] = "none"
        if series.role == "grey":
            drawn |= {"linestyle": "-", "linewidth": 0.7, "zorder": 1.5}
    if series.fit is not None:
        drawn |= {"markerfacecolor": "white", "markeredgewidth": 0.8, "zorder": 2.5}
    if not series.joined:
        drawn["linestyle"] = "none"
    elif series.barred:
        drawn["linewidth"] = 0.6
    return drawn


def fit_look(series: Series) -> dict[str, Any]:
    """Line of the fitted curve of a series."""
    return {"linestyle": LINES[series.appearance[1]], "linewidth": FIT}


def text_width(text: str) -> float:
    """Width of a line of a title or a legend (points)."""
    font = FontProperties(family=_settings()["font.family"], size=_settings()["font.size"])
    width = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
    return float(width) * 1.04  # letters on a grid of pixels are wider


def fitting(text: str, room: float) -> list[str]:
    """The lines of a title, each at most *room* points wide; beyond the second it is cut."""
    words, lines = unbroken(shortened(text, MOST)).split(" "), [""]
    while words:
        longer = f"{lines[-1]} {words[0]}".strip()
        if text_width(longer) <= room:
            lines[-1] = longer
            words.pop(0)
        elif lines[-1] and len(lines) == 1:
            lines.append("")
        else:  # no room for the whole word, or for the rest
            lines[-1] = cut(" ".join([lines[-1], *words]).strip(), room)
            words = []
    return [line.replace(NO_BREAK, " ") for line in lines]


def cut(text: str, room: float) -> str:
    """A text with its end cut off until it is at most *room* points wide."""
    most = len(text)
    while most > 1 and text_width(shortened(text, most)) > room:
        most -= 1
    return shortened(text, most)


def scale(axes: Axes, which: Literal["x", "y"], axis: Axis, *, margin: bool) -> None:
    """Give one of the axes its scale, limits and label; places are those of :meth:`Axis.at`.

    Args:
        axes: The axes.
        which: Which of them.
        axis: What it is to be.
        margin: Whether places at its ends have a margin; axes of delta have one of their own.
    """
    options: dict[str, dict[str, Any]] = {
        "distance": {"value": "symlog", "base": 2, "linthresh": 1, "linscale": 0.5},
        "delta": {"value": "symlog", "base": 10, "linthresh": axis.threshold, "linscale": 0.45},
        "log": {"value": "log", "base": 10},
        "linear": {"value": "linear"},
    }
    set_scale, set_limits = (getattr(axes, f"set_{which}{name}") for name in ("scale", "lim"))
    set_scale(**options[axis.kind])
    low, high = axis.low, axis.high
    if margin and axis.kind in ("distance", "log"):
        transform = getattr(axes, f"{which}axis").get_transform()
        ends = transform.transform([low, high])
        wider = ends + np.array([-MARGIN, MARGIN]) * (ends[1] - ends[0])
        low, high = transform.inverted().transform(wider)
    set_limits(low, high)
    getattr(axes, f"set_{which}label")(shortened(_label(axis), LABEL), parse_math=False)


def _label(axis: Axis) -> str:
    """The label of an axis, of shares with the unit that their ticks have no room for."""
    if not axis.percent:
        return axis.label
    return f"{axis.label[:-1]}, %)" if axis.label.endswith(")") else f"{axis.label} (%)"


def _numbers(axis: Axis) -> list[str]:
    return [text.removesuffix(" %") for text in axis.tick_names()]


def ticks(axis: Any, places: Sequence[float], texts: Sequence[str]) -> None:
    """Put ticks at these places and at no other, with these labels."""
    axis.set_major_locator(FixedLocator(places))
    axis.set_major_formatter(FixedFormatter(texts))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def longest_name(chart: Chart) -> int:
    """Characters that a name at the left has room for."""
    return NAME if chart.cells is None else ROW


def names_width(chart: Chart) -> int:
    """Characters of the widest name at the left, as it is drawn."""
    return min(longest_name(chart), widest(chart.y.names))


def names_room(chart: Chart) -> float:
    """What names at the left take with their ticks and their label (points)."""
    return 13 + CHARACTER * names_width(chart) + (11 if chart.y.names and chart.y.label else 0)


def x_ticks(axes: Axes, chart: Chart, width: float) -> float:
    """Ticks of the axis to the right.

    Args:
        axes: The axes.
        chart: What is drawn in them.
        width: How wide they are drawn (points), as far as that is known.

    Returns:
        How much lower than one line the labels reach (points).
    """
    axis = chart.x
    if not axis.names:
        numbers = _numbers(axis)
        sizes = [CHARACTER * (len(number) + 1) for number in numbers]
        ticks(axes.xaxis, axis.ticks, labels(axis, numbers, width, sizes))
        return 0
    names = [shortened(name, NAME) for name in axis.names]
    room = name_room(axis, width)
    texts, upright = names_below(names, room, CHARACTER)
    texts = labels(axis, texts, width, [HEIGHT if upright else 0.0] * len(names))
    ticks(axes.xaxis, axis.ticks, texts)
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
        if upright:
            label.set(rotation=90)
    if upright:
        return widest(names) * CHARACTER - HEIGHT
    return 10.0 if any("\n" in text for text in texts) else 0


def y_ticks(axes: Axes, chart: Chart, height: float) -> None:
    """Ticks of the axis upwards.

    Args:
        axes: The axes.
        chart: What is drawn in them.
        height: How high they are drawn (points), as far as that is known.
    """
    axis = chart.y
    if not axis.names:
        numbers = _numbers(axis)
        ticks(axes.yaxis, axis.ticks, labels(axis, numbers, height, [HEIGHT] * len(numbers)))
        return
    names = [shortened(name, longest_name(chart)) for name in axis.names]
    ticks(axes.yaxis, axis.ticks, labels(axis, names, height, [HEIGHT] * len(names)))
    for label in axes.get_yticklabels():
        label.set_parse_math(False)


def rules(axes: Axes, chart: Chart, height: float) -> None:
    """A thin line at 0, and the chart's rules with their labels at their ends.

    Args:
        axes: The axes.
        chart: What is drawn in them.
        height: How high they are drawn (points), as far as that is known.
    """
    across = axes.axvline if chart.horizontal else axes.axhline
    if zero_line(chart):
        across(0, color="black", linewidth=0.5, zorder=0.4)
    gap = GAP if chart.horizontal else max(GAP, RULE / height)
    for rule, label in rules_inside(chart, gap):
        across(rule.at, zorder=0.5, **rule_look(named=rule.named))
        if label:
            upwards = chart.horizontal
            axes.annotate(
                shortened(label, NAME),
                (rule.at, 1) if upwards else (1, rule.at),
                xycoords=("data", "axes fraction") if upwards else ("axes fraction", "data"),
                xytext=(0, 3) if upwards else (3, 0),
                textcoords="offset points",
                va="bottom" if upwards else "center",
                ha="center" if upwards else "left",
                parse_math=False,
            )


def rule_look(*, named: bool) -> dict[str, Any]:
    """Colour and line of a rule: dashed where the legend names it, else dotted."""
    if named:
        return {"color": GREY, "linewidth": 0.9, "linestyle": "--"}
    return {"color": "black", "linewidth": 0.5, "linestyle": ":"}


def across(chart: Chart, width: float) -> float:
    """How wide the axes of a chart are (points) in a figure of some width (inches), about."""
    ends = [shortened(rule.label, NAME) for rule in chart.rules if not rule.named]
    room = 72 * width - (AROUND if chart.cells is None else WITH_SCALE)
    if not chart.horizontal:  # there they stand above
        room -= CHARACTER * max(0, widest(ends) - SHORT)
    if not chart.y.names:
        return room
    names = CHARACTER * names_width(chart)
    return room - max(0, names - 12) + (0 if chart.y.label else 11)
