"""Loss and KL at every length of the context, and what each of its tokens adds (importance)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

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
from probe.errors import ProbeError, UsageError

KL = "KL to the longest context"
"""What stands for the condition in answers that are read off the KL."""

Measure = Literal["nll", "kl"]


@dataclass(frozen=True, eq=False)
class Lengths:
    """What a run says of context lengths; lengths in tokens, nll and KL in nats per token.

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
    empty = run.once(_unigram_losses).groupby("document")["nll"].sum(min_count=1)
    sums["nll"][:, 0] = empty.reindex(run.documents, fill_value=0)
    contexts: list[EffectiveContext] = []
    if "kl" in sums and context > 1:
        binned = _binned(sums["kl"], targets, how)
        curve = fit_curve(KL, binned, run.weights, how.confidence)
        contexts = [
            effective_context(
                curve,
                tolerance,
                floor=None,
                bytes_per_token=run.bytes_per_token,
                length=run.length_change,
            )
            for tolerance in how.tolerances
        ]
    return Lengths(context, _by_length(run, sums, targets), tuple(contexts), sums, targets)


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
    columns = run.connection.view("scores").columns
    return [name for name in get_args(Measure) if name in columns]


def limits(run: OpenRun, sums: Floats, targets: Floats) -> tuple[Floats, Floats, Floats, int]:
    """Mean of each column of sums by document, its limits, and the documents behind it."""
    confidence = run.analysis.confidence
    resampled = bootstrap(sums, np.broadcast_to(targets, sums.shape), run.weights, confidence)
    low, high = pointwise_band(resampled, confidence)
    if resampled.documents < FEWEST_DOCUMENTS:
        low, high = np.full((2, len(resampled.mean)), np.nan)
    return resampled.mean, low, high, resampled.documents


def importance(
    run: OpenRun, document: str, window: int, *, measure: Measure = "nll"
) -> pd.DataFrame:
    """What each token of the context adds to the prediction of each target of a window.

    The importance of the token at distance *j* (1 is the token right before the target) is what the
    loss, or the KL to the longest context, falls by when the context grows from *j* − 1 to *j*
    tokens and so begins with it. A target's importances add up to its loss by the unigram estimate
    less its loss with the longest context. KL has no value for the empty context, whose
    distribution is not compared with the model's: there distance 1 is missing.

    Args:
        run: The run.
        document: The document's id.
        window: The window's number in it.
        measure: ``nll`` or ``kl``.

    Returns:
        A row a target and distance: ``position`` (of the target in the document)``, distance,
        context`` (position of the token)``, importance`` (nats).

    Raises:
        UsageError: If the run has another protocol, no such window, or no KL.
        ProbeError: If rows are missing.

    Source: Cífka & Liutkus 2023, section 3 (differential importance scores).
    """
    context = longest_context(run)
    if measure not in measured(run):
        raise UsageError(f"run '{run.path}' has no {measure}: add it to its measures")
    rows = run.connection.execute(
        f"""SELECT position, distance, {measure}::DOUBLE AS value FROM scores
        WHERE document = $document AND "window" = $number AND condition = 'truncate'
        ORDER BY position, distance""",
        {"document": document, "number": window},
    ).df()
    if rows.empty:
        raise UsageError(f"run '{run.path}' has no window {window} of document {document!r}")
    positions = rows["position"].unique()
    if len(rows) != len(positions) * context:
        raise ProbeError(f"rows of window {window} of document {document!r} are missing")
    values = np.empty((len(positions), context + 1))
    values[:, 0] = np.nan
    if measure == "nll":
        by_window = run.once(_unigram_losses).set_index(["document", "window"])["nll"]
        values[:, 0] = by_window.loc[(document, window)]
    values[:, 1:] = rows["value"].to_numpy().reshape(len(positions), context)
    rows["context"] = rows["position"] - rows["distance"]
    rows["importance"] = -np.diff(values, axis=1).ravel()
    return rows[["position", "distance", "context", "importance"]]


def token_importance(frame: pd.DataFrame) -> pd.DataFrame:
    """What each token of a window adds to all targets behind it.

    Args:
        frame: From :func:`importance`.

    Returns:
        A row a token: ``position, total, mean`` (nats)``, targets`` (those it was in sight of).
    """
    known = frame.dropna(subset="importance")
    by_token = known.groupby("context")["importance"].agg(total="sum", mean="mean", targets="count")
    return by_token.rename_axis("position").reset_index()


def mean_importance(run: OpenRun, measure: Measure = "nll") -> pd.DataFrame:
    """Mean importance of the token at each distance over a run, with its interval.

    Args:
        run: A run with protocol dense.
        measure: ``nll`` or ``kl``.

    Returns:
        A row a distance: ``distance`` (tokens)``, importance, low, high`` (nats; limits are missing
        with fewer documents than an interval needs).

    Raises:
        UsageError: If the measure was not scored.
    """
    by_length = run.once(lengths)
    if measure not in by_length.sums:
        raise UsageError(f"run '{run.path}' has no {measure}")
    steps = -np.diff(by_length.sums[measure], axis=1)
    mean, low, high, _ = limits(run, steps, by_length.targets)
    distances = np.arange(1, by_length.context + 1)
    return pd.DataFrame({"distance": distances, "importance": mean, "low": low, "high": high})


def _unigram_losses(run: OpenRun) -> pd.DataFrame:
    """Loss of each target by ``frequencies.parquet``, with one added to each token's count.

    Columns ``document, window, position, nll`` (nats), NaN where the counts cannot be read.
    """
    rows = run.connection.execute(
        """SELECT document::VARCHAR AS document, "window", position,
            token_ids[position - start + 1] AS id
        FROM (SELECT DISTINCT document, "window", position FROM scores
            WHERE condition = 'truncate') JOIN windows USING (document, "window")
        ORDER BY ALL"""
    ).df()
    ids = rows.pop("id").to_numpy(np.int64)
    try:
        table = pq.read_table(
            run.path / "frequencies.parquet",
            columns=["token_id", "count"],
            page_checksum_verification=True,
        )
        known, counts = (column.to_numpy().astype(np.int64) for column in table.columns)
    except (OSError, pa.ArrowException):
        return rows.assign(nll=np.nan)
    highest = max(int(known.max(initial=-1)), int(ids.max(initial=-1)))
    size = max(run.facts.model.vocabulary or 0, highest + 1)
    by_id = np.zeros(size, dtype=np.int64)
    by_id[known] = counts
    return rows.assign(nll=np.log(by_id.sum() + size) - np.log(by_id[ids] + 1))


def _sums(run: OpenRun, context: int) -> tuple[dict[Measure, Floats], Floats]:
    """Sums by document and length, and targets by document; length 0 is left open."""
    measures = measured(run)
    columns = ", ".join(f"sum({name}::DOUBLE) AS {name}" for name in measures)
    frame = run.connection.execute(
        f"""SELECT document::VARCHAR AS document, distance, count(*) AS targets, {columns}
        FROM scores WHERE condition = 'truncate' GROUP BY ALL"""
    ).df()
    sums = {
        name: frame.pivot(index="document", columns="distance", values=name)
        .reindex(index=run.documents, columns=range(context + 1))
        .to_numpy(float)
        for name in measures
    }
    targets = frame.groupby("document")["targets"].max().reindex(run.documents, fill_value=0)
    return sums, targets.to_numpy(float)[:, None]


def _by_length(run: OpenRun, sums: Mapping[Measure, Floats], targets: Floats) -> pd.DataFrame:
    missing = np.full_like(sums["nll"], np.nan)
    table = pd.DataFrame({"context": np.arange(missing.shape[1])})
    for name in get_args(Measure):
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
