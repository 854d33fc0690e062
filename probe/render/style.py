"""The look of figures: the style sheet, and the colours, lines and markers that go with it."""

from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from probe.findings.chart import Series
from probe.text import printable

SHEET = Path(__file__).with_name("probe.mplstyle")
"""The style sheet, a matplotlib style file: ``plt.style.use(SHEET)`` gives any figure our look."""

WIDTH = 3.4
"""Width of a figure in inches: one column of a paper."""
ENTRY = 0.155
"""Height of an entry of a legend in inches."""
LINE = 0.12
"""Height of a line of a title in inches."""

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
GREY = "#9A9A9A"
MOST = 100
"""Characters of a line of a title, however narrow they are."""
EMPTY = "#E4E4E4"
"""Cells of a heat map without a value."""
FLOOR: dict[str, Any] = {
    "facecolor": "none",  # hatched: bands that overlap are grey
    "edgecolor": "#555555",
    "hatch": "/////",
    "linewidth": 0,
}
FANS = {"fan0": 0.16, "fan1": 0.24, "fan2": 0.38}
"""How opaque the bands of a fan of quantiles are, each over the one before."""
BAND = 0.18
# Blue is above 0, where far text is needed, as on the page. Both ends are dark and 0 is white, so
# that signs differ also for those who see no red.
DIVERGING = ("#5C2600", "#D55E00", "#F5C242", "#FFFFFF", "#8CC4E8", "#0072B2", "#003B5C")


def sheet() -> AbstractContextManager[None]:
    """The style sheet, in force inside a ``with``; what it does not set stays the user's own."""
    return mpl.rc_context(_settings())


@cache
def _settings() -> Any:
    return mpl.rc_params_from_file(SHEET, use_default_template=False)


def look(series: Series) -> dict[str, Any]:
    """Colour, line and marker of a series.

    All three differ among the first six looks; behind these the same colours come with other lines
    and markers.
    """
    colour, dash, mark = series.appearance
    plain = {"color": COLOURS[colour], "linestyle": LINES[dash], "marker": MARKERS[mark]}
    roles: dict[str, dict[str, Any]] = {
        "grey": {"color": GREY},
        "reference": {"color": GREY, "linestyle": "-", "linewidth": 0.9, "zorder": 1.8},
        "full": {"color": "black", "marker": "x", "linestyle": "none", "markersize": 5},
        "unresolved": {"color": GREY, "marker": "x", "linestyle": "none", "zorder": 5},
        "beyond": {"marker": "^", "linestyle": "none", "zorder": 5},
    }
    drawn = plain | roles.get(series.role, {})
    if series.points is False:
        drawn["marker"] = "none"
        if series.role == "grey":
            drawn |= {"linestyle": "-", "linewidth": 0.7, "zorder": 1.5}
    if not series.joined:
        drawn["linestyle"] = "none"
    elif series.barred:
        drawn["linewidth"] = 0.6
    return drawn


def short(text: str, most: int = 44) -> str:
    """One line of at most this many characters; what has no shape of its own is escaped."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def fitting(text: str, room: float) -> str:
    """One line of a title that is at most *room* points wide."""
    line, size = short(text, MOST), _settings()["axes.titlesize"]
    font = FontProperties(family=_settings()["font.family"], size=size)
    most, room = len(line), room / 1.04  # letters on a grid of pixels are wider
    while text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] > room:
        most -= 1
        line = short(text, most)
    return line
