"""What cutting text into chunks does to embeddings, by distance from where it is cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import bin_edges
from probe.analysis.bootstrap import Floats, resample_weights, stretch, too_few
from probe.analysis.fit import in_order
from probe.analysis.floor import is_noise, without_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import binned, delta_table, located
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import ProbeError
from probe.findings.answer import counts, subject
from probe.findings.base import CONDITION, Drawn, Finding, Plot, only, register
from probe.findings.chart import Chart, EmptyChartError, Strip, distance_axis, linear_axis
from probe.findings.curve import curve_series
from probe.findings.table import Table, decimals, percent, pivot, ranged, records
from probe.findings.terms import describe_condition
from probe.text import counted, printable

SHARES = (0.5, 0.9)
"""Parts of the whole change whose place is told."""
TERMS = {
    "1 − cosine": (
        "of the last hidden states of a token in the whole window and in its chunk: 0 where they"
        " point the same way, 1 where they have nothing in common"
    ),
    "pooled": "of the means of these states over a chunk, by which a chunk is often embedded",
}
_TOKENS = """SELECT document::VARCHAR AS document, condition::VARCHAR AS condition, chunk, distance,
        avg(embedding::DOUBLE) AS value
    FROM scores WHERE boundary >= 0
    GROUP BY document, "window", position, condition, chunk, distance"""
_CHUNKS = """SELECT document::VARCHAR AS document, condition::VARCHAR AS condition, chunk,
        avg(pooled) AS value
    FROM (SELECT document, "window", condition, repeat, chunk, boundary, boundary_right,
            any_value(embedding_pooled::DOUBLE) AS pooled
        FROM scores WHERE boundary >= 0 GROUP BY ALL)
    GROUP BY document, "window", condition, chunk, boundary, boundary_right"""


@dataclass(frozen=True, eq=False)
class Edges:
    """How far states are changed, by distance and in all.

    Args:
        by_distance: ``condition, chunk, distance_from, distance_to`` (tokens)``, change, low, high,
            targets, documents, floor``: the columns of ``edges.csv``; change and limits are
            1 − cosine, limits are missing with fewer documents than an interval needs.
        by_chunk: One row a condition and size of chunks: ``condition, chunk, change, low, high,
            pooled, pooled_low, pooled_high, documents``; and for 50 and 90 % of the change
            ``within_50, within_50_low, within_50_high`` (tokens from a cut), ``tokens_50`` (the
            share of the tokens that stands there).
    """

    by_distance: pd.DataFrame
    by_chunk: pd.DataFrame


def plot(runs: Sequence[OpenRun], *, condition: str | None = None) -> Drawn:
    """1 − cosine by distance from a cut, for `probe plot`.

    Args:
        runs: One run.
        condition: Only this condition.
    """
    rows = only(runs[0].once(edges).by_distance, "condition", condition, "condition")
    yield "", chart(runs[0], rows)


@register(
    "edges",
    order=10,
    level="answer",
    plots=[Plot("curve", plot, 1, [CONDITION])],
    losses=False,
)
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding | None:
    """The answer of a run that cuts windows into chunks.

    Args:
        run: The open run.
        others: Not needed.
    """
    if not run.is_answered_by("edges"):
        return None
    measured = run.once(edges)
    few = too_few(len(run.documents))
    names = [name for name in run.conditions if not is_noise(name)]
    return Finding(
        "answer",
        "The answer",
        _sentence(run, measured.by_chunk),
        _basis(run),
        tables=_tables(run, measured),
        charts=[chart(run, measured.by_distance)] if names else [],
        caveats=[*([f"no interval: {few}"] if few else []), *_caveats(run), *run.warnings],
        files={
            "edges.csv": measured.by_distance,
            "summary.json": _summary(run, measured.by_chunk),
        },
        terms=TERMS | {name: describe_condition(name) for name in in_order(names)},
    )


def edges(run: OpenRun) -> Edges:
    """Change by distance from a cut, and of whole chunks, with intervals over documents.

    Args:
        run: A run with protocol chunks.

    Raises:
        ProbeError: If the run has another protocol.
    """
    if not run.is_answered_by("edges"):
        raise ProbeError(f"run '{run.path}' has no chunks; allowed: a run with protocol chunks")
    query = run.connection.execute
    (longest,) = query("SELECT max(distance) FROM scores").fetchall()[0]
    bins = bin_edges(int(longest) + 1, run.analysis.bins_per_octave)
    with binned(run.connection, bins):
        by_bin = query(_sums("bin", f"SELECT * FROM ({_TOKENS}) JOIN bins USING (distance)")).df()
    single, pooled = query(_sums("distance", _TOKENS)).df(), query(_sums("1", _CHUNKS)).df()
    keys = ("condition", "chunk")
    whole = single.groupby([*keys, "document"], as_index=False)[["targets", "delta_sum"]].sum()
    by_distance = delta_table(
        located(by_bin, bins), (*keys, "distance_from", "distance_to"), run.analysis
    ).rename(columns={"delta": "change"})
    starts = by_distance["distance_from"].to_numpy(dtype=np.int64)
    by_distance["floor"] = np.nan if run.floor is None else run.floor.at(starts)
    of_tokens = delta_table(whole, keys, run.analysis).rename(columns={"delta": "change"})
    of_chunks = delta_table(pooled, keys, run.analysis).rename(
        columns={"delta": "pooled", "low": "pooled_low", "high": "pooled_high"}
    )
    by_chunk = of_tokens.drop(columns="targets").merge(
        of_chunks[[*keys, "pooled", "pooled_low", "pooled_high"]], on=list(keys)
    )
    places = [
        dict(zip(keys, group, strict=True)) | _places(run, rows)
        for group, rows in single.groupby(list(keys))
    ]
    found = pd.DataFrame(places)
    tokens = [name for name in map(str, found) if name.startswith("within")]
    found[tokens] = found[tokens].astype("Int64")
    return Edges(by_distance, by_chunk.merge(found, on=list(keys)))


def _sums(by: str, rows: str) -> str:
    """SQL: sums of the values of some rows by condition, size of chunks, document and *by*."""
    return f"""SELECT condition, chunk, document, {by}, count(*) AS targets,
        sum(value) AS delta_sum FROM ({rows}) GROUP BY ALL ORDER BY ALL"""


def within(
    sums: Floats, targets: Floats, share: float, weights: Floats, confidence: float
) -> tuple[int, int | None, int | None, float]:
    """Within how many tokens of a cut a share of the whole change lies.

    Args:
        sums: Sum of the change by document and distance, shape ``(documents, distances)``; column
            *d* is that of the tokens with *d* others between them and the cut.
        targets: Number of these tokens, same shape.
        share: Share of the change, between 0 and 1.
        weights: Draws of the documents, shape ``(resamples, documents)``.
        confidence: Of the interval.

    Returns:
        The fewest tokens next to a cut that have the share or more of it; the limits of a bootstrap
        over documents, rounded outward, ``None`` with too few of them; and the share of all tokens
        that stand there.
    """
    estimate = int(_reached(sums.sum(axis=0)[None], share)[0])
    there = float(targets[:, :estimate].sum() / targets.sum())
    documents = int((targets.sum(axis=1) > 0).sum())
    if documents < FEWEST_DOCUMENTS:
        return estimate, None, None, there
    mean = _cumulative(sums.sum(axis=0)[None])
    drawn = mean + stretch(documents, confidence) * (_cumulative(weights @ sums) - mean)
    reached = 1 + (drawn < share - 1e-12).sum(axis=1)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.nanquantile(np.minimum(reached, sums.shape[1]), tails)
    return estimate, min(estimate, int(low)), max(estimate, int(np.ceil(high))), there


def _cumulative(sums: Floats) -> Floats:
    """Share of the whole that lies within each number of tokens; all of it, if it is nothing."""
    totals = sums.sum(axis=1, keepdims=True)
    shares = np.ones_like(sums)
    np.divide(np.cumsum(sums, axis=1), totals, out=shares, where=totals > 0)
    return shares


def _reached(sums: Floats, share: float) -> NDArray[np.int64]:
    found: NDArray[np.int64] = 1 + (_cumulative(sums) < share - 1e-12).sum(axis=1)
    return np.minimum(found, sums.shape[1])


def _places(run: OpenRun, rows: pd.DataFrame) -> dict[str, Any]:
    """Where the shares of the change of one condition and size of chunks lie."""
    documents = run.documents
    at = pd.Index(documents).get_indexer(pd.Index(rows["document"]))
    distances = rows["distance"].to_numpy(dtype=np.int64)
    sums, targets = (np.zeros((len(documents), int(distances.max()) + 1)) for _ in range(2))
    sums[at, distances], targets[at, distances] = rows["delta_sum"], rows["targets"]
    held = targets.sum(axis=1) > 0
    how = run.analysis
    weights = resample_weights(int(held.sum()), how.resamples, how.seed)
    places: dict[str, Any] = {}
    for share in SHARES:
        name = f"{share * 100:g}"
        found, low, high, there = within(sums[held], targets[held], share, weights, how.confidence)
        places |= {
            f"within_{name}": found,
            f"within_{name}_low": low,
            f"within_{name}_high": high,
            f"tokens_{name}": there,
        }
    return places


def chart(run: OpenRun, rows: pd.DataFrame) -> Chart:
    """1 − cosine by distance from a cut, a line for each size of chunks under the first condition.

    Other conditions have one of the largest chunks.

    Args:
        run: The run.
        rows: Rows of :attr:`Edges.by_distance`.

    Raises:
        EmptyChartError: If there is none.
    """
    rows = without_noise(rows)
    if rows.empty:
        raise EmptyChartError("no chunk to draw")
    names, sizes = in_order(rows["condition"].astype(str)), sorted(set(rows["chunk"]))
    pairs = [(names[0], size) for size in sizes] + [(name, sizes[-1]) for name in names[1:]]
    series = [
        curve_series(
            rows[(rows["condition"] == name) & (rows["chunk"] == size)],
            f"{name}, chunks of {size:,}",
            look,
            "change",
        )
        for look, (name, size) in enumerate(pairs)
    ]
    floor = run.floor
    how = (
        "How far a token's embedding turns when its chunk is read without the rest of the window,"
        " by how many tokens stand between it and the nearest place where the chunk is cut; bands:"
        " interval over documents. Distances from half a chunk on are those of tokens at the ends"
        " of windows alone, whose chunks are cut on one side."
    )
    return Chart(
        "Change of embeddings by distance from a cut",
        distance_axis(float(rows["distance_to"].max()) - 1, label="distance from a cut (tokens)"),
        linear_axis(rows[["change", "low", "high"]], "1 − cosine", include=(0,)),
        [one for one in series if len(one.x)],
        floor=None
        if floor is None
        else Strip(np.append(floor.lower, floor.upper[-1:]).astype(float), floor.limit),
        how=how,
        tables=[_by_distance(rows, size) for size in sizes],
        heading=[run.model, run.data],
        file="edges",
    )


def _by_distance(rows: pd.DataFrame, size: int) -> Table:
    own = rows[rows["chunk"] == size]
    names = in_order(own["condition"].astype(str))
    caption = f"Chunks of {size:,} tokens: 1 − cosine by distance from a cut (tokens)"
    return pivot(
        caption, records(own), names, by="condition", cell=lambda row: ranged(row, "change", 4)
    )


def _sentence(run: OpenRun, rows: pd.DataFrame) -> str:
    """Of the first condition and the largest chunks: the change, and where half of it lies."""
    rows = without_noise(rows)
    if rows.empty:
        return f"{subject(run)}: no condition but noise was scored."
    name = in_order(rows["condition"].astype(str))[0]
    row = records(rows[rows["condition"] == name].nlargest(1, "chunk"))[0]
    return (
        f"{subject(run)}: in chunks of {counted(row['chunk'], 'token')} under {printable(name)}"
        f" 1 − cosine is {_value(run, row, 'change')} for the embedding of a token and"
        f" {_value(run, row, 'pooled')} for a pooled chunk; half of the change lies within"
        f" {_tokens(run, row, 50)} of a chunk's edges, where {percent(row['tokens_50'])} of the"
        f" tokens stand, 90 % within {_tokens(run, row, 90)}, where {percent(row['tokens_90'])} do."
    )


def _value(run: OpenRun, row: dict[str, Any], name: str) -> str:
    low, high = (row.get(f"{name}_{end}" if name == "pooled" else end) for end in ("low", "high"))
    if low is None or high is None:
        return decimals(row[name])
    level = f"{run.analysis.confidence * 100:g} % interval"
    return f"{decimals(row[name])} ({level} {decimals(low)} to {decimals(high)})"


def _tokens(run: OpenRun, row: dict[str, Any], share: int) -> str:
    name = f"within_{share}"
    low, high, text = row[f"{name}_low"], row[f"{name}_high"], counted(int(row[name]), "token")
    return text if low is None else f"{text} (interval {int(low):,} to {int(high):,})"


def _tables(run: OpenRun, measured: Edges) -> list[Table]:
    """One row a condition and size of chunks; the sizes' own tables stand below the chart."""
    rows = without_noise(measured.by_chunk)
    order = in_order(rows["condition"].astype(str))
    lines = sorted(records(rows), key=lambda r: (order.index(str(r["condition"])), r["chunk"]))
    cells = [
        [
            str(row["condition"]),
            f"{row['chunk']:,}",
            ranged(row, "change"),
            ranged({**row, "low": row["pooled_low"], "high": row["pooled_high"]}, "pooled"),
            *(_within(row, round(share * 100)) for share in SHARES),
        ]
        for row in lines
    ]
    share = f"{run.analysis.confidence * 100:g} %"
    headers = ["condition", "chunk", "a token", "a pooled chunk", "50 % within", "90 % within"]
    caption = (
        f"Change of embeddings (1 − cosine, with its {share} interval) by size of chunks (tokens),"
        " and within how many tokens of a chunk's edges half and 90 % of it lie (share of all"
        " tokens)"
    )
    return [Table(caption, headers, cells, shown="both")] if cells else []


def _within(row: dict[str, Any], share: int) -> str:
    name = f"within_{share}"
    if not row["change"]:  # none lies anywhere
        return "–"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    limits = "" if low is None else f" ({int(low):,}–{int(high):,})"
    return f"{int(row[name]):,}{limits}, {percent(row[f'tokens_{share}'])}"


def _caveats(run: OpenRun) -> list[str]:
    """What a change may be besides the lost text."""
    lines = []
    if "truncate" in run.conditions:
        lines.append("truncate also moves a chunk to the first positions; hide keeps its own")
    dtype = run.facts.model.dtype
    if dtype in ("bfloat16", "float16"):
        lines.append(
            f"rounding in {dtype} turns states too, and by another amount in a text of another"
            " length, which the noise floor does not see: model.dtype float32 lowers it"
        )
    if run.floor is None:
        lines.append("no noise floor: the run has no noise condition")
    return lines


def _basis(run: OpenRun) -> str:
    """What was measured, on what, and what arithmetic alone does."""
    floor = _highest(run)
    noise = "" if floor is None else f"; noise floor at most {floor:.2g}"
    return (
        f"Measured on {', '.join(counts(run))}; 1 − cosine between a token's last hidden state in"
        f" the whole window and in its chunk{noise}."
    )


def _highest(run: OpenRun) -> float | None:
    """The noise floor of all distances (1 − cosine), ``None`` where there is none."""
    limits = np.zeros(0) if run.floor is None else run.floor.limit
    return float(np.nanmax(limits)) if np.isfinite(limits).any() else None


def _summary(run: OpenRun, rows: pd.DataFrame) -> dict[str, Any]:
    """The answer's part of ``summary.json``."""
    return {
        "run": run.name,
        "status": run.facts.status,
        "model": run.model,
        "data": run.data,
        "documents": len(run.documents),
        "windows": run.windows,
        "targets": run.targets,
        "measure": run.folder.reading.measure,
        "confidence": run.analysis.confidence,
        "noise_floor": _highest(run),
        "chunks": records(rows),
        "warnings": list(run.warnings),
    }
