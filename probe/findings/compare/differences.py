"""Differences B − A of curves, losses, patterns and accuracies, with intervals over documents."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

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
)
from probe.analysis.predicted import adjusted
from probe.analysis.sums import Sums, binned, stacked
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.findings.compare.pair import SIDES, Pair, patterns
from probe.findings.suffix import suffixes

VALUES = ("a", "b", "difference", "low", "high", "documents", "targets")
CURVE_COLUMNS = ("condition", "unit", "distance_from", "distance_to", *VALUES)
LOSS_COLUMNS = ("unit", *VALUES)
PATTERN_COLUMNS = ("condition", *VALUES)
FAR_COLUMNS = (*CURVE_COLUMNS, "octaves")
ACCURACY_COLUMNS = ("prefix", *VALUES)
"""The prefix in tokens, accuracies as shares; targets are windows."""

SHOWN = {"tokens": "nats per token", "bytes": "bits per byte"}
"""What losses are told in, by what distances are counted in."""
MOST_REACH = 0.9
"""Share of each run's documents that must reach as far in bytes as both are compared."""
ONE_BIN: NDArray[np.int64] = np.array([0, 1])
"""Edges of the bin of rows that are summed whatever their distance, which is 0 there."""


@dataclass(frozen=True)
class Unit:
    """What distances are counted in.

    Args:
        name: ``tokens`` or ``bytes``.
        per: How many of them an average token is: 1, or bytes per token. Losses are summed in
            nats an average token whatever the unit, so that tolerances and floors mean the same.
        sizes: Bytes of an average token of each run, for tolerances in bits per byte.
    """

    name: Literal["tokens", "bytes"]
    per: float = 1.0
    sizes: tuple[float | None, float | None] = (None, None)

    @property
    def scale(self) -> float:
        """From nats an average token to what is shown: nats per token, or bits per byte."""
        return 1.0 if self.name == "tokens" else 1 / (self.per * float(np.log(2)))


@dataclass(frozen=True, eq=False)
class PairSums:
    """One condition in both runs, on the bins that both measured.

    Args:
        condition: Canonical text of the condition.
        unit: What distances and targets are counted in.
        pair: The runs, with the draws of their documents.
        a: Sums of the first run (nats; targets in average tokens), documents in its own order.
        b: Sums of the second; the same targets as ``a`` where windows are paired.
        targets: Targets by bin, the smaller number of both, shape ``(bins,)``.
    """

    condition: str
    unit: Unit
    pair: Pair
    a: Sums
    b: Sums
    targets: NDArray[np.int64]


def pair_sums(
    pair: Pair, condition: str, unit: Unit, rows: str, edges: NDArray[np.int64] = ONE_BIN
) -> PairSums | None:
    """Sum rows of one condition in both runs by bin and document.

    Args:
        pair: The runs; paired ``windows`` give sums over the targets that both have.
        condition: Canonical text of the condition, the parameter ``$condition`` of the rows.
        unit: What their weights are counted in.
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
    with binned(pair.connection, edges) as connection:
        if pair.pairing == "windows":
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

    first, second = map(sums, SIDES, pair.documents)
    targets = frame.groupby("bin")[["a_targets", "b_targets"]].sum().min(axis=1)
    return PairSums(condition, unit, pair, first, second, targets.to_numpy(dtype=np.int64))


def predicted(both: PairSums) -> PairSums:
    """The sums by what token ids predict, where both runs know that and count tokens.

    Where windows are paired it is the difference that is predicted: what two models need far text
    for alike is in neither's favour.

    Args:
        both: The sums of both.
    """
    first_run, second_run = (run.prediction for run in both.pair.runs)
    if both.unit.name != "tokens" or first_run is None or second_run is None:
        return both
    known = [
        told.inside(both.condition, sums.lower, sums.upper)[
            pd.Index(run.documents).get_indexer(pd.Index(documents))
        ]
        for run, told, sums, documents in zip(
            both.pair.runs,
            (first_run, second_run),
            (both.a, both.b),
            both.pair.documents,
            strict=True,
        )
    ]
    population = min(first_run.population, second_run.population)
    first = adjusted(both.a, known[0], population)
    if both.pair.pairing != "windows":
        return replace(both, a=first, b=adjusted(both.b, known[1], population))
    apart = replace(both.a, sums=both.b.sums - both.a.sums)
    apart = adjusted(apart, known[1] - known[0], population)
    return replace(both, a=first, b=replace(both.b, sums=first.sums + apart.sums))


def difference_rows(both: PairSums, *, simultaneous: bool = False) -> pd.DataFrame:
    """The difference of two means, one row a bin.

    Args:
        both: The sums of both.
        simultaneous: Whether the limits hold for all bins at once, not bin by bin.

    Returns:
        The columns ``CURVE_COLUMNS``: ``a`` and ``b`` are the means, ``difference`` is B − A with
        its limits, all in nats per token or, in bytes, bits per byte; ``documents`` and ``targets``
        are the smaller numbers of both runs.
    """
    apart = _difference(both)
    low, high = band(apart, both.pair.how.confidence, simultaneous=simultaneous)
    sides = (both.a, both.b)
    a, b = (ratio(sums.sums.sum(axis=0), sums.targets.sum(axis=0)) for sums in sides)
    scale = both.unit.scale
    return pd.DataFrame(
        {
            "condition": both.condition,
            "unit": both.unit.name,
            "distance_from": both.a.lower,
            "distance_to": both.a.upper,
            "a": a * scale,
            "b": b * scale,
            "difference": apart.mean * scale,
            "low": low * scale,
            "high": high * scale,
            "documents": np.minimum(*((sums.targets > 0).sum(axis=0) for sums in sides)),
            "targets": both.targets,
        }
    )


def by_octave(both: PairSums) -> PairSums:
    """The same sums by octave of distance."""
    edges = octave_edges(int(both.a.upper[-1]))
    octaves = octave_index(both.a.lower)
    measured, starts = np.unique(octaves, return_index=True)
    lower, upper = edges[measured], edges[measured + 1]

    def pooled(values: NDArray[np.float64]) -> Floats:
        return np.asarray(np.add.reduceat(values, starts, axis=1))

    a, b = (
        Sums(lower, upper, pooled(sums.sums), pooled(sums.targets)) for sums in (both.a, both.b)
    )
    targets = np.add.reduceat(both.targets, starts)
    return replace(both, a=a, b=b, targets=np.asarray(targets, dtype=np.int64))


def far_row(both: PairSums) -> pd.DataFrame:
    """The difference at far distances in one number: the mean over the far half of the octaves.

    Which octaves these are is fixed before any loss is seen: of the *n* that at least six documents
    of both runs measured (all, where there is none), those behind the first ``n // 2``; of eight
    that end at 1,024 tokens 64 to 1,023. So there is one test a condition, and nothing is chosen by
    its significance. Each octave counts alike, however many targets it has: protocols spread
    targets over distances in different ways, and runs of two protocols would else be compared at
    different distances.

    Args:
        both: The sums of both by octave.

    Returns:
        One row, columns ``FAR_COLUMNS``; ``documents`` is the smallest number of an octave, and
        ``octaves`` their number.
    """
    rows = difference_rows(both)
    measured = np.flatnonzero(rows["documents"] >= FEWEST_DOCUMENTS)
    known = measured if len(measured) else np.arange(len(rows))
    far = known[len(known) // 2 :]
    apart, chosen = _difference(both), rows.iloc[far]
    pooled = replace(
        apart,
        mean=apart.mean[far].mean(keepdims=True),
        draws=apart.draws[:, far].mean(axis=1, keepdims=True),
    )
    limits = pointwise_band(pooled, both.pair.how.confidence)
    (low,), (high,) = (limit * both.unit.scale for limit in limits)
    row = {
        "condition": both.condition,
        "unit": both.unit.name,
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


def loss_rows(pair: Pair, units: Iterable[Unit]) -> pd.DataFrame:
    """The difference of the intact losses, in nats per token and in bits per byte.

    Args:
        pair: The runs; paired ``windows`` give losses of the same targets, else each run's own
            targets in its documents count.
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
        both = pair_sums(pair, "intact", unit, rows)
        if both is not None and all(sums.targets.any() for sums in (both.a, both.b)):
            frames.append(difference_rows(both).assign(unit=SHOWN[unit.name]))
    return stacked(frames, LOSS_COLUMNS)[[*LOSS_COLUMNS]]


def pattern_rows(pair: Pair) -> pd.DataFrame:
    """The difference B − A of what patterns without a boundary lose, one row a pattern of both.

    Args:
        pair: The runs; of paired ``windows`` the same targets are compared.

    Returns:
        Columns ``PATTERN_COLUMNS``, nats per token, in order of name, without single heads. Targets
        that a pattern hides nothing from in either run are left out.
    """
    first_run, second_run = (patterns(pair.connection, side) for side in SIDES)
    frames = []
    for name in first_run:
        if name not in second_run:
            continue
        costs = [run.facts.attention.get(name) for run in pair.runs]
        first = max((one.first or 0) if one else 0 for one in costs)
        rows = f"""SELECT place, document, position, -1 AS boundary, 0 AS distance, 1 AS weight,
                avg(nll::DOUBLE - nll_intact::DOUBLE) AS nats
            FROM {{side}}_compared
            WHERE condition = $condition AND boundary < 0 AND position - start >= {first}
            GROUP BY ALL"""
        both = pair_sums(pair, name, Unit("tokens"), rows)
        if both is not None:
            frames.append(difference_rows(both))
    return stacked(frames, PATTERN_COLUMNS)[[*PATTERN_COLUMNS]]


def accuracy_rows(pair: Pair) -> pd.DataFrame:
    """The difference B − A of accuracies after each prefix that both runs have.

    Intervals have no width where no document differs from another.

    Args:
        pair: Runs of protocol suffix with the same task; of paired ``windows`` the choices in the
            same windows are compared.

    Returns:
        One row a prefix, columns ``ACCURACY_COLUMNS``.
    """
    a, b = (
        run.once(suffixes).choices.merge(
            pair.connection.execute(f'SELECT document, "window" FROM {side}_places').df(),
            on=["document", "window"],
        )
        for side, run in zip(SIDES, pair.runs, strict=True)
    )
    if pair.pairing == "windows":
        keys = ["document", "window", "prefix"]
        a, b = a.merge(b[keys], on=keys), b.merge(a[keys], on=keys)
    prefixes = np.intersect1d(a["prefix"], b["prefix"])
    if not len(prefixes):
        return stacked([], ACCURACY_COLUMNS)
    first, second = (
        _choice_sums(choices, documents, prefixes)
        for choices, documents in zip((a, b), pair.documents, strict=True)
    )
    windows = np.minimum(first.targets.sum(axis=0), second.targets.sum(axis=0))
    both = PairSums("truncate", Unit("tokens"), pair, first, second, windows.astype(np.int64))
    return difference_rows(both).rename(columns={"distance_from": "prefix"})[[*ACCURACY_COLUMNS]]


def _choice_sums(choices: pd.DataFrame, documents: Sequence[str], prefixes: np.ndarray) -> Sums:
    """Right choices and all, by document and prefix; a prefix stands for a bin of distances."""
    hits, trials = (
        choices.pivot_table("correct", "document", "prefix", aggfunc=how, fill_value=0)
        .reindex(index=list(documents), columns=prefixes, fill_value=0)
        .to_numpy(np.float64)
        for how in ("sum", "count")
    )
    return Sums(prefixes, prefixes + 1, hits, trials)


def _difference(both: PairSums) -> Bootstrap:
    """The mean of B less that of A by bin, and its resamples.

    Where windows are paired the difference is formed target by target, before anything is
    divided; else it is that of two means, each stretched for its own number of documents.
    """
    weights, confidence = both.pair.weights, both.pair.how.confidence
    if both.pair.pairing == "windows":
        sums = both.b.sums - both.a.sums
        return bootstrap(sums, both.a.targets, weights[0], confidence)
    first, second = (
        bootstrap(sums.sums, sums.targets, drawn, confidence)
        for sums, drawn in zip((both.a, both.b), weights, strict=True)
    )
    return Bootstrap(
        second.mean - first.mean,
        second.draws - first.draws,
        np.minimum(first.targets, second.targets),
        np.hypot(first.standard_error, second.standard_error),
        min(first.documents, second.documents),
    )
