"""What each token of the context adds to each target of a window, as colours over the text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm

from probe.plots import scales, style
from probe.plots.heatmap import COLOURS

MOST_NAMES = 40
"""So many tokens are written at an axis; of more only their places are told."""


def importance(
    frame: pd.DataFrame, *, texts: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw importance: tokens of the text to the right, targets downwards.

    Cells that no context reaches are grey.

    Args:
        frame: From :func:`probe.analysis.dense.importance`: ``position, context`` (indices in the
            document)``, importance`` (nats).
        texts: The texts of the tokens from the first of any context to the last target.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes; the colours' scale (nats) is linear below `scales.LINEAR`.

    Raises:
        EmptyFigureError: If there is no importance to draw.
        ValueError: If there are not as many texts as tokens.
    """
    known = frame.dropna(subset="importance")
    if known.empty:
        raise style.EmptyFigureError("no importance to draw")
    first, last = int(known["context"].min()), int(known["position"].max())
    if texts is not None and len(texts) != last + 1 - first:
        raise ValueError(f"{last + 1 - first} tokens have {len(texts)} texts")
    targets = np.sort(known["position"].unique())
    cells = np.full((len(targets), last + 1 - first), np.nan)
    down = np.searchsorted(targets, known["position"].to_numpy())
    cells[down, known["context"].to_numpy() - first] = known["importance"]
    largest = max(float(np.nanmax(np.abs(cells))), 3 * scales.LINEAR)
    with style.sheet():
        axes = style.column(1.3 + min(max(0.11 * len(targets), 1.2), 4.5)) if ax is None else ax
        axes.set_facecolor("#E4E4E4")
        mesh = axes.pcolormesh(
            np.arange(first, last + 2),
            np.arange(len(targets) + 1),
            np.ma.masked_invalid(cells),
            cmap=LinearSegmentedColormap.from_list("importance", COLOURS),
            norm=SymLogNorm(scales.LINEAR, linscale=0.5, vmin=-largest, vmax=largest),
            rasterized=True,
        )
        axes.set_ylim(len(targets), 0)
        axes.spines[["left", "bottom"]].set_visible(False)
        _names(axes, targets, first, texts)
        _colourbar(axes, mesh, largest)
    return axes


def _names(axes: Axes, targets: np.ndarray, first: int, texts: Sequence[str] | None) -> None:
    """Write the tokens where there is room, else their places in the document."""
    axes.set_xlabel("token of the context (index in the document)")
    axes.set_ylabel("target")
    shown = None if texts is None else [style.short(repr(text)[1:-1], 12) for text in texts]
    small: dict[str, Any] = {"fontsize": 4.5, "parse_math": False}
    if shown is not None and len(targets) <= MOST_NAMES:
        names = [shown[int(target) - first] for target in targets]
        axes.set_yticks(np.arange(len(targets)) + 0.5, names, **small)
    else:
        step = max(1, -(-len(targets) // 8))
        places = np.arange(0, len(targets), step)
        axes.set_yticks(places + 0.5, [f"{int(target):,}" for target in targets[places]])
    if shown is not None and len(shown) <= MOST_NAMES:
        axes.set_xticks(np.arange(len(shown)) + first + 0.5, shown, rotation=90, **small)


def _colourbar(axes: Axes, mesh: QuadMesh, largest: float) -> None:
    figure = axes.get_figure(root=True)
    if figure is None:
        return
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=30)
    sizes = [10.0**power for power in range(-2, 3) if 10.0**power <= largest]
    scales.ticks(bar.ax.yaxis, [-size for size in reversed(sizes)] + [0.0, *sizes])
    bar.outline.set_linewidth(0.6)
    bar.set_label("importance (nats): blue helps")
