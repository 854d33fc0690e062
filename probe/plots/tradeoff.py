"""What attention patterns cost in loss against the share of the KV cache that they keep."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from probe.analysis.attended_answer import ranged
from probe.plots import marks, scales, style

FRONTIER: dict[str, Any] = {
    "color": style.GREY,
    "linestyle": "-",
    "marker": "none",
    "linewidth": 0.9,
}
FULL: dict[str, Any] = {"color": "black", "marker": "x", "linestyle": "none", "markersize": 5}
TICKS = tuple(100 / 2**power for power in range(12, -1, -1))
"""Shares of the cache, per cent."""


def tradeoff(
    frame: pd.DataFrame,
    *,
    tolerances: Mapping[float, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw delta against the share of the KV cache, a point with its interval for each pattern.

    Args:
        frame: Columns :data:`probe.analysis.attended.COLUMNS`; delta in nats a token.
        tolerances: Levels to draw (nats) with their text.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes: share of the cache (%, logarithmic), delta, full attention as a cross, and a grey
        line through the patterns that neither it nor another pattern beats in both.

    Raises:
        EmptyFigureError: If no pattern has a known share.
    """
    rows = frame[frame["kv_share"] > 0].copy()
    if rows.empty:
        raise style.EmptyFigureError("no pattern to draw whose share of the KV cache is known")
    rows["family"] = rows["condition"].astype(str).map(family)
    names = list(dict.fromkeys(rows["family"]))
    with style.sheet():
        axes = style.column(2.4 + style.ENTRY * (len(names) + 2)) if ax is None else ax
        axes.axhline(0, color=style.GREY, linewidth=0.6)
        best = rows[rows["frontier"].astype(bool)].sort_values("kv_share")
        if len(best) > 1:
            axes.plot(100 * best["kv_share"], best["delta"], **FRONTIER, zorder=1.8)
        handles = []
        for number, name in enumerate(names):
            own = rows[rows["family"] == name].sort_values("kv_share")
            look = {**style.look(number), "linestyle": "none"}
            marks.measured(axes, 100 * own["kv_share"], own, look)
            handles.append(marks.handle(style.short(name), look))
        if len(best) > 1:
            handles.append(marks.handle("frontier", FRONTIER))
        axes.plot([100], [0], clip_on=False, **FULL)
        handles.append(marks.handle("full attention", FULL))
        axes.set_xscale("log", base=2)
        low = float(100 * rows["kv_share"].min())
        ticks = [tick for tick in TICKS if tick > low / 2]
        axes.set_xlim(min(ticks[0], low / 1.1), 100)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        scales.deltas(axes, rows, min(tolerances or {}, default=scales.LINEAR))
        scales.lines_at(axes, tolerances or {})
        axes.set_xlabel("share of the KV cache kept (%)")
        marks.legend_below(axes, handles)
    return axes


def family(condition: str) -> str:
    """The pattern without the numbers that a series of them varies: ``local, sinks=4``."""
    inside = re.sub(r"^attend\((.*)\)$", r"\1", condition)
    plain = re.sub(r"\b(w|size|k|stride|links|gap)=\d+(, )?|positions=\[[^]]*\](, )?", "", inside)
    return ranged(plain).replace("(sinks=1)", "").replace("()", "").replace("(, ", "(").strip()
