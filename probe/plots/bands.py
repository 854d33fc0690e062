"""Delta of bands of distances, each perturbed alone."""

import pandas as pd
from matplotlib.axes import Axes

from probe.analysis.answer import in_order
from probe.plots import marks, style


def bands(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw delta by band, a mark with its interval for each condition.

    Args:
        frame: Columns :data:`probe.analysis.bands.COLUMNS`; distances in tokens, delta in nats.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes: bands by distance, the nearest on the left, and delta (nats a token).

    Raises:
        EmptyFigureError: If there is no band.
    """
    if frame.empty:
        raise style.EmptyFigureError("no band to draw")
    names = in_order(frame["condition"].astype(str))
    pairs = pd.MultiIndex.from_frame(frame[["band_from", "band_to"]])
    places = pairs.unique().sort_values()
    with style.sheet():
        axes = style.column(2.4 + style.ENTRY * (len(names) + 1)) if ax is None else ax
        axes.axhline(0, color=style.GREY, linewidth=0.6)
        handles = []
        for number, name in enumerate(names):
            own = frame[frame["condition"].astype(str) == name]
            shift = (number - (len(names) - 1) / 2) * 0.7 / max(1, len(names))
            at = places.get_indexer(pd.MultiIndex.from_frame(own[["band_from", "band_to"]]))
            look = {**style.look(number), "linestyle": "none"}
            marks.measured(axes, at + shift, own, look)
            handles.append(marks.handle(style.short(name), look))
        axes.set_xticks(range(len(places)), [f"{near:,}–\n{far - 1:,}" for near, far in places])
        axes.set_xlim(-0.6, len(places) - 0.4)
        axes.set_xlabel("perturbed band (tokens before the first target)")
        axes.set_ylabel("delta (nats a token)")
        marks.legend_below(axes, handles, lines=2)
    return axes
