"""Loss and KL at every length of the context (protocol dense)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import bin_edges, bin_index
from probe.analysis.bootstrap import Floats, bootstrap, pointwise_band, resample_weights
from probe.analysis.effective import EffectiveContext, effective_context
from probe.analysis.fit import fit_curve
from probe.analysis.floor import length_limit
from probe.analysis.settings import Analysis
from probe.analysis.summary import Summary, summarise
from probe.analysis.sums import Sums
from probe.analysis.unigram import unigram_sums
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import ProbeError, UsageError
from probe.results.csv_files import write_csv
from probe.results.folder import RunFolder, read_folder
from probe.results.views import bytes_per_token, connect, longest_context, scored_documents

KL = "KL to the longest context"
"""What stands for the condition in answers that are read off the KL."""

Measure = Literal["nll", "kl"]


@dataclass(frozen=True, eq=False)
class Lengths:
    """What a run says of context lengths; lengths in tokens, nll and KL in nats a token.

    Args:
        summary: The run's summary; its distances are lengths of the context.
        context: The longest length.
        table: A row a length from 0 (the unigram estimate) on: ``context, nll, nll_low, nll_high,
            kl, kl_low, kl_high, targets, documents``; limits are missing with fewer documents
            than an interval needs, KL where it was not measured and at length 0.
        kl_contexts: Smallest length from which KL stays below each tolerance.
        sums: Sums of nll and KL by document and length, shape ``(documents, context + 1)``.
        targets: Targets of each document, shape ``(documents, 1)``.
    """

    summary: Summary
    context: int
    table: pd.DataFrame
    kl_contexts: tuple[EffectiveContext, ...]
    sums: Mapping[Measure, Floats]
    targets: Floats


def lengths(
    run_dir: str | Path, *, analysis: Analysis | None = None, write: bool = True
) -> Lengths:
    """Read a run of protocol dense.

    Args:
        run_dir: The run folder.
        analysis: How to read it; by default what its configuration says.
        write: Whether to write ``contexts.csv`` and the summary's files into the folder.

    Raises:
        UsageError: If the run has another protocol.
        ProbeError: If it cannot be read.

    Source: Cífka & Liutkus 2023, section 3; the empty context is a unigram estimate here, from the
        counts of the run's documents with one added to each.
    """
    context = open_context(read_folder(run_dir, checked=False))
    summary = summarise(run_dir, analysis=analysis, write=write)
    run, how = summary.run, summary.analysis
    try:
        with connect(run.path / "windows.parquet", run.parts, checked=False) as connection:
            documents = scored_documents(connection)
            sums, targets = _sums(connection, documents, context)
            sums["nll"][:, 0] = unigram_sums(connection, run, documents)
            per_token = bytes_per_token(connection)
    except duckdb.Error as error:
        raise ProbeError(f"the scores of '{run.path}' cannot be read: {error}") from error
    weights = resample_weights(len(documents), how.resamples, how.seed)
    table = _table(sums, targets, weights, how.confidence)
    contexts: tuple[EffectiveContext, ...] = ()
    if "kl" in sums and context > 1:
        curve = fit_curve(KL, _binned(sums["kl"], targets, how), weights, how.confidence)
        contexts = tuple(
            effective_context(
                curve,
                tolerance,
                floor=None,
                bytes_per_token=per_token,
                length=length_limit(run.record),
            )
            for tolerance in how.tolerances
        )
    if write:
        write_csv(run.path / "contexts.csv", table)
    return Lengths(summary, context, table, contexts, sums, targets)


def open_context(run: RunFolder) -> int:
    """The longest context of a run with protocol dense (tokens).

    Raises:
        UsageError: If it has another.
    """
    context = longest_context(run.record)
    if context is None:
        kind = ((run.record.get("config") or {}).get("protocol") or {}).get("kind")
        raise UsageError(f"run '{run.path}' has protocol {kind!r}; allowed here: dense")
    return context


def measured(connection: duckdb.DuckDBPyConnection) -> list[Measure]:
    """Which of nll and KL a run has."""
    columns = {row[0] for row in connection.execute("DESCRIBE scores").fetchall()}
    known: tuple[Measure, ...] = ("nll", "kl")
    return [name for name in known if name in columns]


def _sums(
    connection: duckdb.DuckDBPyConnection, documents: list[str], context: int
) -> tuple[dict[Measure, Floats], Floats]:
    """Sums by document and length, and targets by document; length 0 is left open."""
    measures = measured(connection)
    columns = ", ".join(f"sum({name}::DOUBLE) AS {name}" for name in measures)
    frame = connection.execute(
        f"""SELECT document, distance, count(*) AS targets, {columns} FROM scores
        WHERE condition = 'truncate' GROUP BY document, distance"""
    ).df()
    rows = pd.Index(documents).get_indexer(pd.Index(frame["document"].astype(str)))
    lengths = frame["distance"].to_numpy(dtype=np.int64)
    targets = np.zeros((len(documents), 1))
    targets[rows, 0] = frame["targets"]
    sums: dict[Measure, Floats] = {}
    for name in measures:
        sums[name] = np.full((len(documents), context + 1), np.nan)
        sums[name][rows, lengths] = frame[name]
    return sums, targets


def _table(
    sums: Mapping[Measure, Floats], targets: Floats, weights: Floats, confidence: float
) -> pd.DataFrame:
    size = next(iter(sums.values())).shape[1]
    table = pd.DataFrame({"context": np.arange(size)})
    missing = np.full((len(targets), size), np.nan)
    known: tuple[Measure, ...] = ("nll", "kl")
    for name in known:
        *found, documents = limits(sums.get(name, missing), targets, weights, confidence)
        table[[name, f"{name}_low", f"{name}_high"]] = np.column_stack(found)
    return table.assign(targets=int(targets.sum()), documents=documents)


def limits(
    sums: Floats, targets: Floats, weights: Floats, confidence: float
) -> tuple[Floats, Floats, Floats, int]:
    """Mean of each column, its limits, and the documents behind it."""
    found = bootstrap(sums, np.repeat(targets, sums.shape[1], axis=1), weights, confidence)
    low, high = pointwise_band(found, confidence)
    if found.documents < FEWEST_DOCUMENTS:
        low, high = np.full((2, len(found.mean)), np.nan)
    return found.mean, low, high, found.documents


def _binned(sums: Floats, targets: Floats, how: Analysis) -> Sums:
    """KL by bin of length, without lengths beyond half of the longest: they never answer."""
    edges = bin_edges(sums.shape[1], how.bins_per_octave)
    lengths = np.arange(1, (sums.shape[1] - 1) // 2 + 1)
    bins = bin_index(lengths, edges)
    starts: NDArray[np.int64] = np.flatnonzero(np.diff(bins, prepend=-1))
    counts = np.diff(np.append(starts, len(lengths)))
    return Sums(
        edges[bins[starts]],
        edges[bins[starts] + 1],
        np.add.reduceat(sums[:, lengths], starts, axis=1),
        targets * counts,
    )
