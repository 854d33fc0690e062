"""The axes that losses by distance need, with whole numbers as ticks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullFormatter, NullLocator

LINEAR = 0.01
"""Differences below this (nats) are drawn to a linear scale, larger ones to a logarithmic."""


def distances(axes: Axes, frame: pd.DataFrame, unit: str = "tokens") -> None:
    """A place for distance 0: linear to 1, then logarithmic to base 2.

    Args:
        axes: The axes; their x-axis is set.
        frame: What is drawn, with ``distance_from, distance_to``.
        unit: What distances are counted in.
    """
    first, reach = int(frame["distance_from"].min()), int(frame["distance_to"].max())
    axes.set_xscale("symlog", base=2, linthresh=1, linscale=1)
    places = powers(reach)
    ticks(axes.xaxis, [place for place in places if place >= first or place * 1.3 > first])
    axes.set_xlim(-0.3 if first == 0 else first / 1.3, reach * 1.1)
    axes.set_xlabel(f"distance ({unit})")


def powers(reach: int, first: int = 0) -> list[int]:
    """Ticks of an axis to base 2: 0, and powers of 2, or of 4 where these were too many."""
    step = 1 if reach <= 64 * max(first, 1) else 2
    found = [0, *(2**power for power in range(0, reach.bit_length(), step))]
    return [place for place in found if place >= first]


def deltas(axes: Axes, frame: pd.DataFrame, threshold: float) -> None:
    """A place for deltas around and below 0: linear to a threshold, logarithmic from there.

    Args:
        axes: The axes; their y-axis is set.
        frame: What is drawn, with ``delta, low, high`` in nats a token.
        threshold: Where the scale becomes logarithmic (nats).
    """
    lowest, highest = (
        float(np.nanmin(frame["delta"])),
        float(np.nanmax(frame[["delta", "high"]].to_numpy(dtype=np.float64))),
    )
    top = max(highest, 3 * threshold) * 1.25
    # A band that reaches far below 0 says no more than one that reaches below it: it is cut.
    band = frame["low"].min()  # missing where too few documents make no band
    bottom = 1.25 * min(lowest, 0 if pd.isna(band) else max(float(band), -3 * threshold), 0)
    bottom -= threshold / 4
    _symlog(axes, bottom, top, threshold, (1, 3))
    axes.set_ylabel("delta (nats a token)")


def differences(axes: Axes, frame: pd.DataFrame, value: str) -> None:
    """Differences of either sign: linear while they are small, else logarithmic beyond `LINEAR`.

    Args:
        axes: The axes; their y-axis is set.
        frame: What is drawn, with ``low, high`` and the column *value*.
        value: The column of the differences.
    """
    drawn = frame[[value, "low", "high"]].to_numpy(dtype=np.float64)
    finite = drawn[np.isfinite(drawn)]
    bottom, top = float(finite.min(initial=0)), float(finite.max(initial=0))
    if max(-bottom, top) <= 10 * LINEAR:
        edge = max(0.05 * (top - bottom), LINEAR / 20)
        axes.set_ylim(bottom - edge, top + edge)
        axes.yaxis.set_major_locator(MaxNLocator(6))
    else:
        most = 1.25 * max(top, LINEAR / 4), 1.25 * min(bottom, -LINEAR / 4)
        decades = np.log10(max(most[0] / LINEAR, 1)) + np.log10(max(-most[1] / LINEAR, 1))
        _symlog(axes, most[1], most[0], LINEAR, (1, 3) if decades < 3 else (1,))


def _symlog(axes: Axes, bottom: float, top: float, threshold: float, digits: Sequence[int]) -> None:
    axes.set_yscale("symlog", base=10, linthresh=threshold, linscale=0.5)
    sizes = [digit * 10.0**power for power in range(-4, 3) for digit in digits]
    sizes = [size for size in sizes if size > threshold * 0.999]
    signed = [-size for size in reversed(sizes)] + [0.0, *sizes]
    ticks(axes.yaxis, [size for size in signed if bottom <= size <= top])
    axes.set_ylim(bottom, top)


def ticks(axis: Any, places: Sequence[float], labels: Sequence[str] | None = None) -> None:
    """Put ticks at these places and at no other, with a true minus sign before their numbers."""
    shown = labels or [f"{place:g}".replace("-", "−") for place in places]
    axis.set_major_locator(FixedLocator(places))
    axis.set_major_formatter(FixedFormatter(shown))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def zero(axes: Axes) -> None:
    """A thin line where there is no difference."""
    axes.axhline(0, color="black", linewidth=0.5, zorder=0.4)


def lines_at(axes: Axes, places: Mapping[float, str]) -> None:
    """Thin dotted lines across the axes, each with its text at the right edge.

    Args:
        axes: The axes, with their limits set.
        places: Text of each height; heights outside the axes are left out.
    """
    bottom, top = axes.get_ylim()
    for height, text in places.items():
        if bottom < height < top:
            axes.axhline(height, color="black", linewidth=0.5, linestyle=":", zorder=0.5)
            axes.annotate(
                text,
                (1, height),
                xycoords=("axes fraction", "data"),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
            )
