"""Attention patterns of two runs: what each loses in one and in the other."""

import duckdb
import numpy as np
import pandas as pd

from probe.analysis.bootstrap import pointwise_band, ratio
from probe.analysis.compare.differences import difference
from probe.analysis.compare.draws import Draws
from probe.analysis.compare.pair import SIDES
from probe.analysis.open_run import PATTERN
from probe.analysis.sums import Sums
from probe.findings.patterns.common_targets import single_head
from probe.results.folder import RunFolder

COLUMNS = ("condition", "a", "b", "difference", "low", "high", "documents", "targets")


def pattern_rows(
    connection: duckdb.DuckDBPyConnection,
    runs: tuple[RunFolder, RunFolder],
    draws: Draws,
    confidence: float,
) -> pd.DataFrame:
    """The difference B − A of what patterns without a boundary lose, one row a pattern of both.

    Args:
        connection: With the views of :func:`probe.analysis.compare.rows.create_rows`.
        runs: Both runs.
        draws: Draws of the documents; of paired ``windows`` the same targets are compared.
        confidence: Confidence of the interval.

    Returns:
        Columns :data:`COLUMNS`, nats a token, in order of name, without single heads. Targets
        that a pattern hides nothing from in either run are left out.
    """
    own = [scored(connection, side) for side in SIDES]
    rows = [
        _row(connection, name, _first(runs, name), draws, confidence)
        for name in own[0]
        if name in own[1]
    ]
    return pd.DataFrame([row for row in rows if row], columns=list(COLUMNS))


def scored(connection: duckdb.DuckDBPyConnection, side: str) -> list[str]:
    """Patterns of one side that have no boundary, in order of name, single heads left out."""
    rows = connection.execute(
        f"""SELECT DISTINCT condition::VARCHAR FROM {side}_scores
        WHERE boundary < 0 AND starts_with(condition, '{PATTERN}') ORDER BY 1"""
    ).fetchall()
    return [str(name) for (name,) in rows if single_head(str(name)) is None]


def _first(runs: tuple[RunFolder, RunFolder], name: str) -> int:
    """Place in the window of the first target from which a pattern hides something in both."""
    costs = [(run.record.get("attention") or {}).get(name) or {} for run in runs]
    return max(int(one.get("first") or 0) for one in costs)


def _row(
    connection: duckdb.DuckDBPyConnection, name: str, first: int, draws: Draws, confidence: float
) -> dict[str, object] | None:
    given = {"name": name, "first": first}
    if draws.pairing == "windows":
        frame = connection.execute(
            f"""SELECT a.document, count(*) AS a_targets, count(*) AS b_targets,
                sum(a.delta) AS a_sum, sum(b.delta) AS b_sum
            FROM ({_rows("a")}) a JOIN ({_rows("b")}) b USING (place, position)
            GROUP BY a.document""",
            given,
        ).df()
        frames = [frame, frame]
    else:
        frames = [
            connection.execute(
                f"""SELECT document, count(*) AS {side}_targets, sum(delta) AS {side}_sum
                FROM ({_rows(side)}) GROUP BY document""",
                given,
            ).df()
            for side in SIDES
        ]
    if not all(map(len, frames)):
        return None
    a, b = (
        _sums(frame.set_index("document").reindex(names, fill_value=0), side)
        for frame, side, names in zip(frames, SIDES, draws.documents, strict=True)
    )
    found = difference(a, b, draws, confidence)
    low, high = pointwise_band(found, confidence)
    means = [ratio(one.sums.sum(axis=0), one.targets.sum(axis=0))[0] for one in (a, b)]
    targets = int(min(a.targets.sum(), b.targets.sum()))
    values = (name, *means, found.mean[0], low[0], high[0], found.documents, targets)
    return dict(zip(COLUMNS, values, strict=True))


def _rows(side: str) -> str:
    return f"""SELECT p.place, s.document, s.position,
            avg(s.nll::DOUBLE - s.nll_intact::DOUBLE) AS delta
        FROM {side}_scores s
        JOIN {side}_places p ON s.document = p.document AND s."window" = p."window"
        WHERE s.condition = $name AND s.boundary < 0 AND s.position - p.start >= $first
        GROUP BY ALL"""


def _sums(frame: pd.DataFrame, side: str) -> Sums:
    edges = np.array([0, 1], dtype=np.int64)
    sums, targets = (frame[[f"{side}_{name}"]].to_numpy(np.float64) for name in ("sum", "targets"))
    return Sums(edges[:1], edges[1:], sums, targets)
