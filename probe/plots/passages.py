"""Delta of passages, each perturbed alone."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from probe.analysis.answer import in_order
from probe.plots import marks, style

MOST = 20
"""Passages that are drawn: those with most targets."""


def passages(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw delta by passage, a mark with its interval for each condition.

    Args:
        frame: Columns ``condition, passage, delta, low, high, targets``, delta in nats; of many
            passages the 20 with most targets are drawn.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes: delta (nats a token) and the passages from top to bottom.

    Raises:
        EmptyFigureError: If there is no passage.
    """
    if frame.empty:
        raise style.EmptyFigureError("no passage to draw")
    names = in_order(frame["condition"].astype(str))
    counts = frame.groupby("passage", sort=False)["targets"].sum()
    drawn = counts.sort_values(ascending=False, kind="stable").index[:MOST]
    places = pd.Index([name for name in dict.fromkeys(frame["passage"]) if name in set(drawn)])
    with style.sheet():
        height = 1.1 + 0.22 * len(places) * max(1, len(names) / 2) + style.ENTRY * len(names)
        axes = style.column(height) if ax is None else ax
        axes.axvline(0, color=style.GREY, linewidth=0.6)
        handles = []
        for number, name in enumerate(names):
            own = frame[(frame["condition"].astype(str) == name) & frame["passage"].isin(drawn)]
            shift = (number - (len(names) - 1) / 2) * 0.7 / max(1, len(names))
            at = places.get_indexer(pd.Index(own["passage"])) + shift
            delta = own["delta"].to_numpy(dtype=float)
            limits = own[["low", "high"]].to_numpy(dtype=float)
            look = {**style.look(number), "linestyle": "none"}
            axes.plot(delta, at, **look)
            known = ~np.isnan(limits[:, 0])
            axes.hlines(at[known], limits[known, 0], limits[known, 1], colors=look["color"])
            handles.append(marks.handle(style.short(name), look))
        axes.set_yticks(range(len(places)), [style.short(str(name), 24) for name in places])
        axes.set_ylim(len(places) - 0.4, -0.6)
        axes.set_xlabel("delta (nats a token)")
        marks.legend_below(axes, handles)
    return axes
