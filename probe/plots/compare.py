"""The difference between two runs against distance."""

import pandas as pd
from matplotlib.axes import Axes

from probe.analysis.answer import in_order
from probe.analysis.compare.lengths import SHOWN
from probe.plots import marks, scales, style


def compare(
    frame: pd.DataFrame,
    *,
    unit: str = "tokens",
    names: tuple[str, str] = ("A", "B"),
    ax: Axes | None = None,
) -> Axes:
    """Draw the difference of delta between two runs, one line a condition, with pointwise bands.

    Args:
        frame: The difference of the second run and the first, columns ``condition, unit,
            distance_from, distance_to, difference, low, high``.
        unit: What distances are counted in, ``tokens`` or ``bytes``.
        names: The names of the first run and of the second.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes: distance (tokens, or bytes of text), and the difference (nats a token, or bits
        per byte) to a scale that is linear around 0.

    Raises:
        EmptyFigureError: If the frame has no difference in this unit.
        ValueError: If *unit* is neither.
    """
    if unit not in SHOWN:
        raise ValueError(f"unit is {unit!r}; allowed: {', '.join(SHOWN)}")
    rows = frame[frame["unit"] == unit]
    if rows.empty:
        raise style.EmptyFigureError(f"no difference by distance in {unit} to draw")
    conditions = in_order(rows["condition"].astype(str))
    with style.sheet():
        axes = style.column(2.5 + style.ENTRY * len(conditions)) if ax is None else ax
        handles = []
        for number, condition in enumerate(conditions):
            look = style.look(number)
            own = rows[rows["condition"].astype(str) == condition].sort_values("distance_from")
            marks.line(axes, own, look, "difference")
            handles.append(marks.handle(style.short(condition), look))
        scales.distances(axes, rows, unit)
        scales.differences(axes, rows, "difference")
        scales.zero(axes)
        axes.set_ylabel(f"difference of delta ({SHOWN[unit]})")
        first, second = (style.short(name, 22) for name in names)
        axes.set_title(f"{second} − {first}")
        marks.legend_below(axes, handles)
    return axes
