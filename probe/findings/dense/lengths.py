"""Loss and KL at every length of the context."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probe.analysis.bins import bin_edges, bin_index
from probe.analysis.bootstrap import Floats, bootstrap, pointwise_band
from probe.analysis.effective import EffectiveContext, effective_context
from probe.analysis.fit import fit_curve
from probe.analysis.open_run import OpenRun
from probe.analysis.settings import Analysis
from probe.analysis.sums import Sums
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import UsageError

KL = "KL to the longest context"
"""What stands for the condition in answers that are read off the KL."""

Measure = Literal["nll", "kl"]


@dataclass(frozen=True, eq=False)
class Lengths:
    """What a run says of context lengths; lengths in tokens, nll and KL in nats a token.

    Args:
        context: The longest length.
        table: A row a length from 0 (the unigram estimate) on: ``context, nll, nll_low, nll_high,
            kl, kl_low, kl_high, targets, documents``; limits are missing with fewer documents
            than an interval needs, KL where it was not measured and at length 0.
        kl_contexts: Smallest length from which KL stays below each tolerance.
        sums: Sums of nll and KL by document and length, shape ``(documents, context + 1)``.
        targets: Targets of each document, shape ``(documents, 1)``.
    """

    context: int
    table: pd.DataFrame
    kl_contexts: tuple[EffectiveContext, ...]
    sums: Mapping[Measure, Floats]
    targets: Floats


def lengths(run: OpenRun) -> Lengths:
    """Loss and KL at every length, and the lengths from which KL stays below each tolerance.

    Args:
        run: A run with protocol dense.

    Raises:
        UsageError: If the run has another protocol.

    Source: Cífka & Liutkus 2023, section 3; the empty context is a unigram estimate here, from the
        counts of the run's documents with one added to each.
    """
    context, how = longest_context(run), run.analysis
    sums, targets = _sums(run, context)
    sums["nll"][:, 0] = unigram_sums(run)
    contexts: tuple[EffectiveContext, ...] = ()
    if "kl" in sums and context > 1:
        binned = _binned(sums["kl"], targets, how)
        curve = fit_curve(KL, binned, run.weights, how.confidence)
        contexts = tuple(
            effective_context(
                curve,
                tolerance,
                floor=None,
                bytes_per_token=run.bytes_per_token,
                length=run.length_change,
            )
            for tolerance in how.tolerances
        )
    return Lengths(context, _by_length(run, sums, targets), contexts, sums, targets)


def longest_context(run: OpenRun) -> int:
    """The longest context of a run with protocol dense (tokens).

    Raises:
        UsageError: If it has another protocol.
    """
    context = run.folder.reading.context
    if not run.is_answered_by("dense") or context is None:
        raise UsageError(f"run '{run.path}' has protocol {run.folder.kind!r}; allowed here: dense")
    return context


def measured(run: OpenRun) -> list[Measure]:
    """Which of nll and KL a run has."""
    columns = {row[0] for row in run.connection.execute("DESCRIBE scores").fetchall()}
    known: tuple[Measure, ...] = ("nll", "kl")
    return [name for name in known if name in columns]


def limits(run: OpenRun, sums: Floats, targets: Floats) -> tuple[Floats, Floats, Floats, int]:
    """Mean of each column of sums by document, its limits, and the documents behind it."""
    confidence = run.analysis.confidence
    repeated = np.repeat(targets, sums.shape[1], axis=1)
    resampled = bootstrap(sums, repeated, run.weights, confidence)
    low, high = pointwise_band(resampled, confidence)
    if resampled.documents < FEWEST_DOCUMENTS:
        low, high = np.full((2, len(resampled.mean)), np.nan)
    return resampled.mean, low, high, resampled.documents


def unigram_sums(run: OpenRun) -> Floats:
    """Sum of the unigram losses of each document's targets (nats), shape ``(documents,)``."""
    rows = run.connection.execute(
        """SELECT s.document, w.token_ids[s.position - w.start + 1] AS id, count(*) AS targets
        FROM (SELECT DISTINCT document, "window", position FROM scores
            WHERE condition = 'truncate') s
        JOIN windows w ON s.document = w.document AND s."window" = w."window"
        GROUP BY s.document, id ORDER BY min(s.position)"""
    ).df()
    losses = rows["targets"].to_numpy() * _unigram_losses(run, rows["id"].to_numpy(np.int64))
    sums = np.zeros(len(run.documents))
    places = pd.Index(run.documents).get_indexer(pd.Index(rows["document"].astype(str)))
    np.add.at(sums, places, losses)
    return sums


def unigram_of_window(run: OpenRun, document: str, window: int) -> Floats:
    """Unigram loss of each target of a window (nats), in order of position."""
    rows = run.connection.execute(
        """SELECT w.token_ids[s.position - w.start + 1] AS id
        FROM (SELECT DISTINCT document, "window", position FROM scores
            WHERE condition = 'truncate' AND document = $document AND "window" = $number) s
        JOIN windows w ON s.document = w.document AND s."window" = w."window"
        ORDER BY s.position""",
        {"document": document, "number": window},
    ).df()
    return _unigram_losses(run, rows["id"].to_numpy(dtype=np.int64))


def _unigram_losses(run: OpenRun, ids: NDArray[np.int64]) -> Floats:
    """Losses by the counts of ``frequencies.parquet``, with one added to each token's.

    Args:
        run: The run; its ``run.json`` has the size of the vocabulary.
        ids: Token ids.

    Returns:
        One loss an id (nats), NaN where the counts cannot be read.
    """
    try:
        table = pq.read_table(
            run.path / "frequencies.parquet",
            columns=["token_id", "count"],
            page_checksum_verification=True,
        )
        known, counts = (column.to_numpy().astype(np.int64) for column in table.columns)
    except (OSError, pa.ArrowException):
        return np.full(len(ids), np.nan)
    highest = max(int(known.max(initial=-1)), int(ids.max(initial=-1)))
    size = max(run.facts.model.vocabulary or 0, highest + 1)
    by_id = np.zeros(size, dtype=np.int64)
    by_id[known] = counts
    losses: Floats = np.log(by_id.sum() + size) - np.log(by_id[ids] + 1)
    return losses


def _sums(run: OpenRun, context: int) -> tuple[dict[Measure, Floats], Floats]:
    """Sums by document and length, and targets by document; length 0 is left open."""
    measures = measured(run)
    columns = ", ".join(f"sum({name}::DOUBLE) AS {name}" for name in measures)
    frame = run.connection.execute(
        f"""SELECT document, distance, count(*) AS targets, {columns} FROM scores
        WHERE condition = 'truncate' GROUP BY document, distance"""
    ).df()
    rows = pd.Index(run.documents).get_indexer(pd.Index(frame["document"].astype(str)))
    places = frame["distance"].to_numpy(dtype=np.int64)
    targets = np.zeros((len(run.documents), 1))
    targets[rows, 0] = frame["targets"]
    sums: dict[Measure, Floats] = {}
    for name in measures:
        sums[name] = np.full((len(run.documents), context + 1), np.nan)
        sums[name][rows, places] = frame[name]
    return sums, targets


def _by_length(run: OpenRun, sums: Mapping[Measure, Floats], targets: Floats) -> pd.DataFrame:
    size = next(iter(sums.values())).shape[1]
    table = pd.DataFrame({"context": np.arange(size)})
    missing = np.full((len(targets), size), np.nan)
    known: tuple[Measure, ...] = ("nll", "kl")
    for name in known:
        *values, documents = limits(run, sums.get(name, missing), targets)
        table[[name, f"{name}_low", f"{name}_high"]] = np.column_stack(values)
    return table.assign(targets=int(targets.sum()), documents=documents)


def _binned(sums: Floats, targets: Floats, how: Analysis) -> Sums:
    """KL by bin of length, without lengths beyond half of the longest: they never answer."""
    edges = bin_edges(sums.shape[1], how.bins_per_octave)
    usable = np.arange(1, (sums.shape[1] - 1) // 2 + 1)
    bins = bin_index(usable, edges)
    starts: NDArray[np.int64] = np.flatnonzero(np.diff(bins, prepend=-1))
    counts = np.diff(np.append(starts, len(usable)))
    return Sums(
        edges[bins[starts]],
        edges[bins[starts] + 1],
        np.add.reduceat(sums[:, usable], starts, axis=1),
        targets * counts,
    )
