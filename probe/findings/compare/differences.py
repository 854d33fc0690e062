"""Differences B − A of curves, intact losses and attention patterns, intervals over documents."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import octave_edges, octave_index
from probe.analysis.bootstrap import (
    Bootstrap,
    Floats,
    band,
    bootstrap,
    pointwise_band,
    ratio,
    resample_weights,
)
from probe.analysis.floor import NoiseFloor, noise_floor
from probe.analysis.open_run import PATTERN, OpenRun
from probe.analysis.predicted import adjusted
from probe.analysis.settings import Analysis
from probe.analysis.sums import Sums, binned, stacked
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.findings.compare.pair import SIDES, Pairing

VALUES = ("a", "b", "difference", "low", "high", "documents", "targets")
CURVE_COLUMNS = ("condition", "unit", "distance_from", "distance_to", *VALUES)
LOSS_COLUMNS = ("unit", *VALUES)
PATTERN_COLUMNS = ("condition", *VALUES)
FAR_COLUMNS = (*CURVE_COLUMNS, "octaves")

ONE_BIN: NDArray[np.int64] = np.array([0, 1])
"""Edges of the bin of rows that are summed whatever their distance, which is 0 there."""
MOST = 0.9
"""Share of each run's documents that must reach as far in bytes as both are compared."""
_SINGLE_HEAD = re.compile(
    r"attend\(heads\(((?! \+ ).)+, layers=\[[0-9]{1,9}\], heads=\[[0-9]{1,9}\]\)\)"
)


@dataclass(frozen=True)
class Unit:
    """What distances are counted in.

    Args:
        name: ``tokens`` or ``bytes``.
        per: How many of them an average token is: 1, or bytes per token. Losses are summed in
            nats an average token whatever the unit, so that tolerances and floors mean the same.
    """

    name: Literal["tokens", "bytes"]
    per: float = 1.0

    @property
    def scale(self) -> float:
        """From nats an average token to what is shown: nats per token, or bits per byte."""
        return 1.0 if self.name == "tokens" else 1 / (self.per * float(np.log(2)))


@dataclass(frozen=True, eq=False)
class Draws:
    """How the documents of two runs are resampled: together, or independently.

    Args:
        pairing: What the runs have in common.
        documents: Documents of each run, in order of name.
        weights: How often each is drawn: of each run ``(resamples, documents)``.
    """

    pairing: Pairing
    documents: tuple[list[str], list[str]]
    weights: tuple[Floats, Floats]


@dataclass(frozen=True, eq=False)
class PairSums:
    """One condition in both runs, on the bins that both measured.

    Args:
        condition: Canonical text of the condition.
        unit: What distances and targets are counted in.
        draws: Draws of the documents.
        a: Sums of the first run (nats; targets in average tokens), documents in its own order.
        b: Sums of the second; the same targets as ``a`` where windows are paired.
        targets: Targets by bin, the smaller number of both, shape ``(bins,)``.
    """

    condition: str
    unit: Unit
    draws: Draws
    a: Sums
    b: Sums
    targets: NDArray[np.int64]


def draw(documents: tuple[list[str], list[str]], pairing: Pairing, how: Analysis) -> Draws:
    """Resample the documents of both runs, together where both have them, else independently."""
    first = resample_weights(len(documents[0]), how.resamples, how.seed)
    if pairing != "none":
        return Draws(pairing, documents, (first, first))
    second = resample_weights(len(documents[1]), how.resamples, how.seed + 1)
    return Draws(pairing, documents, (first, second))


def reaches(
    connection: duckdb.DuckDBPyConnection, condition: str, unit: Unit
) -> tuple[int, int] | None:
    """How far each run measures a condition, in the unit; ``None`` where one does not.

    In bytes tokens end at different distances, so that the last ones would be those of long tokens
    alone: the measure ends where one in ten documents has run out.

    Returns:
        First distance that the first, and the second, run has no more.
    """
    column = "reach" if unit.name == "tokens" else "bytes_reach"
    share = 1 - MOST if unit.name == "bytes" else 1.0
    ends = []
    for side in SIDES:
        rows = connection.execute(
            f"""SELECT quantile_disc(longest, $share) FROM (
                SELECT max({column}) AS longest FROM {side}_spans
                WHERE condition = $condition AND {column} IS NOT NULL GROUP BY document)""",
            {"share": share, "condition": condition},
        ).fetchall()
        if rows[0][0] is None:
            return None
        ends.append(int(rows[0][0]) + 1)
    return ends[0], ends[1]


def first_distance(
    connection: duckdb.DuckDBPyConnection, condition: str, unit: Unit, start: int
) -> int:
    """Where a curve begins in the unit: no bin holds a distance before it.

    Args:
        connection: With the views of :func:`probe.findings.compare.pair.create_rows`.
        condition: Canonical text of the condition.
        unit: What distances are counted in.
        start: First distance of the curve (tokens).

    Returns:
        The first distance behind all targets that the curve leaves out.
    """
    if unit.name == "tokens" or start <= 0:
        return start
    longest = [
        connection.execute(
            f"SELECT max(distance) FROM {side}_bytes WHERE condition = $c AND tokens < $start",
            {"c": condition, "start": start},
        ).fetchall()[0][0]
        for side in SIDES
    ]
    return max((int(end) + 1 for end in longest if end is not None), default=0)


def pair_sums(
    connection: duckdb.DuckDBPyConnection,
    condition: str,
    unit: Unit,
    draws: Draws,
    rows: str,
    edges: NDArray[np.int64] = ONE_BIN,
) -> PairSums | None:
    """Sum rows of one condition in both runs by bin and document.

    Args:
        connection: With the views of :func:`probe.findings.compare.pair.create_rows`.
        condition: Canonical text of the condition, the parameter ``$condition`` of the rows.
        unit: What their weights are counted in.
        draws: The documents in their order; paired ``windows`` give sums over the targets that
            both runs have.
        rows: SQL of the rows of a run, ``{side}`` in place of its name: ``place, document,
            position, boundary, distance, weight, nats``.
        edges: Edges of the bins of distance, shape ``(bins + 1,)``.

    Returns:
        The sums; ``None`` without a bin that both measured.
    """
    a, b = (f"({rows.format(side=side)}) {side}" for side in SIDES)
    given = {"condition": condition}
    if len(edges) < 2:
        return None
    with binned(connection, edges):
        if draws.pairing == "windows":
            # One pass over the common targets: equal runs give equal sums to the last bit.
            frame = connection.execute(
                f"""SELECT bin, a.document, count(*) AS a_targets, count(*) AS b_targets,
                    sum(a.weight) AS a_weight, sum(b.weight) AS b_weight,
                    sum(a.nats) AS a_nats, sum(b.nats) AS b_nats
                FROM {a} JOIN {b} USING (place, position, boundary)
                JOIN bins ON bins.distance = a.distance GROUP BY ALL""",
                given,
            ).df()
        else:
            frames = [
                connection.execute(
                    f"""SELECT bin, document, count(*) AS {side}_targets,
                        sum(weight) AS {side}_weight, sum(nats) AS {side}_nats
                    FROM {of_side} JOIN bins USING (distance) GROUP BY ALL""",
                    given,
                ).df()
                for side, of_side in zip(SIDES, (a, b), strict=True)
            ]
            common = np.intersect1d(frames[0]["bin"], frames[1]["bin"])
            frame = frames[0].merge(frames[1], on=["bin", "document"], how="outer")
            frame = frame[frame["bin"].isin(common)]
    if frame.empty:
        return None
    wide = frame.pivot(index="document", columns="bin")
    bins = np.unique(frame["bin"].to_numpy(dtype=np.int64))

    def sums(side: str, documents: list[str]) -> Sums:
        nats, weights = (
            wide[f"{side}_{name}"].reindex(documents).fillna(0).to_numpy(dtype=np.float64)
            for name in ("nats", "weight")
        )
        return Sums(edges[bins], edges[bins + 1], nats, weights / unit.per)

    first, second = map(sums, SIDES, draws.documents)
    targets = frame.groupby("bin")[["a_targets", "b_targets"]].sum().min(axis=1)
    return PairSums(condition, unit, draws, first, second, targets.to_numpy(dtype=np.int64))


def predicted(pair: PairSums, a: OpenRun, b: OpenRun) -> PairSums:
    """The sums by what token ids predict, where both runs know that and count tokens.

    Where windows are paired it is the difference that is predicted: what two models need far text
    for alike is in neither's favour.

    Args:
        pair: The sums of both.
        a: The first run.
        b: The second.
    """
    first_run, second_run = a.prediction, b.prediction
    if pair.unit.name != "tokens" or first_run is None or second_run is None:
        return pair
    known = [
        told.inside(pair.condition, sums.lower, sums.upper)[
            pd.Index(run.documents).get_indexer(pd.Index(documents))
        ]
        for run, told, sums, documents in zip(
            (a, b), (first_run, second_run), (pair.a, pair.b), pair.draws.documents, strict=True
        )
    ]
    population = min(first_run.population, second_run.population)
    first = adjusted(pair.a, known[0], population)
    if pair.draws.pairing != "windows":
        return replace(pair, a=first, b=adjusted(pair.b, known[1], population))
    apart = replace(pair.a, sums=pair.b.sums - pair.a.sums)
    apart = adjusted(apart, known[1] - known[0], population)
    return replace(pair, a=first, b=replace(pair.b, sums=first.sums + apart.sums))


def floors(
    connection: duckdb.DuckDBPyConnection, unit: Unit, confidence: float
) -> tuple[NoiseFloor | None, NoiseFloor | None]:
    """Noise floor of each run by octave of the unit (nats per token)."""
    limits = []
    for side in SIDES:
        rows = connection.execute(
            f"""SELECT condition, distance AS distance_from, document, count(*) AS targets,
                sum(nats) AS delta_sum, sum(nats * nats) AS delta_squares
            FROM {side}_{unit.name}
            WHERE condition = 'noise' OR starts_with(condition, 'noise(') GROUP BY ALL"""
        ).df()
        reach = 1 if rows.empty else int(rows["distance_from"].max()) + 1
        limits.append(noise_floor(rows, reach, confidence))
    return limits[0], limits[1]


def difference_rows(
    pair: PairSums, confidence: float, *, simultaneous: bool = False
) -> pd.DataFrame:
    """The difference of two means, one row a bin.

    Args:
        pair: The sums of both.
        confidence: Confidence of the limits.
        simultaneous: Whether they hold for all bins at once, not bin by bin.

    Returns:
        The columns ``CURVE_COLUMNS``: ``a`` and ``b`` are the means, ``difference`` is B − A with
        its limits, all in nats per token or, in bytes, bits per byte; ``documents`` and ``targets``
        are the smaller numbers of both runs.
    """
    apart = _difference(pair, confidence)
    low, high = band(apart, confidence, simultaneous=simultaneous)
    sides = (pair.a, pair.b)
    a, b = (ratio(sums.sums.sum(axis=0), sums.targets.sum(axis=0)) for sums in sides)
    scale = pair.unit.scale
    return pd.DataFrame(
        {
            "condition": pair.condition,
            "unit": pair.unit.name,
            "distance_from": pair.a.lower,
            "distance_to": pair.a.upper,
            "a": a * scale,
            "b": b * scale,
            "difference": apart.mean * scale,
            "low": low * scale,
            "high": high * scale,
            "documents": np.minimum(*((sums.targets > 0).sum(axis=0) for sums in sides)),
            "targets": pair.targets,
        }
    )


def by_octave(pair: PairSums) -> PairSums:
    """The same sums by octave of distance."""
    edges = octave_edges(int(pair.a.upper[-1]))
    octaves = octave_index(pair.a.lower)
    measured, starts = np.unique(octaves, return_index=True)
    lower, upper = edges[measured], edges[measured + 1]

    def pooled(values: NDArray[np.float64]) -> Floats:
        return np.asarray(np.add.reduceat(values, starts, axis=1))

    a, b = (
        Sums(lower, upper, pooled(sums.sums), pooled(sums.targets)) for sums in (pair.a, pair.b)
    )
    targets = np.add.reduceat(pair.targets, starts)
    return replace(pair, a=a, b=b, targets=np.asarray(targets, dtype=np.int64))


def far_row(pair: PairSums, confidence: float) -> pd.DataFrame:
    """The difference at far distances in one number: the mean over the far half of the octaves.

    Which octaves these are is fixed before any loss is seen: of the *n* that at least six documents
    of both runs measured (all, where there is none), those behind the first ``n // 2``; of eight
    that end at 1,024 tokens 64 to 1,023. So there is one test a condition, and nothing is chosen by
    its significance. Each octave counts alike, however many targets it has: protocols spread
    targets over distances in different ways, and runs of two protocols would else be compared at
    different distances.

    Args:
        pair: The sums of both by bin or octave.
        confidence: Confidence of the limits.

    Returns:
        One row, columns ``FAR_COLUMNS``; ``documents`` is the smallest number of an octave, and
        ``octaves`` their number.
    """
    pair = by_octave(pair)
    rows = difference_rows(pair, confidence)
    measured = np.flatnonzero(rows["documents"] >= FEWEST_DOCUMENTS)
    known = measured if len(measured) else np.arange(len(rows))
    far = known[len(known) // 2 :]
    apart, chosen = _difference(pair, confidence), rows.iloc[far]
    pooled = replace(
        apart,
        mean=apart.mean[far].mean(keepdims=True),
        draws=apart.draws[:, far].mean(axis=1, keepdims=True),
    )
    (low,), (high,) = (limit * pair.unit.scale for limit in pointwise_band(pooled, confidence))
    row = {
        "condition": pair.condition,
        "unit": pair.unit.name,
        "distance_from": chosen["distance_from"].iloc[0],
        "distance_to": chosen["distance_to"].iloc[-1],
        **chosen[["a", "b", "difference"]].mean().to_dict(),
        "low": low,
        "high": high,
        "documents": chosen["documents"].min(),
        "targets": chosen["targets"].sum(),
        "octaves": len(far),
    }
    return pd.DataFrame([row], columns=list(FAR_COLUMNS))


def loss_rows(
    connection: duckdb.DuckDBPyConnection, draws: Draws, confidence: float, units: Iterable[Unit]
) -> pd.DataFrame:
    """The difference of the intact losses, in nats per token and in bits per byte.

    Args:
        connection: With the views of :func:`probe.findings.compare.pair.create_rows`.
        draws: Draws of the documents; paired ``windows`` give losses of the same targets, else
            each run's own targets in its documents count.
        confidence: Confidence of the interval.
        units: Tokens and bytes, where they can be compared.

    Returns:
        One row a unit, columns ``LOSS_COLUMNS``; ``unit`` is ``nats per token`` or ``bits per
        byte``.
    """
    frames = []
    for unit in units:
        tokens = unit.name == "tokens"
        rows = f"""SELECT place, document, position, -1 AS boundary, 0 AS distance,
                nll::DOUBLE AS nats, {1 if tokens else "coalesce(bytes, 0)"} AS weight
            FROM {{side}}_compared LEFT JOIN {{side}}_places_bytes USING (place, position)
            WHERE condition = $condition"""
        pair = pair_sums(connection, "intact", unit, draws, rows)
        if pair is not None and all(sums.targets.any() for sums in (pair.a, pair.b)):
            name = "nats per token" if tokens else "bits per byte"
            frames.append(difference_rows(pair, confidence).assign(unit=name))
    return stacked(frames, LOSS_COLUMNS)[[*LOSS_COLUMNS]]


def pattern_rows(
    connection: duckdb.DuckDBPyConnection,
    runs: tuple[OpenRun, OpenRun],
    draws: Draws,
    confidence: float,
) -> pd.DataFrame:
    """The difference B − A of what patterns without a boundary lose, one row a pattern of both.

    Args:
        connection: With the views of :func:`probe.findings.compare.pair.create_rows`.
        runs: Both runs.
        draws: Draws of the documents; of paired ``windows`` the same targets are compared.
        confidence: Confidence of the interval.

    Returns:
        Columns ``PATTERN_COLUMNS``, nats per token, in order of name, without single heads. Targets
        that a pattern hides nothing from in either run are left out.
    """
    first_run, second_run = (patterns(connection, side) for side in SIDES)
    frames = []
    for name in first_run:
        if name not in second_run:
            continue
        costs = [run.facts.attention.get(name) for run in runs]
        first = max((one.first or 0) if one else 0 for one in costs)
        rows = f"""SELECT place, document, position, -1 AS boundary, 0 AS distance, 1 AS weight,
                avg(nll::DOUBLE - nll_intact::DOUBLE) AS nats
            FROM {{side}}_compared
            WHERE condition = $condition AND boundary < 0 AND position - start >= {first}
            GROUP BY ALL"""
        pair = pair_sums(connection, name, Unit("tokens"), draws, rows)
        if pair is not None:
            frames.append(difference_rows(pair, confidence))
    return stacked(frames, PATTERN_COLUMNS)[[*PATTERN_COLUMNS]]


def patterns(connection: duckdb.DuckDBPyConnection, side: str) -> list[str]:
    """Patterns of one side that have no boundary, in order of name, single heads left out."""
    rows = connection.execute(
        f"""SELECT DISTINCT condition::VARCHAR FROM {side}_scores
        WHERE boundary < 0 AND starts_with(condition, '{PATTERN}') ORDER BY 1"""
    ).fetchall()
    return [str(name) for (name,) in rows if not _SINGLE_HEAD.fullmatch(str(name))]


def _difference(pair: PairSums, confidence: float) -> Bootstrap:
    """The mean of B less that of A by bin, and its resamples.

    Where windows are paired the difference is formed target by target, before anything is
    divided; else it is that of two means, each stretched for its own number of documents.
    """
    weights = pair.draws.weights
    if pair.draws.pairing == "windows":
        sums = pair.b.sums - pair.a.sums
        return bootstrap(sums, pair.a.targets, weights[0], confidence)
    first, second = (
        bootstrap(sums.sums, sums.targets, drawn, confidence)
        for sums, drawn in zip((pair.a, pair.b), weights, strict=True)
    )
    return Bootstrap(
        second.mean - first.mean,
        second.draws - first.draws,
        np.minimum(first.targets, second.targets),
        np.hypot(first.standard_error, second.standard_error),
        min(first.documents, second.documents),
    )
