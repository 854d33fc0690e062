"""Mean delta by distance and document, or by distance and position in the window, as colours."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
from numpy.typing import ArrayLike, NDArray

from probe.plots import scales, style

MOST_NAMES = 32
"""So many documents are named at the axis; of more only their number is told."""

# Blue is above 0, where far text is needed, as on the page. Both ends are dark and 0 is white, so
# that signs differ also for those who see no red.
COLOURS = ("#5C2600", "#D55E00", "#F5C242", "#FFFFFF", "#8CC4E8", "#0072B2", "#003B5C")


def heatmap(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw mean delta as colour: distance to the right; documents or positions downwards.

    Cells that no target fell into are grey.

    Args:
        frame: From :func:`probe.analysis.heatmap.delta_map`: ``document`` or ``position_from,
            position_to``, with ``condition, distance_from, distance_to, delta`` (tokens; nats a
            token) of one condition.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes: distance (tokens) to base 2, and a row for each document or stretch of positions;
        the colours' scale (nats a token) is linear below `scales.LINEAR`.

    Raises:
        EmptyFigureError: If there is no cell to draw.
        ValueError: If there are cells of several conditions.
    """
    if frame.empty:
        raise style.EmptyFigureError("no delta to draw")
    conditions = list(frame["condition"].astype(str).unique())
    if len(conditions) > 1:
        raise ValueError(f"one condition is drawn at a time; got {', '.join(conditions)}")
    side, rows = _rows(frame)
    with style.sheet():
        height = 1.1 + min(max(0.11 * len(rows), 1.2), 4.5)
        axes = style.column(height) if ax is None else ax
        mesh = _cells(axes, frame, side, rows)
        scales.distances(axes, frame)
        axes.set_xlim(frame["distance_from"].min(), frame["distance_to"].max())
        axes.set_ylim(len(rows), 0)
        axes.spines[["left", "bottom"]].set_visible(False)
        _names(axes, frame, side, rows)
        colourbar(axes, mesh, "delta (nats a token): blue needs far text")
        axes.set_title(style.short(conditions[0], 56))
    return axes


def _rows(frame: pd.DataFrame) -> tuple[str, list[object]]:
    """The column that tells the rows apart, and all of its values, also those without a cell."""
    if "document" in frame:
        return "document", sorted(frame["document"].unique())
    size = int((frame["position_to"] - frame["position_from"]).max())
    first, last = int(frame["position_from"].min()), int(frame["position_from"].max())
    return "position_from", list(range(first, last + 1, size))


def _cells(axes: Axes, frame: pd.DataFrame, side: str, rows: list[object]) -> QuadMesh:
    edges = np.unique(frame[["distance_from", "distance_to"]].to_numpy(dtype=np.int64))
    cells = np.full((len(rows), len(edges) - 1), np.nan)
    across = np.searchsorted(edges, frame["distance_from"].to_numpy(dtype=np.int64))
    cells[pd.Index(rows).get_indexer(pd.Index(frame[side])), across] = frame["delta"]
    return coloured(axes, edges, np.arange(len(rows) + 1), cells)


def coloured(axes: Axes, right: ArrayLike, down: ArrayLike, cells: NDArray[np.float64]) -> QuadMesh:
    """Draw deltas as colours, grey where there is none.

    Args:
        axes: The axes.
        right: Edges of the columns.
        down: Edges of the rows.
        cells: Nats a token, shape ``(rows, columns)``; NaN is no delta.
    """
    largest = max(float(np.nanmax(np.abs(cells))), 3 * scales.LINEAR)
    axes.set_facecolor("#E4E4E4")
    return axes.pcolormesh(
        right,
        down,
        np.ma.masked_invalid(cells),
        cmap=LinearSegmentedColormap.from_list("delta", COLOURS),
        norm=SymLogNorm(scales.LINEAR, linscale=0.5, vmin=-largest, vmax=largest),
        rasterized=True,
    )


def _names(axes: Axes, frame: pd.DataFrame, side: str, rows: list[object]) -> None:
    """What each row is, as far as there is room."""
    if side == "document":
        if len(rows) > MOST_NAMES:
            scales.ticks(axes.yaxis, [])
            axes.set_ylabel(f"{len(rows):,} documents")
            return
        names = [style.short(str(name), 18) for name in rows]
        places = np.arange(len(rows)) + 0.5
        axes.set_yticks(places, names, fontsize=5.5, parse_math=False)
        axes.tick_params(axis="y", length=0)
        return
    edges = [*map(str, rows), str(frame["position_to"].max())]
    step = max(1, -(-len(edges) // 8))
    scales.ticks(axes.yaxis, list(range(0, len(edges), step)), edges[::step])
    axes.set_ylabel("position in the window (tokens)")


def colourbar(axes: Axes, mesh: QuadMesh, label: str) -> None:
    """Put the scale of the colours beside the axes."""
    figure = axes.get_figure(root=True)
    if figure is None:
        return
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=30)
    largest = float(mesh.get_clim()[1] or 1)
    sizes = [10.0**power for power in range(-2, 3) if 10.0**power <= largest]
    scales.ticks(bar.ax.yaxis, [-size for size in reversed(sizes)] + [0.0, *sizes])
    bar.outline.set_linewidth(0.6)
    bar.set_label(label)
