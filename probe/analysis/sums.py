"""Sums of delta by condition, distance bin and document, and their means with limits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import bin_index, octave_edges
from probe.analysis.bootstrap import Bootstrap, Floats, band, bootstrap, resample_weights
from probe.analysis.cells import cells
from probe.analysis.settings import Analysis
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.text import difference


@dataclass(frozen=True, eq=False)
class Sums:
    """One curve as sums by document and bin; only measured bins exist.

    Args:
        lower: First distance of each bin (tokens), shape ``(bins,)``, rising.
        upper: First distance behind each bin (tokens), shape ``(bins,)``.
        sums: Sum of delta (nats), shape ``(documents, bins)``.
        targets: Number of targets, same shape; 0 where a document has none.
        texts: The far text of each document, where they share some, shape ``(documents,)``.
    """

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    sums: Floats
    targets: Floats
    texts: NDArray[np.int64] | None = None

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
        One row per condition, grey, bin and document: ``condition, grey, distance_from,
        distance_to, document, targets, delta_sum, delta_squares`` (sums of delta in nats and of
        its square)``, windows, helped, hurt`` (targets that the intact far context helped or
        hurt: delta above or below 0 by more than rounding)``, far_min, far_max`` (tokens).
    """
    frame = connection.execute(
        f"""SELECT condition, grey, bin, document, sum(targets)::BIGINT AS targets,
            sum(delta_sum) AS delta_sum, sum(delta_squares) AS delta_squares,
            bit_count(bit_or(window_bits))::BIGINT AS windows, sum(helped)::BIGINT AS helped,
            sum(hurt)::BIGINT AS hurt, min(far_min) AS far_min, max(far_max) AS far_max
        FROM {cells(connection, edges)} WHERE bin >= 0
        GROUP BY condition, grey, bin, document ORDER BY condition, grey, bin, document"""
    ).df()
    return from_starts(located(frame, edges), curve_starts)


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


def to_sums(
    frame: pd.DataFrame, documents: Sequence[str], texts: NDArray[np.int64] | None = None
) -> Sums:
    """Arrange the rows of one curve as arrays.

    Args:
        frame: Rows of one curve, with ``distance_from, distance_to, document, targets,
            delta_sum``, at most one per bin and document.
        documents: All documents of the run: equal order means that resamples are shared.
        texts: The far text of each document, where they share some.

    Returns:
        The sums; documents without a row have zeros.
    """
    lower, bins = np.unique(frame["distance_from"].to_numpy(dtype=np.int64), return_inverse=True)
    upper = np.zeros_like(lower)
    upper[bins] = frame["distance_to"].to_numpy(dtype=np.int64)
    rows = _numbers(frame, documents)
    sums, targets = (np.zeros((len(documents), len(lower))) for _ in range(2))
    sums[rows, bins] = frame["delta_sum"].to_numpy(dtype=np.float64)
    targets[rows, bins] = frame["targets"].to_numpy(dtype=np.float64)
    return Sums(lower, upper, sums, targets, texts)


def of_rows(sums: Sums, frame: pd.DataFrame, documents: Sequence[str]) -> Floats:
    """The sum (nats) of each row of one curve, as :func:`to_sums` arranged them."""
    bins = np.searchsorted(sums.lower, frame["distance_from"].to_numpy(dtype=np.int64))
    return np.asarray(sums.sums[_numbers(frame, documents), bins])


def _numbers(frame: pd.DataFrame, documents: Sequence[str]) -> NDArray[np.int64]:
    """The place of each row's document among all."""
    found = pd.Index(documents).get_indexer(pd.Index(frame["document"]))
    return np.asarray(found, dtype=np.int64)


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
    return pooled(rows, octave_edges(reach))


def pooled(rows: pd.DataFrame, edges: NDArray[np.int64]) -> pd.DataFrame:
    """Sums by bin and document as sums by wider bin and document.

    Args:
        rows: ``distance_from, distance_to, document``, with or without ``condition`` and ``grey``,
            and numbers.
        edges: Edges of the wider bins (tokens), which no bin of *rows* lies across.

    Returns:
        The numbers added up, one row a wider bin, document, condition and grey.
    """
    bins = bin_index(rows["distance_from"], edges)
    grouped = rows.assign(distance_from=edges[bins], distance_to=edges[bins + 1])
    keys = ["condition", "grey", "distance_from", "distance_to", "document"]
    own = [key for key in keys if key in rows.columns]
    return grouped.groupby(own, as_index=False).sum()


def intervals(
    sums: Sums,
    resampled: Bootstrap,
    confidence: float,
    *,
    simultaneous: bool = False,
    fewest: int = 0,
) -> pd.DataFrame:
    """The mean of each bin with its limits.

    Args:
        sums: What was summed.
        resampled: Its document bootstrap, for the same *confidence*.
        confidence: Confidence of the limits.
        simultaneous: Whether they hold for all bins at once, not bin by bin.
        fewest: Documents with a target that limits need; all draws that hold the one document of
            a bin agree, so that their limits would be none.

    Returns:
        ``distance_from, distance_to`` (tokens)``, delta, low, high`` (nats)``, targets, documents``
        (with a target).
    """
    low, high = band(resampled, confidence, simultaneous=simultaneous)
    documents = (sums.targets > 0).sum(axis=0)
    return pd.DataFrame(
        {
            "distance_from": sums.lower,
            "distance_to": sums.upper,
            "delta": resampled.mean,
            "low": np.where(documents < fewest, np.nan, low),
            "high": np.where(documents < fewest, np.nan, high),
            "targets": sums.targets.sum(axis=0).astype(np.int64),
            "documents": documents,
        }
    )


def delta_table(sums: pd.DataFrame, keys: Sequence[str], how: Analysis) -> pd.DataFrame:
    """Mean delta of every group, and the limits of a bootstrap over all documents of the sums.

    Args:
        sums: Columns *keys*, ``document, targets, delta_sum``, at most one row a group and
            document.
        keys: What tells groups apart.
        how: Resamples, seed and confidence.

    Returns:
        Columns *keys*, ``delta, low, high`` (nats per token), ``targets, documents``, in order of
        the keys; limits are missing with fewer documents than an interval needs.
    """
    documents = sorted(set(sums["document"].astype(str)))
    weights = resample_weights(len(documents), how.resamples, how.seed)
    names, numbers = list(keys), ["delta", "low", "high", "targets", "documents"]
    frames = []
    for _, rows in sums.astype({"document": str}).groupby(names, sort=True):
        arranged = to_sums(rows.assign(distance_from=0, distance_to=0), documents)
        resampled = bootstrap(arranged.sums, arranged.targets, weights, how.confidence)
        means = intervals(arranged, resampled, how.confidence, fewest=FEWEST_DOCUMENTS)
        frames.append(rows[names].head(1).reset_index(drop=True).join(means[numbers]))
    return stacked(frames, names + numbers)


def in_words(row: "pd.Series[float]") -> str:
    """Delta with its limits, nats: ``+0.0123 (+0.0100 to +0.0150)``."""
    return difference(row["delta"], row["low"], row["high"])


def strongest(table: pd.DataFrame, name: Callable[["pd.Series[float]"], str], group: str) -> str:
    """Which group has the largest delta, as the end of a sentence: only what an interval shows.

    Args:
        table: Of :func:`delta_table`, with a row at least and a column ``condition``.
        name: What to call the group of a row.
        group: What groups are: ``band``.

    Returns:
        The group with the largest delta of those whose interval lies above 0; that none does; or,
        without intervals, the largest with nothing claimed.
    """
    known = table.dropna(subset=["low"])
    above = known[known["low"] > 0]
    rows = above if len(above) else table
    row = rows.iloc[int(rows["delta"].to_numpy().argmax())]
    largest = f"{name(row)} ({row['condition']}: {in_words(row)} nats per token)"
    if len(above):
        return f"the largest delta is that of {largest}"
    if len(known):
        return f"no {group} has a delta significantly above 0; the largest is that of {largest}"
    return f"the largest delta is that of {largest}, with too few documents for an interval"
