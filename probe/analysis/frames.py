"""Frames of rows by distance: bins as distances, the start of a curve, octaves, many as one."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import octave_edges, octave_index


def stacked(frames: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Frames below one another, rows numbered anew; with none the columns alone."""
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(columns))


def located(frame: pd.DataFrame, edges: NDArray[np.int64]) -> pd.DataFrame:
    """The ends of each bin instead of its number.

    Args:
        frame: Rows with ``bin``; left untouched.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.

    Returns:
        The rows with ``distance_from, distance_to`` (tokens) where ``bin`` stood.
    """
    place = list(frame.columns).index("bin")
    bins = frame["bin"].to_numpy(dtype=np.int64)
    frame = frame.drop(columns="bin")
    frame.insert(place, "distance_from", edges[bins])
    frame.insert(place + 1, "distance_to", edges[bins + 1])
    return frame


def from_starts(frame: pd.DataFrame, curve_starts: Mapping[str, int] | None) -> pd.DataFrame:
    """The rows that do not begin before their condition's curve.

    Args:
        frame: Rows with ``condition`` and ``distance_from`` (tokens).
        curve_starts: First distance (tokens) of each condition's curve; 0 where it is not named.

    Returns:
        Those rows, numbered anew.
    """
    known = curve_starts or {}
    starts = np.array([known.get(str(name), 0) for name in frame["condition"]], dtype=np.int64)
    return frame[frame["distance_from"].to_numpy(dtype=np.int64) >= starts].reset_index(drop=True)


def by_octave(rows: pd.DataFrame, reach: int) -> pd.DataFrame:
    """Sums by bin and document as sums by octave and document.

    Args:
        rows: ``distance_from, distance_to, document``, with or without ``condition``, and numbers.
        reach: End of the last octave (tokens).

    Returns:
        The numbers added up, one row an octave, document and condition.
    """
    edges = octave_edges(reach)
    octaves = octave_index(rows["distance_from"].to_numpy(dtype=np.int64))
    grouped = rows.assign(distance_from=edges[octaves], distance_to=edges[octaves + 1])
    keys = ["condition", "distance_from", "distance_to", "document"]
    own = [key for key in keys if key in rows.columns]
    return grouped.groupby(own, as_index=False).sum()
