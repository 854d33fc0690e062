"""Ablated information: a condition's loss as a ratio to the loss of all far context."""

from collections.abc import Mapping, Sequence

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bootstrap import Floats, bootstrap, pointwise_band, too_few
from probe.analysis.cells import cells
from probe.analysis.floor import NoiseFloor, is_noise
from probe.analysis.sums import binned, by_octave, located, stacked, to_sums

COLUMNS = (
    "condition",
    "distance_from",
    "distance_to",
    "ratio",
    "low",
    "high",
    "resolved",
    "reason",
    "targets",
    "documents",
)


def ablated_information(
    connection: duckdb.DuckDBPyConnection,
    conditions: Sequence[str],
    edges: NDArray[np.int64],
    *,
    documents: Sequence[str],
    weights: Floats,
    confidence: float,
    floor: NoiseFloor | None = None,
    curve_starts: Mapping[str, int] | None = None,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """What share of the loss of truncation a condition costs, by octave of distance.

    The ratio is ``(nll_c − nll_intact) / (nll_truncate − nll_intact)``, of the means over common
    targets (document, window, position and boundary agree). It has no bound: a condition that
    distracts costs more than truncation, and its ratio exceeds 1; one that helps has a ratio below
    0. Both means are drawn together with the run's documents. Where the denominator's interval
    contains 0 the ratio is unresolved: it could be any number.

    Args:
        connection: From :func:`probe.results.views.connect`.
        conditions: Canonical texts of the run's conditions.
        edges: Edges of the bins (tokens), shape ``(bins + 1,)``.
        documents: All documents of the run, in the order of *weights*.
        weights: The run's draws of documents, shape ``(resamples, documents)``.
        confidence: Confidence of each interval, pointwise.
        floor: Noise floor of the run; a denominator must also lie above it.
        curve_starts: First distance (tokens) of each condition's curve; octaves that begin before
            it are left out.

    Returns:
        A frame with the columns ``COLUMNS`` (distances in tokens; ``ratio, low, high`` NaN and
        ``reason`` filled where ``resolved`` is false), the noise control and truncation itself
        left out; and a line where a condition that it needs was not scored.

    Source: O'Connor and Andreas 2021, "What Context Features Can Transformer Language Models
        Use?", section 3, there between models trained with and without the information; here one
        model at evaluation time, with truncation for the lack of all of it.
    """
    truncations = [name for name in conditions if name.partition("(")[0] == "truncate"]
    others = [name for name in conditions if name not in truncations and not is_noise(name)]
    empty = stacked([], COLUMNS)
    if not truncations:
        return empty, ("no ablated information: not scored: 'truncate'",)
    if not others:
        return empty, ("no ablated information: nothing was scored beside 'truncate'",)
    rows = _common_sums(connection, truncations[0], others, edges)
    starts = dict(curve_starts or {})
    first = rows["condition"].map(starts).fillna(0).clip(lower=starts.get(truncations[0], 0))
    frames = [
        _ratios(str(condition), part, documents, weights, confidence, floor)
        for condition, part in rows[rows["distance_from"] >= first].groupby("condition")
    ]
    return stacked(frames, COLUMNS), ()


def ratio_limits(
    numerators: Floats, denominators: Floats, confidence: float
) -> tuple[float, float]:
    """Limits of a ratio from paired draws of its numerator and its denominator.

    They hold every ratio ρ for which the interval of ``numerator − ρ · denominator`` contains 0.
    Where all denominators are above 0 these are the quantiles of the draws' ratios; the few draws
    that a denominator significantly above 0 may have on the other side are counted rightly.

    Args:
        numerators: Draws, shape ``(resamples,)``.
        denominators: Draws, same shape, their own interval above 0.
        confidence: Confidence of the interval.

    Returns:
        Lower and upper limit.

    Source: Fieller 1954, with bootstrap quantiles in place of normal ones.
    """
    ratios = numerators / denominators
    order = np.argsort(ratios)
    # Draws with numerator ≤ ρ · denominator: those above 0 join as ρ passes them, others leave.
    above = (denominators < 0).sum() + np.cumsum(np.sign(denominators[order]))
    tail = (1 - confidence) / 2 * len(ratios) - 1e-9
    low = int(np.argmax(above >= tail))
    inside = np.flatnonzero(above <= len(ratios) - tail)
    high = min(int(inside.max(initial=-1)) + 1, len(ratios) - 1)
    return float(ratios[order[low]]), float(ratios[order[high]])


def _common_sums(
    connection: duckdb.DuckDBPyConnection,
    truncation: str,
    others: Sequence[str],
    edges: NDArray[np.int64],
) -> pd.DataFrame:
    """Sums of both deltas by condition, octave and document, on targets that both scored.

    Where two cells hold the same targets their sums are those of the common ones; only where they
    do not, rows are joined.
    """
    names = {"truncation": truncation, "others": list(others)}
    table = cells(connection, edges)
    rows = connection.execute(
        f"""SELECT a.condition, a.bin, a.document, sum(a.targets)::BIGINT AS targets,
            sum(a.delta_sum) AS numerator, sum(b.delta_sum) AS denominator,
            bool_and(a.signature = b.signature AND a.targets = b.targets) AS same
        FROM {table} a JOIN {table} b
            ON a.bin = b.bin AND a.document = b.document AND a.shared = b.shared
        WHERE b.condition = $truncation AND a.condition IN $others
            AND a.bin >= 0 AND NOT a.grey AND NOT b.grey
        GROUP BY a.condition, a.bin, a.document""",
        names,
    ).df()
    same = rows.pop("same").to_numpy(dtype=bool)
    frames = [rows[same]]
    if not same.all():
        connection.register("apart", rows.loc[~same, ["condition", "bin", "document"]])
        with binned(connection, edges):
            frames.append(
                connection.execute(
                    """SELECT a.condition, bin, a.document, count(*) AS targets,
                        sum(a.delta) AS numerator, sum(b.delta) AS denominator
                    FROM targets a JOIN bins USING (distance)
                        SEMI JOIN apart USING (condition, bin, document)
                        JOIN targets b ON a.document = b.document AND a."window" = b."window"
                            AND a.position = b.position AND a.boundary = b.boundary
                    WHERE b.condition = $truncation AND a.condition IN $others AND NOT a.grey
                    GROUP BY a.condition, bin, a.document""",
                    names,
                ).df()
            )
        connection.unregister("apart")
    joined = pd.concat([frame for frame in frames if len(frame)] or frames[:1])
    return by_octave(located(joined, edges), int(edges[-1]))


def _ratios(
    condition: str,
    rows: pd.DataFrame,
    documents: Sequence[str],
    weights: Floats,
    confidence: float,
    floor: NoiseFloor | None,
) -> pd.DataFrame:
    """One condition's rows, octave by octave."""
    above = to_sums(rows.rename(columns={"numerator": "delta_sum"}), documents)
    below = to_sums(rows.rename(columns={"denominator": "delta_sum"}), documents)
    numerator = bootstrap(above.sums, above.targets, weights, confidence)
    denominator = bootstrap(below.sums, below.targets, weights, confidence)
    lows, highs = pointwise_band(denominator, confidence)
    noise = np.zeros(len(lows)) if floor is None else np.nan_to_num(floor.at(below.lower))
    counted = (below.targets > 0).sum(axis=0)
    found = []
    for octave in range(len(lows)):
        reason = _reason(int(counted[octave]), lows[octave], highs[octave], noise[octave])
        limits = np.nan, np.nan
        if not reason:
            drawn = numerator.draws[:, octave], denominator.draws[:, octave]
            known = np.isfinite(drawn[0])
            limits = ratio_limits(drawn[0][known], drawn[1][known], confidence)
        point = np.nan if reason else numerator.mean[octave] / denominator.mean[octave]
        found.append((point, *limits, not reason, reason))
    frame = pd.DataFrame(found, columns=["ratio", "low", "high", "resolved", "reason"])
    frame.insert(0, "condition", condition)
    frame.insert(1, "distance_from", below.lower)
    frame.insert(2, "distance_to", below.upper)
    return frame.assign(targets=below.targets.sum(axis=0).astype(np.int64), documents=counted)


def _reason(documents: int, low: float, high: float, noise: float) -> str:
    """Why a ratio with such a denominator says nothing; empty where it does."""
    if few := too_few(documents):
        return few
    limits = f"{low:+.2g} to {high:+.2g}".replace("-", "−")
    interval = f"the interval of truncate − intact, {limits} nats,"
    if high < 0:
        return f"{interval} lies below 0: there is no loss to take a share of"
    if not low > 0:
        return f"{interval} contains 0"
    if low <= noise:
        return f"{interval} reaches down to the noise floor {noise:.2g}"
    return ""
