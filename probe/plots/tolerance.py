"""Effective context against the tolerance that it is read at."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from probe.analysis.answer import in_order
from probe.plots import marks, scales, style

Floats = NDArray[np.float64]

PERCENT = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
"""Ticks of a tolerance (percent of perplexity)."""
_BEYOND: dict[str, Any] = {"marker": "^", "linestyle": "none"}


def tolerance(frame: pd.DataFrame, *, reach: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw the effective context at every tolerance, one line a condition, with its intervals.

    What lies beyond reach is drawn at the reach, as triangles; a tolerance at which a condition is
    unresolved has neither line nor band but a grey cross on the axis.

    Args:
        frame: The tolerance curve, columns ``condition, tolerance, kind, length, low, high``: the
            tolerance as a share of perplexity, lengths in tokens, missing beyond reach.
        reach: Where the curves end (tokens); without it the longest length or limit.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes: the tolerance (percent of perplexity, logarithmic) and the effective context
        (tokens), linear to 1 and then logarithmic to base 2.

    Raises:
        EmptyFigureError: If no condition has an answer at any tolerance.
    """
    resolved = frame[frame["kind"] != "unresolved"]
    if resolved.empty:
        raise style.EmptyFigureError("no effective context at any tolerance to draw")
    lengths = _lengths(resolved)
    end = max(int(np.nanmax(np.append(lengths, 1))), reach or 1)
    names = in_order(frame["condition"].astype(str))
    with style.sheet():
        axes = style.column(2.4 + style.ENTRY * (len(names) + 2)) if ax is None else ax
        _scales(axes, frame, end)
        handles = []
        for number, name in enumerate(names):
            own = frame[frame["condition"].astype(str) == name].sort_values("tolerance")
            known = (own["kind"] != "unresolved").to_numpy(dtype=bool)
            _line(axes, own, known, end, number)
            look = style.look(number) if known.any() else {"color": style.GREY}
            handles.append(marks.handle(style.short(name), {**look, "marker": "none"}))
        if np.isnan(lengths[:, 0]).any():
            handles.append(marks.handle("beyond reach", {"color": style.GREY, **_BEYOND}))
        if len(resolved) < len(frame):
            handles.append(marks.handle("unresolved", marks.UNRESOLVED))
        marks.legend_below(axes, handles)
    return axes


def _line(axes: Axes, rows: pd.DataFrame, known: NDArray[np.bool_], end: int, number: int) -> None:
    """Line and band of one condition; what is beyond reach is drawn at its end."""
    look = style.look(number)
    percent = 100 * rows["tolerance"].to_numpy(dtype=np.float64)
    length, low, high = _lengths(rows).T
    beyond = known & np.isnan(length)
    drawn = np.where(known, np.where(beyond, end, length), np.nan)
    low, high = (np.where(np.isnan(limit), end, limit) for limit in (low, high))
    axes.fill_between(percent, low, high, where=known, color=look["color"], alpha=0.18, linewidth=0)
    axes.plot(percent, drawn, **{**look, "marker": "none"})
    # Some only, and others for the next condition: none hides those of another.
    some = slice(2 * (number % 3), None, 6)
    at = percent[beyond][some]
    axes.plot(at, np.full(len(at), end), color=look["color"], clip_on=False, **_BEYOND)
    marks.unresolved(axes, percent[~known][some])


def _lengths(rows: pd.DataFrame) -> Floats:
    """Length and limits as numbers, NaN where missing, shape ``(rows, 3)``."""
    columns = rows[["length", "low", "high"]].astype("Float64")
    return columns.to_numpy(dtype=np.float64, na_value=np.nan)


def _scales(axes: Axes, frame: pd.DataFrame, end: int) -> None:
    percent = 100 * frame["tolerance"].astype(float)
    axes.set_xscale("log")
    axes.set_xlim(percent.min() / 1.1, percent.max() * 1.1)
    places = [place for place in PERCENT if percent.min() / 1.1 <= place <= percent.max() * 1.1]
    scales.ticks(axes.xaxis, places)
    axes.set_xlabel("tolerance (rise of perplexity, %)")
    axes.set_yscale("symlog", base=2, linthresh=1, linscale=1)
    lengths = _lengths(frame[frame["kind"] != "unresolved"])
    shortest = float(np.nanmin(np.append(lengths, end)))
    bottom = 0 if shortest < 8 else 2 ** int(np.log2(shortest))
    scales.ticks(axes.yaxis, scales.powers(end, bottom))
    axes.set_ylim(bottom / 1.3 if bottom else -0.3, end * 1.25)
    scales.lines_at(axes, {end: "reach"})
    axes.set_ylabel("effective context (tokens)")
