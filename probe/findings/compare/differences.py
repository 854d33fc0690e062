"""Differences B − A of curves, intact losses and attention patterns, intervals over documents."""

import math
import re
from collections.abc import Iterable

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
)
from probe.analysis.open_run import PATTERN, OpenRun
from probe.analysis.settings import Analysis
from probe.analysis.sums import Sums
from probe.findings.compare.pair import SIDES
from probe.findings.compare.pair_sums import Draws, PairSums

CURVE_COLUMNS = (
    "condition",
    "unit",
    "distance_from",
    "distance_to",
    "a",
    "b",
    "difference",
    "low",
    "high",
    "documents",
    "targets",
)

LOSS_COLUMNS = ("unit", "a", "b", "difference", "low", "high", "documents", "targets")

PATTERN_COLUMNS = ("condition", "a", "b", "difference", "low", "high", "documents", "targets")

_SINGLE_HEAD = re.compile(
    r"attend\(heads\(((?! \+ ).)+, layers=\[[0-9]{1,9}\], heads=\[[0-9]{1,9}\]\)\)"
)


def difference(a: Sums, b: Sums, draws: Draws, confidence: float) -> Bootstrap:
    """The mean of B less that of A by bin, and its resamples.

    Where windows are paired the difference is formed target by target, before anything is
    divided; else it is that of two means, each stretched for its own number of documents.

    Args:
        a: Sums of the first run.
        b: Sums of the second, on the same bins.
        draws: Draws of the documents, from :func:`probe.findings.compare.pair_sums.draw`.
        confidence: Confidence for which the deviations are stretched.

    Returns:
        The difference; ``documents`` is the smaller number of both.
    """
    if draws.pairing == "windows":
        return bootstrap(b.sums - a.sums, a.targets, draws.weights[0], confidence)
    first, second = (
        bootstrap(sums.sums, sums.targets, drawn, confidence)
        for sums, drawn in zip((a, b), draws.weights, strict=True)
    )
    return Bootstrap(
        second.mean - first.mean,
        second.draws - first.draws,
        np.minimum(first.targets, second.targets),
        np.hypot(first.standard_error, second.standard_error),
        min(first.documents, second.documents),
    )


def curve_rows(pair: PairSums, draws: Draws, how: Analysis) -> pd.DataFrame:
    """The difference of two curves, one row a bin.

    Returns:
        The columns ``CURVE_COLUMNS``: ``a`` and ``b`` are the deltas, ``difference`` is B − A with
        its limits, all in nats a token or, in bytes, bits per byte; ``documents`` and ``targets``
        are the smaller numbers of both runs.
    """
    apart = difference(pair.a, pair.b, draws, how.confidence)
    low, high = band(apart, how.confidence, simultaneous=how.simultaneous)
    scale = pair.unit.scale
    means = [_mean(sums) for sums in (pair.a, pair.b)]
    counts = np.minimum(*((sums.targets > 0).sum(axis=0) for sums in (pair.a, pair.b)))
    return pd.DataFrame(
        {
            "condition": pair.condition,
            "unit": pair.unit.name,
            "distance_from": pair.a.lower,
            "distance_to": pair.a.upper,
            "a": means[0] * scale,
            "b": means[1] * scale,
            "difference": apart.mean * scale,
            "low": low * scale,
            "high": high * scale,
            "documents": counts,
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
    return PairSums(pair.condition, pair.unit, a, b, np.asarray(targets, dtype=np.int64))


def loss_rows(
    connection: duckdb.DuckDBPyConnection,
    draws: Draws,
    confidence: float,
    units: Iterable[str],
) -> pd.DataFrame:
    """The difference of the intact losses, in nats a token and in bits per byte.

    Args:
        connection: With the views of :func:`probe.findings.compare.pair.create_rows`.
        draws: Draws of the documents; paired ``windows`` give losses of the same targets, else
            each run's own targets in its documents count.
        confidence: Confidence of the interval.
        units: ``tokens`` and ``bytes``, where they can be compared.

    Returns:
        One row a unit, columns ``LOSS_COLUMNS``; ``unit`` is ``nats per token`` or ``bits per
        byte``.
    """
    sides = _intact(connection, draws)
    rows = []
    for unit, name, weight, scale in (
        ("tokens", "nats per token", "targets", 1.0),
        ("bytes", "bits per byte", "bytes", 1 / math.log(2)),
    ):
        if unit not in units or any(not side[weight].sum() > 0 for side in sides):
            continue
        a, b = (_as_sums(side, "nats", weight) for side in sides)
        apart = difference(a, b, draws, confidence)
        low, high = pointwise_band(apart, confidence)
        values = [_mean(a)[0], _mean(b)[0], apart.mean[0], low[0], high[0]]
        targets = min(int(side["targets"].sum()) for side in sides)
        rows.append((name, *(value * scale for value in values), apart.documents, targets))
    return pd.DataFrame(rows, columns=list(LOSS_COLUMNS))


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
        Columns ``PATTERN_COLUMNS``, nats a token, in order of name, without single heads. Targets
        that a pattern hides nothing from in either run are left out.
    """
    names = [patterns(connection, side) for side in SIDES]
    rows = [
        _pattern_row(connection, name, _first(runs, name), draws, confidence)
        for name in names[0]
        if name in names[1]
    ]
    return pd.DataFrame([row for row in rows if row], columns=list(PATTERN_COLUMNS))


def patterns(connection: duckdb.DuckDBPyConnection, side: str) -> list[str]:
    """Patterns of one side that have no boundary, in order of name, single heads left out."""
    rows = connection.execute(
        f"""SELECT DISTINCT condition::VARCHAR FROM {side}_scores
        WHERE boundary < 0 AND starts_with(condition, '{PATTERN}') ORDER BY 1"""
    ).fetchall()
    return [str(name) for (name,) in rows if not _SINGLE_HEAD.fullmatch(str(name))]


def _intact(connection: duckdb.DuckDBPyConnection, draws: Draws) -> list[pd.DataFrame]:
    """Sums of the intact loss of each run: ``targets, bytes, nats`` by document."""
    if draws.pairing == "windows":
        frame = connection.execute(
            """SELECT a.document, count(*) AS targets, coalesce(sum(a.bytes), 0) AS bytes,
                sum(a.nll) AS a_nats, sum(b.nll) AS b_nats
            FROM a_intact a JOIN b_intact b ON a.place = b.place AND a.position = b.position
            GROUP BY a.document ORDER BY a.document"""
        ).df()
        frames = [frame.rename(columns={f"{side}_nats": "nats"}) for side in SIDES]
    else:
        frames = [
            connection.execute(
                f"""SELECT document, count(*) AS targets, coalesce(sum(bytes), 0) AS bytes,
                    sum(nll) AS nats
                FROM {side}_intact GROUP BY document ORDER BY document"""
            ).df()
            for side in SIDES
        ]
    return [
        frame.set_index("document")[["targets", "bytes", "nats"]].reindex(names, fill_value=0)
        for frame, names in zip(frames, draws.documents, strict=True)
    ]


def _first(runs: tuple[OpenRun, OpenRun], name: str) -> int:
    """Place in the window of the first target from which a pattern hides something in both."""
    costs = [run.facts.attention.get(name) for run in runs]
    return max((one.first or 0) if one else 0 for one in costs)


def _pattern_row(
    connection: duckdb.DuckDBPyConnection, name: str, first: int, draws: Draws, confidence: float
) -> dict[str, object] | None:
    given = {"name": name, "first": first}
    if draws.pairing == "windows":
        frame = connection.execute(
            f"""SELECT a.document, count(*) AS a_targets, count(*) AS b_targets,
                sum(a.delta) AS a_sum, sum(b.delta) AS b_sum
            FROM ({_pattern_query("a")}) a JOIN ({_pattern_query("b")}) b USING (place, position)
            GROUP BY a.document""",
            given,
        ).df()
        frames = [frame, frame]
    else:
        frames = [
            connection.execute(
                f"""SELECT document, count(*) AS {side}_targets, sum(delta) AS {side}_sum
                FROM ({_pattern_query(side)}) GROUP BY document""",
                given,
            ).df()
            for side in SIDES
        ]
    if not all(map(len, frames)):
        return None
    a, b = (
        _as_sums(
            frame.set_index("document").reindex(names, fill_value=0),
            f"{side}_sum",
            f"{side}_targets",
        )
        for frame, side, names in zip(frames, SIDES, draws.documents, strict=True)
    )
    apart = difference(a, b, draws, confidence)
    low, high = pointwise_band(apart, confidence)
    targets = int(min(a.targets.sum(), b.targets.sum()))
    means = (_mean(a)[0], _mean(b)[0], apart.mean[0])
    values = (name, *means, low[0], high[0], apart.documents, targets)
    return dict(zip(PATTERN_COLUMNS, values, strict=True))


def _pattern_query(side: str) -> str:
    return f"""SELECT p.place, s.document, s.position,
            avg(s.nll::DOUBLE - s.nll_intact::DOUBLE) AS delta
        FROM {side}_scores s
        JOIN {side}_places p ON s.document = p.document AND s."window" = p."window"
        WHERE s.condition = $name AND s.boundary < 0 AND s.position - p.start >= $first
        GROUP BY ALL"""


def _as_sums(frame: pd.DataFrame, nats: str, weight: str) -> Sums:
    """Two columns by document as sums of one bin."""
    edges = np.array([0, 1], dtype=np.int64)
    sums, weights = (frame[[name]].to_numpy(dtype=np.float64) for name in (nats, weight))
    return Sums(edges[:1], edges[1:], sums, weights)


def _mean(sums: Sums) -> Floats:
    return ratio(sums.sums.sum(axis=0), sums.targets.sum(axis=0))
