"""The look of our figures, and the axes that a curve of losses needs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

from probe.analysis.floor import is_noise
from probe.analysis.summary import Summary

WIDTH = 3.4
"""Width of a figure in inches: one column of a paper."""

STYLE: dict[Any, Any] = {
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 7,
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "hatch.linewidth": 0.4,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "savefig.dpi": 300,
    "svg.fonttype": "path",
    "svg.hashsalt": "context-probe",
    "text.parse_math": False,  # names come from data: a dollar sign is a dollar sign
    "text.usetex": False,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}

# Okabe and Ito 2008, without yellow (too light for a line) and black (kept for marks).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
LINES = (
    "-",
    (0, (5, 1.5)),
    (0, (1.5, 1)),
    (0, (5, 1, 1.5, 1)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P")
FLOOR: dict[str, Any] = {
    "facecolor": "none",  # hatched: bands that overlap are grey
    "edgecolor": "#555555",
    "hatch": "/////",
    "linewidth": 0,
}
GREY = "#9A9A9A"


def scales(axes: Axes, summaries: Sequence[Summary]) -> None:
    """A place for distance 0 and for deltas around and below 0, with whole numbers as ticks."""
    shown = pd.concat([summary.curve for summary in summaries])
    shown = shown[~shown["condition"].map(is_noise)]
    reach = int(shown["distance_to"].max())
    axes.set_xscale("symlog", base=2, linthresh=1, linscale=1)
    step = 1 if reach <= 64 else 2
    powers = [2**power for power in range(0, reach.bit_length(), step)]
    first = int(shown["distance_from"].min())
    _ticks(axes.xaxis, [place for place in [0, *powers] if place >= first or place * 1.3 > first])
    axes.set_xlim(-0.3 if first == 0 else first / 1.3, reach * 1.1)
    threshold = min(epsilons(summaries), default=0.01)
    axes.set_yscale("symlog", base=10, linthresh=threshold, linscale=0.5)
    lowest, highest = (
        float(np.nanmin(shown["delta"])),
        float(np.nanmax(shown[["delta", "high"]].to_numpy(dtype=np.float64))),
    )
    top = max(highest, 3 * threshold) * 1.25
    # A band that reaches far below 0 says no more than one that reaches below it: it is cut.
    band = shown["low"].min()  # missing where too few documents make no band
    bottom = 1.25 * min(lowest, 0 if pd.isna(band) else max(float(band), -3 * threshold), 0)
    bottom -= threshold / 4
    sizes = [digit * 10.0**power for power in range(-4, 3) for digit in (1, 3)]
    sizes = [size for size in sizes if size > threshold * 0.999]
    signed = [-size for size in reversed(sizes)] + [0.0, *sizes]
    _ticks(axes.yaxis, [size for size in signed if bottom <= size <= top])
    axes.set_ylim(bottom, top)


def _ticks(axis: Any, places: Sequence[float]) -> None:
    axis.set_major_locator(FixedLocator(places))
    axis.set_major_formatter(FixedFormatter([f"{place:g}".replace("-", "−") for place in places]))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def epsilons(summaries: Sequence[Summary]) -> dict[float, str]:
    """Tolerances to draw as lines: those that are the same for every curve."""
    return {
        context.epsilon: context.tolerance
        for summary in summaries
        for context in summary.contexts
        if context.epsilon is not None and not context.tolerance.endswith("delta0")
    }


def tolerances(axes: Axes, summaries: Sequence[Summary]) -> None:
    """Thin lines at the tolerances, labelled at the right edge."""
    bottom, top = axes.get_ylim()
    for epsilon, text in epsilons(summaries).items():
        if bottom < epsilon < top:
            axes.axhline(epsilon, color="black", linewidth=0.5, linestyle=":", zorder=0.5)
            axes.annotate(
                text.replace("%", " %"),
                (1, epsilon),
                xycoords=("axes fraction", "data"),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
            )
