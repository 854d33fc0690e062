"""Charts as figures for papers and notebooks, drawn by matplotlib; nothing global is changed."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from probe.findings.base import Drawing
from probe.findings.chart import Axis, Cells, Chart, EmptyChartError, Floats, Interval, Rule, Series
from probe.render import style
from probe.render.layout import Entry, coordinates, legend_entries, marked, value_axis, widest
from probe.render.markup import shortened
from probe.results.files import write_bytes

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 300, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}
"""The formats, with what makes their bytes depend on nothing but the figure."""
LEFT = 46
"""Where axes, and the title above them, begin unless names stand at their left (points)."""

DOT: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 2.5,
    "color": "black",
    "markeredgecolor": "white",
    "markeredgewidth": 0.5,
}


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
        room = 72 * style.WIDTH - max(LEFT, 6 + style.CHARACTER * style.names_width(chart))
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
    style.scale(axes, "x", chart.x, margin=chart.cells is None)
    style.scale(axes, "y", chart.y, margin=chart.cells is None)
    lower = style.x_ticks(axes, chart)
    style.y_ticks(axes, chart, (_body(chart) - 0.6) * 72)
    style.rules(axes, chart)
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
        left = max(26.0, style.CHARACTER * style.names_width(chart))
        _legend(axes, handles, left, 32 + lower)


def _handle(chart: Chart, entry: Entry) -> Artist:
    """What stands for an entry in the legend."""
    what, label = entry[0], shortened(entry[1], 52)
    if isinstance(what, Series):
        return _series_handle(what, label)
    if isinstance(what, Rule):
        return Line2D([], [], label=label, **style.rule_look(named=True))
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


def series_marks(axes: Axes, chart: Chart, series: Series) -> None:
    """Draw a series: its band or bars, its fit, its line and its points.

    Args:
        axes: The axes, with their scales.
        chart: The chart, at whose edges is drawn what lies outside.
        series: The series.
    """
    x, y = inside(chart.x, series.x), inside(chart.y, series.y)
    edges = axes.get_xlim() if chart.horizontal else axes.get_ylim()
    x, y = coordinates(chart, replace(series, x=x, y=y), edges)
    look = style.look(series)
    along = y if chart.horizontal else x
    _limits(axes, chart, series, along)
    if series.fit is not None:
        fit = inside(value_axis(chart), series.fit)
        ends = (fit, along) if chart.horizontal else (along, fit)
        axes.plot(*ends, color=look["color"], linewidth=0.5, zorder=1.9)
    if series.role.startswith("fan"):
        return
    # Marks at an edge are drawn whole; lines end there.
    edge = series.role in ("unresolved", "beyond", "full")
    axes.plot(x, y, markevery=marked(series), clip_on=not edge, **look)


def inside(axis: Axis, values: Floats) -> Floats:
    """Values, those outside the axis at its edge; NaN stays NaN."""
    low, high = sorted((axis.low, axis.high))
    return np.clip(np.asarray(values, dtype=np.float64), low, high)


def _limits(axes: Axes, chart: Chart, series: Series, along: Floats) -> None:
    """Limits as bars, or as a band along the axis of places."""
    if series.low is None or series.high is None:
        return
    axis = value_axis(chart)
    low, high = inside(axis, series.low), inside(axis, series.high)
    colour = style.look(series)["color"]
    if series.barred:
        known = np.isfinite(along) & np.isfinite(low) & np.isfinite(high)
        bars = axes.hlines if chart.horizontal else axes.vlines
        width = 0.9 if series.joined else 1.2
        bars(along[known], low[known], high[known], colors=colour, linewidth=width, zorder=2)
        return
    fill = axes.fill_betweenx if chart.horizontal else axes.fill_between
    fill(along, low, high, color=colour, alpha=style.FANS.get(series.role, style.BAND), linewidth=0)


def floor_marks(axes: Axes, chart: Chart) -> None:
    """Hatch the noise floor, stepwise over its edges."""
    if chart.floor is not None:
        limits = np.append(chart.floor.limits, chart.floor.limits[-1])
        edges = inside(chart.x, chart.floor.edges)
        axes.fill_between(edges, -limits, limits, step="post", zorder=0, **style.FLOOR)


def interval_marks(axes: Axes, chart: Chart, interval: Interval) -> None:
    """An answer: its bar, its diamond, and an arrow where it goes on beyond the axis."""
    colour = "black" if interval.look is None else style.COLOURS[interval.look % len(style.COLOURS)]
    ends = inside(chart.x, np.array([interval.low, interval.high]))
    heights = [interval.y, interval.y]
    axes.plot(ends, heights, color=colour, linewidth=2.2, alpha=0.75, zorder=4)
    mark: dict[str, Any] = {"color": colour, "markersize": 5, "clip_on": False}
    if interval.beyond:
        axes.plot(ends[1:], heights[1:], marker=">", zorder=5, **mark)
    if interval.at is not None:
        white: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.7}
        at = inside(chart.x, np.array([interval.at]))
        axes.plot(at, heights[1:], marker="D", zorder=6, **white, **mark)


def cells_marks(axes: Axes, cells: Cells) -> None:
    """Draw a heat map with its dots, grey where it has no value, and the scale of its colours."""
    finite = np.abs(cells.values[np.isfinite(cells.values)])
    largest = max(float(finite.max(initial=0)), 3 * cells.threshold)
    axes.set_facecolor(style.EMPTY)
    axes.spines[["left", "bottom"]].set_visible(False)
    mesh = axes.pcolormesh(
        cells.x,
        cells.y,
        np.ma.masked_invalid(cells.values),
        cmap=LinearSegmentedColormap.from_list("diverging", style.DIVERGING),
        norm=SymLogNorm(cells.threshold, linscale=0.5, vmin=-largest, vmax=largest),
        rasterized=True,
    )
    if cells.dots:
        axes.plot(*np.asarray(cells.dots, dtype=np.float64).T, **DOT)
    _colour_bar(axes, mesh, cells, largest)


def _colour_bar(axes: Axes, mesh: QuadMesh, cells: Cells, largest: float) -> None:
    figure = axes.get_figure(root=True)
    if figure is None:
        return
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=30)
    first = round(float(np.log10(cells.threshold)))
    sizes = [10.0**power for power in range(first, first + 7) if 10.0**power <= largest]
    places = [-size for size in reversed(sizes)] + [0.0, *sizes]
    style.ticks(bar.ax.yaxis, places, [f"{place:g}".replace("-", "−") for place in places])
    bar.outline.set_linewidth(0.6)
    bar.set_label(shortened(cells.label, 44), parse_math=False)
