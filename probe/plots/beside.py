"""Windows of attention beside text that is cut off or hidden at the same distance."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from probe.analysis.beside import SERIES
from probe.plots import marks, scales, style

SHIFT = 1.05
"""Factor that marks at one width stand apart by."""


def beside(
    frame: pd.DataFrame,
    *,
    tolerances: Mapping[float, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw delta by width, a line with intervals for each series.

    Args:
        frame: Of :func:`probe.analysis.beside.beside`; its differences are left out.
        tolerances: Levels to draw (nats) with their text.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes: width or distance (tokens, logarithmic), and delta (nats a token).

    Raises:
        EmptyFigureError: If there is no width that text was cut off at, too.
    """
    rows = frame[frame["series"].isin(SERIES)]
    if rows.empty:
        raise style.EmptyFigureError("no attend(local(w)) in a grid with a distance of w")
    names = [name for name in SERIES if (rows["series"] == name).any()]
    with style.sheet():
        axes = style.column(2.4 + style.ENTRY * (len(names) + 1)) if ax is None else ax
        axes.axhline(0, color=style.GREY, linewidth=0.6)
        handles = []
        for number, name in enumerate(names):
            own = rows[rows["series"] == name].sort_values("w")
            look = style.look(number)
            at = own["w"].to_numpy(float) * SHIFT ** (number - (len(names) - 1) / 2)
            marks.measured(axes, at, own, look)
            handles.append(marks.handle(style.short(name), look))
        widths = sorted({int(w) for w in rows["w"]})
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(widths))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
        scales.deltas(axes, rows, min(tolerances or {}, default=scales.LINEAR))
        scales.lines_at(axes, tolerances or {})
        axes.set_xlabel("w: keys in the window, or distance of the far text")
        marks.legend_below(axes, handles)
    return axes
