"""The look of our figures: the style sheet, and the colours, lines and markers that go with it."""

from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.text import printable

SHEET = Path(__file__).with_name("probe.mplstyle")
"""The style sheet, a matplotlib style file: ``plt.style.use(SHEET)`` gives any figure our look."""

WIDTH = 3.4
"""Width of a figure in inches: one column of a paper."""

ENTRY = 0.155
"""Height of one entry of a legend in inches."""

# The colours of the sheet's cycle, so that a line, its band and its marks can be given one.
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


class EmptyFigureError(ValueError):
    """There is nothing to draw."""


def sheet() -> AbstractContextManager[None]:
    """The style sheet, in force inside a ``with``; what it does not set stays the user's own."""
    return mpl.rc_context(_settings())


@cache
def _settings() -> Any:
    return mpl.rc_params_from_file(SHEET, use_default_template=False)


def column(height: float) -> Axes:
    """New axes, alone in a figure of column width.

    Args:
        height: Height of the figure in inches.
    """
    return Figure(figsize=(WIDTH, height), layout="constrained").subplots()


def look(number: int) -> dict[str, Any]:
    """Colour, line and marker of a series: all three differ among the first six.

    Behind these the same colours come with other lines and markers.
    """
    again = number // len(COLOURS)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": LINES[(number + again) % len(LINES)],
        "marker": MARKERS[(number + 2 * again) % len(MARKERS)],
    }


def short(text: str, most: int = 44) -> str:
    """One line of at most this many characters; what has no shape of its own is escaped."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"
