"""Sums of delta by condition, distance bin and document: all that the statistics need."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import bin_index, octave_edges, octave_index
from probe.analysis.cells import cells

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sums:
    """One curve as sums by document and bin; only measured bins exist.

    Args:
        lower: First distance of each bin (tokens), shape ``(bins,)``, rising.
        upper: First distance behind each bin (tokens), shape ``(bins,)``.
        sums: Sum of delta (nats), shape ``(documents, bins)``.
        targets: Number of targets, same shape; 0 where a document has none.
    """

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    sums: Floats
    targets: Floats

    @property
    def documents(self) -> int:
        """Documents with at least one target."""
        return int((self.targets.sum(axis=1) > 0).sum())


def document_sums(
    connection: duckdb.DuckDBPyConnection,
    edges: NDArray[np.int64],
    curve_starts: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Aggregate the rows of a run by condition, bin and document.

    Rows whose distance is longer than their far context are grey and are summed apart: delta goes
    to 0 there by construction.

    Args:
        connection: From :func:`probe.results.views.connect`.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.
        curve_starts: First distance (tokens) from which a condition's curve may be shown; bins
            that begin before it are left out.

    Returns:
        One row per condition, grey, bin and document: ``condition, grey, bin, distance_from,
        distance_to, document, targets, delta_sum, delta_squares`` (sums of delta in nats and of
        its square)``, windows, helped, hurt`` (targets that the intact far context helped or
        hurt: delta above or below 0)``, far_min, far_max`` (tokens).
    """
    frame = connection.execute(
        f"""SELECT condition, grey, bin, document, sum(targets)::BIGINT AS targets,
            sum(delta_sum) AS delta_sum, sum(delta_squares) AS delta_squares,
            bit_count(bit_or(window_bits))::BIGINT AS windows, sum(helped)::BIGINT AS helped,
            sum(hurt)::BIGINT AS hurt, min(far_min) AS far_min, max(far_max) AS far_max
        FROM {cells(connection, edges)} WHERE bin >= 0
        GROUP BY condition, grey, bin, document ORDER BY condition, grey, bin, document"""
    ).df()
    indices = frame["bin"].to_numpy(dtype=np.int64)
    frame.insert(3, "distance_from", edges[indices])
    frame.insert(4, "distance_to", edges[indices + 1])
    return from_starts(frame, curve_starts)


def distance_bins(edges: NDArray[np.int64]) -> pd.DataFrame:
    """A table ``distance, bin`` to join score rows with, for the distances that have a bin."""
    distances = np.arange(edges[0], edges[-1])
    return pd.DataFrame({"distance": distances, "bin": bin_index(distances, edges)})


@contextmanager
def binned(
    connection: duckdb.DuckDBPyConnection, edges: NDArray[np.int64]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The connection with the table ``bins`` of :func:`distance_bins`, inside a ``with``.

    Args:
        connection: The connection.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.
    """
    connection.register("bins", distance_bins(edges))
    try:
        yield connection
    finally:
        connection.unregister("bins")


def to_sums(frame: pd.DataFrame, documents: Sequence[str]) -> Sums:
    """Arrange the rows of one curve as arrays.

    Args:
        frame: Rows of one curve, with ``distance_from, distance_to, document, targets,
            delta_sum``, at most one per bin and document.
        documents: All documents of the run: equal order means that resamples are shared.

    Returns:
        The sums; documents without a row have zeros.
    """
    lower, bins = np.unique(frame["distance_from"].to_numpy(dtype=np.int64), return_inverse=True)
    upper = np.zeros_like(lower)
    upper[bins] = frame["distance_to"].to_numpy(dtype=np.int64)
    rows = pd.Index(documents).get_indexer(pd.Index(frame["document"]))
    sums, targets = (np.zeros((len(documents), len(lower))) for _ in range(2))
    sums[rows, bins] = frame["delta_sum"].to_numpy(dtype=np.float64)
    targets[rows, bins] = frame["targets"].to_numpy(dtype=np.float64)
    return Sums(lower, upper, sums, targets)


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
    starts = frame["condition"].map(curve_starts or {}).fillna(0).astype(np.int64)
    return frame[frame["distance_from"] >= starts].reset_index(drop=True)


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
