"""What is drawn into axes: lines with bands, points with bars, and the legend below."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike, NDArray

from probe.plots.style import GREY, sheet, short

UNRESOLVED: dict[str, Any] = {"color": GREY, "marker": "x", "linestyle": "none"}
"""A grey cross on the axis stands where there is no answer."""


def line(axes: Axes, rows: pd.DataFrame, look: Mapping[str, Any], value: str = "delta") -> None:
    """A line over the middles of distance bins, with its pointwise band.

    Args:
        axes: The axes.
        rows: One series, with ``distance_from, distance_to, low, high`` and the column *value*.
        look: Colour, line and marker.
        value: The column to draw.
    """
    band(axes, rows, look)
    axes.plot(_middles(rows), rows[value], markevery=_some(rows), **look)


def band(axes: Axes, rows: pd.DataFrame, look: Mapping[str, Any], alpha: float = 0.18) -> None:
    """The pointwise band of a series, from ``low`` to ``high``."""
    axes.fill_between(
        _middles(rows), rows["low"], rows["high"], color=look["color"], alpha=alpha, linewidth=0
    )


def measured(axes: Axes, at: ArrayLike, rows: pd.DataFrame, look: Mapping[str, Any]) -> None:
    """Deltas with their intervals where those are known, at any places.

    Args:
        axes: The axes.
        at: Where each row stands.
        rows: Columns ``delta, low, high``.
        look: Colour, line and marker.
    """
    places, limits = np.asarray(at, float), rows[["low", "high"]].to_numpy(float)
    known = ~np.isnan(limits[:, 0])
    axes.vlines(places[known], limits[known, 0], limits[known, 1], colors=look["color"])
    axes.plot(places, rows["delta"].to_numpy(float), **look)


def fit(axes: Axes, rows: pd.DataFrame, look: Mapping[str, Any]) -> None:
    """The fitted curve of a series as its line, with marks at both ends."""
    axes.plot(_middles(rows), rows["fit"], markevery=[0, len(rows) - 1], **look)


def named(axes: Axes, *lines: str, most: int = 56) -> Axes:
    """Axes whose title begins with these lines, such as the model and the data.

    Args:
        axes: The axes; what their title says already stands below.
        lines: The lines.
        most: Characters of a line; longer ones are cut.
    """
    told = [short(line, most) for line in lines if line]
    own = axes.get_title(loc="left")
    with sheet():
        axes.set_title("\n".join([*told, *([own] if own else [])]), loc="left")
    return axes


def fitted(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    """The fitted curve of a series as a hairline behind its bins."""
    axes.plot(_middles(rows), rows["fit"], color=colour, linewidth=0.5, zorder=1.9)


def _middles(rows: pd.DataFrame) -> "pd.Series[float]":
    return (rows["distance_from"] + rows["distance_to"] - 1) / 2


def _some(rows: pd.DataFrame) -> int:
    """A marker on every so many bins: a dozen on a line."""
    return max(1, len(rows) // 12)


def points(
    axes: Axes, rows: pd.DataFrame, look: Mapping[str, Any], value: str, place: float = 0
) -> None:
    """Points with bars in the middles of octaves of distance.

    Args:
        axes: The axes.
        rows: One series, with ``distance_from, distance_to, low, high`` and the column *value*.
        look: Colour, line and marker.
        value: The column to draw.
        place: Octaves to the right of the middle.
    """
    middle = octave_middles(rows) * 2**place
    values, low, high = (rows[name].to_numpy(dtype=np.float64) for name in (value, "low", "high"))
    axes.vlines(middle, low, high, color=look["color"], linewidth=0.9, zorder=2)
    axes.plot(middle, values, **{**look, "linewidth": 0.6}, zorder=2.1)


def octave_middles(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Geometric middles of octaves of distance; the first one is taken to begin at 1."""
    first = rows["distance_from"].to_numpy(dtype=np.float64)
    return np.asarray(np.sqrt(np.maximum(first, 1) * rows["distance_to"].to_numpy(np.float64)))


def places(count: int) -> list[float]:
    """Where the points of each of so many series stand beside the middle, in octaves.

    Their bars do not hide one another, and none comes near the next octave.
    """
    apart = min(0.18, 0.8 / max(count, 1))
    return [apart * (number - (count - 1) / 2) for number in range(count)]


def unresolved(axes: Axes, places: Sequence[float] | NDArray[np.float64]) -> None:
    """Grey crosses on the x-axis; the limits of the axes must be set."""
    axes.plot(
        places, np.full(len(places), axes.get_ylim()[0]), clip_on=False, zorder=5, **UNRESOLVED
    )


def handle(label: str, look: Mapping[str, Any]) -> Line2D:
    """What stands for a series in the legend."""
    return Line2D([], [], label=label, **look)


def legend_below(axes: Axes, handles: Sequence[Artist], *, lines: int = 1) -> None:
    """A legend under the axis label, one entry a line; *lines* is how many a tick's label has."""
    # Below the axis label whatever the height of the axes, hence points and no share of it.
    figure = axes.get_figure(root=True)
    below = (
        ScaledTranslation(-26 / 72, (-22 - 10 * lines) / 72, figure.dpi_scale_trans)
        if figure
        else None
    )
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=axes.transAxes if below is None else axes.transAxes + below,
        ncols=1,
        borderaxespad=0,
        handlelength=2.8,
    )
