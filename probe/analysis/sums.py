"""Sums of delta by condition, distance bin and document: all that the statistics need."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import bin_index
from probe.analysis.cells import cells
from probe.analysis.frames import from_starts

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
        connection: From :func:`probe.analysis.views.connect`.
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


def curve_starts(record: Mapping[str, Any]) -> dict[str, int]:
    """First distance (tokens) of each condition's curve, as the plan in ``run.json`` says."""
    conditions = (record.get("plan") or {}).get("conditions") or {}
    return {name: int((plan or {}).get("curve_start", 0)) for name, plan in conditions.items()}


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
