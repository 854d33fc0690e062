"""Single attention heads: what replacing each costs, by layer and head, as colours."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from probe.plots import scales, style
from probe.plots.heatmap import colourbar, coloured

_DOT: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 2.5,
    "color": "black",
    "markeredgecolor": "white",
    "markeredgewidth": 0.5,
}


def heads(frame: pd.DataFrame, *, alpha: float = 0.05, ax: Axes | None = None) -> Axes:
    """Draw delta of one kind of replacement as colour: heads to the right, layers upwards.

    Heads that are told from 0 have a dot; those that were not replaced are grey.

    Args:
        frame: Columns :data:`probe.analysis.heads.COLUMNS`, of one kind.
        alpha: Holm-adjusted p below which a head is told from 0.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes; the colours' scale (nats a token) is linear below `scales.LINEAR`.

    Raises:
        EmptyFigureError: If there is no head to draw.
        ValueError: If there are heads of several kinds.
    """
    if frame.empty:
        raise style.EmptyFigureError("no single head was replaced")
    kinds = list(frame["kind"].astype(str).unique())
    if len(kinds) > 1:
        raise ValueError(f"one kind is drawn at a time; got {', '.join(kinds)}")
    layer, head = (frame[name].to_numpy(np.int64) for name in ("layer", "head"))
    cells = np.full((layer.max() + 1, head.max() + 1), np.nan)
    cells[layer, head] = frame["delta"]
    with style.sheet():
        height = 1.2 + min(max(0.12 * len(cells), 1.0), 5.0)
        axes = style.column(height) if ax is None else ax
        right, up = (np.arange(count + 1) - 0.5 for count in cells.shape[::-1])
        mesh = coloured(axes, right, up, cells)
        told = frame[frame["p_holm"] < alpha]
        axes.plot(told["head"], told["layer"], **_DOT)
        axes.spines[["left", "bottom"]].set_visible(False)
        for axis, count in ((axes.xaxis, cells.shape[1]), (axes.yaxis, cells.shape[0])):
            scales.ticks(axis, list(range(0, count, max(1, -(-count // 10)))))
        axes.set_xlabel("head")
        axes.set_ylabel("layer")
        colourbar(axes, mesh, "delta (nats a token)")
        title = f"{kinds[0]} in place of a head"
        axes.set_title(style.short(title + ("; dot: told from 0" if len(told) else ""), 56))
    return axes
