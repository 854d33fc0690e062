"""Sums of both runs by condition, bin and document, and how their documents are resampled."""

from dataclasses import dataclass
from typing import Literal

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bootstrap import Floats, resample_weights
from probe.analysis.floor import NoiseFloor, noise_floor
from probe.analysis.settings import Analysis
from probe.analysis.sums import Sums, distance_bins, to_sums
from probe.findings.compare.pair import SIDES, Pairing

UnitName = Literal["tokens", "bytes"]

MOST = 0.9
"""Share of each run's documents that must reach as far in bytes as both are compared."""


@dataclass(frozen=True)
class Unit:
    """What distances are counted in.

    Args:
        name: ``tokens`` or ``bytes``.
        per: How many of them an average token is: 1, or bytes per token. Losses are summed in
            nats an average token whatever the unit, so that tolerances and floors mean the same.
    """

    name: UnitName
    per: float = 1.0

    @property
    def view(self) -> str:
        """Ending of the views that count in this unit."""
        return "tokens" if self.name == "tokens" else "text"

    @property
    def scale(self) -> float:
        """From nats an average token to what is shown: nats a token, or bits per byte."""
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
        unit: What the distances are counted in.
        a: Sums of the first run (nats; targets in average tokens), documents in its own order.
        b: Sums of the second; the same targets as ``a`` where windows are paired.
        targets: Targets by bin, the smaller number of both, shape ``(bins,)``.
    """

    condition: str
    unit: Unit
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


def pair_sums(
    connection: duckdb.DuckDBPyConnection,
    condition: str,
    unit: Unit,
    draws: Draws,
    edges: NDArray[np.int64],
    start: int,
) -> PairSums | None:
    """Sum the deltas of one condition in both runs.

    Args:
        connection: With the views of :func:`probe.findings.compare.pair.create_rows`.
        condition: Canonical text of the condition.
        unit: What distances are counted in.
        draws: The documents in their order; paired ``windows`` give sums over the targets that
            both runs have.
        edges: Edges of the bins, in the unit, shape ``(bins + 1,)``.
        start: First distance (tokens) of the condition's curve.

    Returns:
        The sums; ``None`` without a bin that both measured. Grey rows are left out.
    """
    first = _first_distance(connection, condition, unit, start)
    connection.register("bins", distance_bins(edges))
    if draws.pairing == "windows":
        frame = connection.execute(_paired_query(unit), {"condition": condition}).df()
    else:
        sides = [
            connection.execute(_query(side, unit), {"condition": condition}).df() for side in SIDES
        ]
        common = np.intersect1d(sides[0]["bin"], sides[1]["bin"])
        frame = sides[0].merge(sides[1], on=["bin", "document"], how="outer")
        frame = frame[frame["bin"].isin(common)].fillna(0)
    connection.unregister("bins")
    bins = frame["bin"].to_numpy(dtype=np.int64)
    frame = frame.assign(distance_from=edges[bins], distance_to=edges[bins + 1])
    frame = frame[frame["distance_from"] >= first]
    if frame.empty:
        return None
    a, b = (
        to_sums(
            pd.DataFrame(
                {
                    "distance_from": frame["distance_from"],
                    "distance_to": frame["distance_to"],
                    "document": frame["document"],
                    "targets": frame[f"{side}_weight"] / unit.per,
                    "delta_sum": frame[f"{side}_sum"],
                }
            ).loc[frame["document"].isin(names)],
            names,
        )
        for side, names in zip(SIDES, draws.documents, strict=True)
    )
    by_bin = frame.groupby("distance_from")[["a_targets", "b_targets"]].sum()
    return PairSums(condition, unit, a, b, by_bin.min(axis=1).to_numpy(dtype=np.int64))


def floors(
    connection: duckdb.DuckDBPyConnection, unit: Unit, confidence: float
) -> tuple[NoiseFloor | None, NoiseFloor | None]:
    """Noise floor of each run by octave of the unit (nats a token)."""
    limits = []
    for side in SIDES:
        rows = connection.execute(
            f"""SELECT condition, distance AS distance_from, document, count(*) AS targets,
                sum(delta) AS delta_sum, sum(delta * delta) AS delta_squares
            FROM {side}_{unit.view}
            WHERE condition = 'noise' OR starts_with(condition, 'noise(') GROUP BY ALL"""
        ).df()
        reach = 1 if rows.empty else int(rows["distance_from"].max()) + 1
        limits.append(noise_floor(rows, reach, confidence))
    return limits[0], limits[1]


def _first_distance(
    connection: duckdb.DuckDBPyConnection, condition: str, unit: Unit, start: int
) -> int:
    """Where a curve that starts late begins in the unit: no bin holds a distance before it."""
    if unit.name == "tokens" or start <= 0:
        return start
    longest = [
        connection.execute(
            f"SELECT max(distance) FROM {side}_text WHERE condition = $c AND tokens < $start",
            {"c": condition, "start": start},
        ).fetchall()[0][0]
        for side in SIDES
    ]
    return max((int(end) + 1 for end in longest if end is not None), default=0)


def _query(side: str, unit: Unit) -> str:
    return f"""SELECT bin, document, count(*) AS {side}_targets, sum(weight) AS {side}_weight,
            sum(delta) AS {side}_sum
        FROM {side}_{unit.view} JOIN bins USING (distance)
        WHERE condition = $condition AND NOT grey
        GROUP BY bin, document ORDER BY bin, document"""


def _paired_query(unit: Unit) -> str:
    """Both sums in one pass over the common targets: equal runs give equal sums to the last bit."""
    return f"""SELECT bin, a.document, count(*) AS a_targets, count(*) AS b_targets,
            sum(a.weight) AS a_weight, sum(b.weight) AS b_weight,
            sum(a.delta) AS a_sum, sum(b.delta) AS b_sum
        FROM a_{unit.view} a JOIN b_{unit.view} b
            ON a.place = b.place AND a.position = b.position AND a.boundary = b.boundary
        JOIN bins ON bins.distance = a.distance
        WHERE a.condition = $condition AND b.condition = $condition AND NOT a.grey
        GROUP BY bin, a.document ORDER BY bin, a.document"""
