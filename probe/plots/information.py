"""What kind of information far text gives: contrasts, and ablated information, by octave."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from probe.analysis.answer import in_order
from probe.plots import marks, scales, style


def information(contrast: pd.DataFrame, ratio: pd.DataFrame) -> tuple[Axes, Axes]:
    """Draw the contrasts above the ablated information, octave under octave.

    Args:
        contrast: Contrasts, as `contrasts` takes them.
        ratio: Ablated information, as `ratios` takes it.

    Returns:
        The axes of both, in a new figure of column width.

    Raises:
        EmptyFigureError: If one of the two has nothing to draw.
    """
    entries = contrast["contrast"].nunique() + ratio["condition"].nunique()
    with style.sheet():
        figure = Figure(figsize=(style.WIDTH, 4.3 + style.ENTRY * entries), layout="constrained")
        upper, lower = figure.subplots(2)
    return contrasts(contrast, upper), ratios(ratio, lower)


def contrasts(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the contrasts between conditions by octave of distance, with pointwise intervals.

    Each may be negative, and they are no shares of a whole.

    Args:
        frame: Contrasts, columns ``contrast, distance_from, distance_to, delta, low, high``
            (tokens; nats a token); of a frame with ``scale`` the octaves alone are drawn.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes: distance (tokens), and differences of losses (nats a token) to a scale that is
        linear around 0.

    Raises:
        EmptyFigureError: If there is no contrast to draw.
    """
    rows = frame[frame["scale"] == "octave"] if "scale" in frame else frame
    if rows.empty:
        raise style.EmptyFigureError("no contrast to draw")
    names = list(dict.fromkeys(rows["contrast"].astype(str)))
    with style.sheet():
        axes = style.column(2.4 + style.ENTRY * len(names)) if ax is None else ax
        handles = _series(axes, rows, "contrast", names, "delta")
        scales.distances(axes, _from_one(rows))
        scales.differences(axes, rows, "delta")
        scales.zero(axes)
        axes.set_ylabel("contrast (nats a token)")
        marks.legend_below(axes, handles)
    return axes


def ratios(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw ablated information by octave of distance, with pointwise intervals.

    It is the delta of a condition over that of ``truncate``: 0 where the condition costs nothing,
    1 where it costs what deletion costs; it may be more. Where it is unresolved a grey cross stands
    on the axis and no number.

    Args:
        frame: Ablated information, columns ``condition, distance_from, distance_to, ratio, low,
            high, resolved`` (tokens).
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes: distance (tokens) and the ratio.

    Raises:
        EmptyFigureError: If there is no ratio to draw, resolved or not.
    """
    if frame.empty:
        raise style.EmptyFigureError("no ablated information to draw")
    names = in_order(frame["condition"].astype(str))
    resolved = frame["resolved"].astype(bool)
    with style.sheet():
        axes = style.column(2.4 + style.ENTRY * (len(names) + 1)) if ax is None else ax
        handles = _series(axes, frame[resolved], "condition", names, "ratio")
        scales.distances(axes, _from_one(frame))
        axes.set_ylim(*_limits(frame[resolved]))
        handles += _unresolved(axes, frame[~resolved], names)
        scales.zero(axes)
        scales.lines_at(axes, {1.0: "truncate"})
        axes.set_ylabel("ablated information")
        marks.legend_below(axes, handles)
    return axes


def _series(
    axes: Axes, rows: pd.DataFrame, column: str, names: Sequence[str], value: str
) -> list[Line2D]:
    """Draw one series a name, side by side, and give the legend's entries."""
    handles = []
    for number, (name, place) in enumerate(zip(names, marks.places(len(names)), strict=True)):
        look = style.look(number)
        own = rows[rows[column].astype(str) == name].sort_values("distance_from")
        marks.points(axes, own, look, value, place)
        handles.append(marks.handle(style.short(name), look))
    return handles


def _unresolved(axes: Axes, rows: pd.DataFrame, names: Sequence[str]) -> list[Line2D]:
    if rows.empty:
        return []
    beside = dict(zip(names, marks.places(len(names)), strict=True))
    octaves = rows["condition"].astype(str).map(beside).to_numpy(dtype=np.float64)
    marks.unresolved(axes, marks.octave_middles(rows) * 2**octaves)
    return [marks.handle("unresolved", marks.UNRESOLVED)]


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """From 0 or below to 1 or above; a bar that is longer than all ratios together is cut."""
    ratio = rows["ratio"].to_numpy(dtype=np.float64)
    lowest, highest = min(ratio.min(initial=0), 0), max(ratio.max(initial=1), 1)
    room = highest - lowest
    low = max(float(np.nanmin(np.append(rows["low"], lowest))), lowest - room)
    high = min(float(np.nanmax(np.append(rows["high"], highest))), highest + room)
    return min(low, lowest) - 0.08 * room, max(high, highest) + 0.08 * room


def _from_one(rows: pd.DataFrame) -> pd.DataFrame:
    """The first octave is drawn from 1 on: its middle has no place nearer to 0."""
    return rows.assign(distance_from=rows["distance_from"].clip(lower=1))
