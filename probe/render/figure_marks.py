"""What figures are drawn of: lines, bands, bars, points, answers, the noise floor, heat maps."""

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm

from probe.findings.chart import Axis, Cells, Chart, Floats, Interval, Series
from probe.render import style
from probe.render.figure_scales import ticks
from probe.render.layout import coordinates, marked

DOT: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 2.5,
    "color": "black",
    "markeredgecolor": "white",
    "markeredgewidth": 0.5,
}


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
    _limits(axes, chart, series, y if chart.horizontal else x)
    if series.fit is not None:
        fit = inside(chart.x if chart.horizontal else chart.y, series.fit)
        ends = (fit, y) if chart.horizontal else (x, fit)
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
    axis = chart.x if chart.horizontal else chart.y
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
    ticks(bar.ax.yaxis, places, [f"{place:g}".replace("-", "−") for place in places])
    bar.outline.set_linewidth(0.6)
    bar.set_label(style.short(cells.label), parse_math=False)
