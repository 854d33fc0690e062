"""Charts as figures for papers and notebooks, drawn by matplotlib; nothing global is changed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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

from probe.errors import UsageError
from probe.findings.base import Drawing
from probe.findings.chart import Axis, Cells, Chart, EmptyChartError, Floats, Interval, Rule, Series
from probe.render import style
from probe.render.layout import (
    NAME,
    Entry,
    coordinates,
    free_place,
    label_side,
    legend_entries,
    marked,
    value_axis,
    widest,
)
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
AT_AXES, LOWEST = 0.6, 1.2
"""Height of what stands at axes, and the lowest that they may be with it (inches)."""
CHARACTERS, BESIDE_TEXT, APART = 52, 27, 14
"""Characters of an entry of the legend, what stands beside these, and between columns (points)."""
FONT = b"font-family: 'DejaVu Sans'"
LANE = 7
"""Height of the bar of an answer above another on the same rule (points)."""
Size = tuple[float, float | None]
"""Width and height of a figure in inches, the latter as it comes where it is ``None``."""

DOT: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 2.5,
    "color": "black",
    "markeredgecolor": "white",
    "markeredgewidth": 0.5,
}


def draw(drawing: Drawing, ax: Axes | None = None, *, size: Size | None = None) -> Axes:
    """Draw a chart, or several below one another.

    Args:
        drawing: The charts.
        ax: Axes to draw one chart in; a new figure without.
        size: Width and height of a new figure in inches; without a height it has that of what it
            holds, without a size the width of a column.

    Returns:
        The axes, the first of several; their data are the chart's own values.

    Raises:
        EmptyChartError: If there is no chart.
        UsageError: If the size has no room for the charts, or *ax* is no axes of matplotlib.
        ValueError: If axes are given for several charts.
    """
    charts = [drawing] if isinstance(drawing, Chart) else list(drawing)
    if not charts:
        raise EmptyChartError("no chart to draw")
    if ax is not None and not isinstance(ax, Axes):
        raise UsageError(f"ax is of type {type(ax).__name__}; allowed: axes of matplotlib")
    if ax is not None and len(charts) > 1:
        raise ValueError(f"axes hold one chart; got {len(charts)}")
    with style.sheet():
        if ax is not None:
            _draw(charts[0], _inside_of(charts[0], ax), ax)
            return ax
        plans = _plans(charts, *(size or (style.WIDTH, None)))
        heights = [plan.height for plan in plans]
        inches = plans[0].width, (size and size[1]) or sum(heights)
        figure = Figure(figsize=inches, layout="constrained")
        grid = figure.subplots(len(charts), squeeze=False, height_ratios=heights)
        for chart, plan, axes in zip(charts, plans, grid[:, 0], strict=True):
            _draw(chart, plan, axes)
        first: Axes = grid[0, 0]
    return first


def save(
    figure: Axes | Figure | Drawing,
    path: str | Path,
    formats: Sequence[str] = ("png", "svg"),
    *,
    size: Size | None = None,
) -> tuple[Path, ...]:
    """Write a figure; equal figures, and equal charts, give equal bytes.

    Args:
        figure: A figure, axes in it, or the charts to draw.
        path: Path without suffix; the folder is made if need be. Each file is written atomically.
        formats: Any of ``png`` (300 dots an inch), ``svg`` (text as text) and ``pdf`` (text as
            letters of an embedded font).
        size: Of charts, as :func:`draw` takes it.

    Returns:
        The files, one a format, in their order.

    Raises:
        UsageError: If the size has no room for the charts.
        ValueError: If a format is none of these, or the axes belong to no figure.
        ProbeError: If a file cannot be written.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ValueError(f"format {unknown[0]!r} is unknown; allowed: {', '.join(FORMATS)}")
    drawn = figure if isinstance(figure, Axes | Figure) else draw(figure, size=size)
    whole = drawn.get_figure(root=True) if isinstance(drawn, Axes) else drawn
    if whole is None:
        raise ValueError("these axes belong to no figure")
    base = Path(path)
    files = tuple(base.with_name(f"{base.name}.{name}") for name in formats)
    with style.sheet(), _laid_out(whole):
        for name, file in zip(formats, files, strict=True):
            content = BytesIO()
            whole.savefig(content, format=name, **FORMATS[name])
            written = content.getvalue()
            if name == "svg":  # where the font is not there, one of its widths
                written = written.replace(FONT, FONT + b", Verdana, sans-serif")
            write_bytes(file, written)
    return files


@contextmanager
def _laid_out(figure: Figure) -> Iterator[None]:
    """Inside a ``with`` a figure is laid out, once for all formats; it takes as long as drawing."""
    engine = figure.get_layout_engine()
    if engine is None:
        yield
        return
    engine.execute(figure)
    figure.set_layout_engine("none")
    try:
        yield
    finally:
        figure.set_layout_engine(engine)


@dataclass(frozen=True)
class _Plan:
    """Where the parts of a chart stand.

    Args:
        width: Of the figure (inches).
        title: Lines above the axes.
        body: Height of the axes and of what stands at them (inches).
        across: Width of the axes (points), about.
        place: Where the legend stands inside them, in shares of them; ``None`` is below.
        columns: Columns of the legend where it stands below.
        below: Its height there (inches).
    """

    width: float
    title: Sequence[str]
    body: float
    across: float
    place: tuple[float, float] | None
    columns: int
    below: float

    @property
    def height(self) -> float:
        """Of the chart with its title and legend (inches)."""
        return self.body + style.LINE * len(self.title) + self.below

    @property
    def upwards(self) -> float:
        """Height of the axes (points), about."""
        return _upwards(self.body)


def _plans(charts: Sequence[Chart], width: float, height: float | None) -> list[_Plan]:
    """A plan for each of several charts below one another; they share a height that is given."""
    titles = _titles(charts, width)
    across = min(style.across(chart, width) for chart in charts)  # they are aligned
    both = zip(charts, titles, strict=True)
    plans = [_plan(chart, title, width, across) for chart, title in both]
    if height is None:
        return plans
    needed = sum(plan.height for plan in plans)
    heights = [height * plan.height / needed for plan in plans]
    whole = zip(charts, titles, heights, strict=True)
    plans = [_plan(chart, title, width, across, high) for chart, title, high in whole]
    if any(plan.body < LOWEST for plan in plans):
        least = height + sum(max(0, LOWEST - plan.body) for plan in plans)
        raise UsageError(
            f"a height of {height:g} has no room for title, axes and legend; allowed: at least"
            f" {np.ceil(least * 10) / 10:g} inches, or a shorter title"
        )
    return plans


def _plan(
    chart: Chart, title: Sequence[str], width: float, across: float, height: float | None = None
) -> _Plan:
    """The legend inside of the axes where it has room, else below them, as wide as the figure."""
    above = style.LINE * len(title)
    entries = legend_entries(chart)
    body = _body(chart) if height is None else height - above
    place = _legend_place(chart, entries, across, body)
    columns = max(1, int((72 * width - LEFT + APART) // (_entry_width(entries) + APART)))
    below = style.ENTRY * -(-len(entries) // columns) if place is None else 0
    body -= 0 if height is None else below
    return _Plan(width, title, body, across, place, columns, below)


def _inside_of(chart: Chart, axes: Axes) -> _Plan:
    """The plan for axes that are there already, with the size that they have before drawing."""
    box = axes.get_window_extent()
    dots = axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    width = (72 * box.width / dots + style.AROUND) / 72
    (title,), body = _titles([chart], width), box.height / dots + AT_AXES
    across = style.across(chart, width)
    place = _legend_place(chart, legend_entries(chart), across, body)
    return _Plan(width, title, body, across, place, columns=1, below=0)


def _legend_place(
    chart: Chart, entries: Sequence[Entry], across: float, body: float
) -> tuple[float, float] | None:
    """Where a legend stands inside axes of this width (points), if it has room there."""
    upwards = _upwards(body)
    if not entries or across <= 0 or upwards <= 0:
        return None
    wide, high = _entry_width(entries), 72 * style.ENTRY * (len(entries) + 0.3)
    return free_place(chart, wide / across, high / upwards)


def _entry_width(entries: Sequence[Entry]) -> float:
    """Width of the widest entry of a legend with its sample (points)."""
    texts = (style.text_width(shortened(label, CHARACTERS)) for _, label in entries)
    return BESIDE_TEXT + max(texts, default=0)


def _upwards(body: float) -> float:
    return 72 * (body - AT_AXES)


def _titles(charts: Sequence[Chart], width: float) -> list[list[str]]:
    """Lines above each chart: its heading, unless that of the chart above says the same."""
    titles, above = [], None
    for chart in charts:
        heading = [line for line in chart.heading if line]
        lines = heading if heading and heading != above else [chart.title]
        room = 72 * width - max(LEFT, style.names_room(chart))
        titles.append([part for line in lines if line for part in style.fitting(line, room)])
        above = heading
    return titles


def _body(chart: Chart) -> float:
    """Height of the axes and of what stands at them (inches)."""
    rows = len(chart.y.names)
    below = 0.06 * min(widest(chart.x.names), 24) if len(chart.x.names) > 8 else 0
    if chart.cells is not None:
        return 0.95 + below + min(max(0.12 * len(chart.cells.values), 1.2), 4.5)
    if chart.horizontal and rows:
        return 0.75 + 0.22 * rows * max(1, len(chart.series) / 2)
    return 2.3 + below


def _draw(chart: Chart, plan: _Plan, axes: Axes) -> None:
    style.scale(axes, "x", chart.x, margin=chart.cells is None)
    style.scale(axes, "y", chart.y, margin=chart.cells is None)
    lower = style.x_ticks(axes, chart, plan.across)
    style.y_ticks(axes, chart, plan.upwards)
    style.rules(axes, chart, plan.upwards)
    if chart.cells is not None:
        cells_marks(axes, chart.cells)
    floor_marks(axes, chart)
    for series in chart.series:
        series_marks(axes, chart, series)
    for interval in chart.intervals:
        interval_marks(axes, chart, interval)
    above = 12 if chart.horizontal and any(not rule.named for rule in chart.rules) else None
    axes.set_title("\n".join(plan.title), loc="left", parse_math=False, pad=above)
    room = 72 * plan.width - BESIDE_TEXT
    handles = [_handle(chart, entry, room) for entry in legend_entries(chart)]
    if handles and plan.place is not None:
        _legend(axes, handles, loc="lower left", bbox_to_anchor=plan.place)
    elif handles:
        left = max(26.0, style.CHARACTER * style.names_width(chart))
        _legend_below(axes, handles, left, 32 + lower, plan.columns)


def _handle(chart: Chart, entry: Entry, room: float) -> Artist:
    """What stands for an entry in the legend, its text at most *room* points wide."""
    what, label = entry[0], style.cut(shortened(entry[1], CHARACTERS), room)
    if isinstance(what, Series):
        return _series_handle(what, label)
    if isinstance(what, Rule):
        return Line2D([], [], label=label, **style.rule_look(named=True))
    if what == "floor":
        return Patch(label=label, **style.FLOOR)
    several = any(interval.look is not None for interval in chart.intervals)
    answer = {"color": style.GREY if several else "black", "linewidth": 2.2, "markersize": 4}
    samples: dict[str, dict[str, Any]] = {
        "grey": {"color": style.GREY, "marker": "o", "linestyle": "none"},
        "answer": {**answer, "marker": "D"},
        "open answer": {**answer, "marker": ">"},
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
    if series.fit is not None:
        look |= style.fit_look(series)
    return Line2D([], [], label=label, **look)


def _legend_below(
    axes: Axes, handles: Sequence[Artist], left: float, below: float, columns: int
) -> None:
    """A legend under the axis label, in columns, by points left of and below the axes."""
    # Below the axis label whatever the height of the axes, hence points and no share of it.
    figure = axes.get_figure(root=True)
    transform = axes.transAxes
    if figure is not None:
        transform += ScaledTranslation(-left / 72, -below / 72, figure.dpi_scale_trans)
    where = {"bbox_to_anchor": (0, 0), "bbox_transform": transform}
    _legend(axes, handles, loc="upper left", ncols=columns, columnspacing=2, **where)


def _legend(axes: Axes, handles: Sequence[Artist], **where: Any) -> None:
    """A legend; rules behind it are hidden."""
    legend = axes.legend(handles=handles, borderaxespad=0, handlelength=2.4, **where)
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
        places, values = inside(chart.x, series.fit[0]), inside(chart.y, series.fit[1])
        axes.plot(places, values, color=look["color"], **style.fit_look(series))
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
        width = 0.9 if series.joined or series.fit is not None else 1.2
        alpha = None if series.fit is None else style.LIGHT
        ends = along[known], low[known], high[known]
        bars(*ends, colors=colour, linewidth=width, alpha=alpha, zorder=2)
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
    """An answer: its bar with a cap at each end, or an arrow where it goes on, and its diamond."""
    colour = "black" if interval.look is None else style.COLOURS[interval.look % len(style.COLOURS)]
    ends = inside(chart.x, np.array([interval.low, interval.high]))
    heights, transform = [interval.y, interval.y], axes.transData
    if interval.lane and (figure := axes.get_figure(root=True)) is not None:
        transform += ScaledTranslation(0, interval.lane * LANE / 72, figure.dpi_scale_trans)
    axes.plot(ends, heights, color=colour, linewidth=2.2, zorder=4, transform=transform)
    mark: dict[str, Any] = {"color": colour, "clip_on": False, "transform": transform}
    caps = slice(1) if interval.beyond else slice(2)
    cap = mark | {"marker": "|", "markersize": 7, "markeredgewidth": 1.4, "linestyle": "none"}
    axes.plot(ends[caps], heights[caps], zorder=4, **cap)
    if interval.beyond:
        axes.plot(ends[1:], heights[1:], marker=">", markersize=5, zorder=5, **mark)
    if interval.at is not None:
        white: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.7}
        at = inside(chart.x, np.array([interval.at]))
        axes.plot(at, heights[1:], marker="D", markersize=5, zorder=6, **white, **mark)
    if interval.label:
        _interval_label(axes, chart, interval, ends)


def _interval_label(axes: Axes, chart: Chart, interval: Interval, ends: Floats) -> None:
    """What an answer says beside its mark, on whatever it stands over."""
    side = label_side(chart, interval)
    at, offset, across, up = {
        "left": (ends[0], (-5, 0), "right", "center"),
        "right": (ends[1], (5, 0), "left", "center"),
        "above": (ends.mean(), (0, 5), "center", "bottom"),
    }[side]
    axes.annotate(
        shortened(interval.label, NAME),
        (at, interval.y),
        xytext=offset,
        textcoords="offset points",
        ha=across,
        va=up,
        fontweight="bold",
        parse_math=False,
        bbox={"facecolor": "white", "linewidth": 0, "pad": 0.6},
        zorder=7,
    )


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
