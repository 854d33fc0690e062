"""Charts as figures for papers and notebooks, drawn by matplotlib; nothing global is changed."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from probe.findings.chart import Chart, EmptyChartError, Rule, Series
from probe.render import style
from probe.render.figure_marks import (
    DOT,
    cells_marks,
    floor_marks,
    interval_marks,
    series_marks,
)
from probe.render.figure_scales import (
    CHARACTER,
    names_width,
    rule_look,
    rules,
    scale,
    width_of,
    x_ticks,
    y_ticks,
)
from probe.render.layout import Entry, legend_entries, widest
from probe.results.files import write_bytes

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 300, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}
"""The formats, with what makes their bytes depend on nothing but the figure."""
LEFT = 46
"""Where axes, and the title above them, begin unless names stand at their left (points)."""

Drawing = Chart | Sequence[Chart]
"""A chart, or several that stand below one another."""


def draw(drawing: Drawing, ax: Axes | None = None) -> Axes:
    """Draw a chart, or several below one another.

    Args:
        drawing: The charts.
        ax: Axes to draw one chart in; a new figure of column width without.

    Returns:
        The axes, the first of several; their data are the chart's own values.

    Raises:
        EmptyChartError: If there is no chart.
        ValueError: If axes are given for several charts.
    """
    charts = [drawing] if isinstance(drawing, Chart) else list(drawing)
    if not charts:
        raise EmptyChartError("no chart to draw")
    if ax is not None and len(charts) > 1:
        raise ValueError(f"axes hold one chart; got {len(charts)}")
    titles = _titles(charts)
    with style.sheet():
        if ax is not None:
            places = [ax]
        else:
            heights = [_height(chart, title) for chart, title in zip(charts, titles, strict=True)]
            figure = Figure(figsize=(style.WIDTH, sum(heights)), layout="constrained")
            grid = figure.subplots(len(charts), squeeze=False, height_ratios=heights)
            places = list(grid[:, 0])
        for chart, title, axes in zip(charts, titles, places, strict=True):
            _draw(chart, title, axes)
    return places[0]


def save(
    figure: Axes | Figure | Drawing, path: str | Path, formats: Sequence[str] = ("png", "svg")
) -> tuple[Path, ...]:
    """Write a figure; equal figures, and equal charts, give equal bytes.

    Args:
        figure: A figure, axes in it, or the charts to draw.
        path: Path without suffix; the folder is made if need be. Each file is written atomically.
        formats: Any of ``png`` (300 dots an inch), ``svg`` and ``pdf`` (text as letters of an
            embedded font).

    Returns:
        The files, one a format, in their order.

    Raises:
        ValueError: If a format is none of these, or the axes belong to no figure.
        ProbeError: If a file cannot be written.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ValueError(f"format {unknown[0]!r} is unknown; allowed: {', '.join(FORMATS)}")
    drawn = figure if isinstance(figure, Axes | Figure) else draw(figure)
    whole = drawn.get_figure(root=True) if isinstance(drawn, Axes) else drawn
    if whole is None:
        raise ValueError("these axes belong to no figure")
    base = Path(path)
    files = tuple(base.with_name(f"{base.name}.{name}") for name in formats)
    with style.sheet():
        for name, file in zip(formats, files, strict=True):
            content = BytesIO()
            whole.savefig(content, format=name, **FORMATS[name])
            write_bytes(file, content.getvalue())
    return files


def _titles(charts: Sequence[Chart]) -> list[list[str]]:
    """Lines above each chart: its heading, unless that of the chart above says the same."""
    titles, above = [], None
    for chart in charts:
        heading = [line for line in chart.heading if line]
        lines = heading if heading and heading != above else [chart.title]
        room = 72 * style.WIDTH - max(LEFT, 6 + CHARACTER * names_width(chart))
        titles.append([style.fitting(line, room) for line in lines if line])
        above = heading
    return titles


def _body(chart: Chart) -> float:
    """Height of the axes and of what stands at them (inches)."""
    rows = len(chart.y.names)
    below = 0.04 * min(widest(chart.x.names), 24) if len(chart.x.names) > 8 else 0
    if chart.cells is not None:
        return 0.95 + below + min(max(0.11 * len(chart.cells.values), 1.2), 4.5)
    if chart.horizontal and rows:
        return 0.75 + 0.22 * rows * max(1, len(chart.series) / 2)
    return 2.2 + below


def _height(chart: Chart, title: Sequence[str]) -> float:
    """Height of a chart with its title and legend (inches)."""
    return _body(chart) + style.LINE * len(title) + style.ENTRY * len(legend_entries(chart))


def _draw(chart: Chart, title: Sequence[str], axes: Axes) -> None:
    scale(axes, "x", chart.x, margin=chart.cells is None)
    scale(axes, "y", chart.y, margin=chart.cells is None)
    lower = x_ticks(axes, chart.x, width_of(chart))
    y_ticks(axes, chart, (_body(chart) - 0.6) * 72)
    rules(axes, chart)
    if chart.cells is not None:
        cells_marks(axes, chart.cells)
    floor_marks(axes, chart)
    for series in chart.series:
        series_marks(axes, chart, series)
    for interval in chart.intervals:
        interval_marks(axes, chart, interval)
    above = 12 if chart.horizontal and any(not rule.named for rule in chart.rules) else None
    axes.set_title("\n".join(title), loc="left", parse_math=False, pad=above)
    handles = [_handle(chart, entry) for entry in legend_entries(chart)]
    if handles:
        left = max(26.0, CHARACTER * names_width(chart))
        _legend(axes, handles, left, 32 + lower)


def _handle(chart: Chart, entry: Entry) -> Artist:
    """What stands for an entry in the legend."""
    what, label = entry[0], style.short(entry[1], 52)
    if isinstance(what, Series):
        return _series_handle(what, label)
    if isinstance(what, Rule):
        return Line2D([], [], label=label, **rule_look(named=True))
    if what == "floor":
        return Patch(label=label, **style.FLOOR)
    several = any(interval.look is not None for interval in chart.intervals)
    answer = {"color": style.GREY if several else "black", "marker": "D", "linewidth": 2.2}
    samples: dict[str, dict[str, Any]] = {
        "grey": {"color": style.GREY},
        "answer": {**answer, "markersize": 4},
        "dot": DOT,
        "unresolved": {"color": style.GREY, "marker": "x", "linestyle": "none"},
        "beyond": {"color": style.GREY, "marker": "^", "linestyle": "none"},
    }
    return Line2D([], [], label=label, **samples.get(what, {"linestyle": "none"}))


def _series_handle(series: Series, label: str) -> Artist:
    look = style.look(series)
    if series.role.startswith("fan"):
        opaque = 0.2 + style.FANS[series.role]
        return Patch(label=label, color=look["color"], alpha=opaque, linewidth=0)
    if series.role == "beyond":  # of every series that has one
        look["color"] = style.GREY
    return Line2D([], [], label=label, **look)


def _legend(axes: Axes, handles: Sequence[Artist], left: float, below: float) -> None:
    """A legend under the axis label, one entry a line, by points left of and below the axes."""
    # Below the axis label whatever the height of the axes, hence points and no share of it.
    figure = axes.get_figure(root=True)
    transform = axes.transAxes
    if figure is not None:
        transform += ScaledTranslation(-left / 72, -below / 72, figure.dpi_scale_trans)
    legend = axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=transform,
        ncols=1,
        borderaxespad=0,
        handlelength=2.8,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
