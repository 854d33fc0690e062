"""What limiting attention costs in loss and spares in keys: a point for every pattern of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from probe.analysis.beside import beside
from probe.analysis.heads import head_table, single_head
from probe.analysis.intervals import delta_table
from probe.analysis.settings import Analysis
from probe.analysis.summary import Summary, summarise
from probe.analysis.tolerance import Tolerance, spaced
from probe.errors import ProbeError
from probe.results.csv_files import write_csv
from probe.results.folder import connected

PREFIX = "attend("
TEXT = "truncate"
"""The condition that low-rank patterns stand beside: their far text cut off."""
COSTS = ("keys", "full", "kv_share", "flops_share", "forward_share")
COLUMNS = (
    *("condition", *COSTS, "delta", "low", "high", "targets", "documents"),
    *("idle", "frontier"),
)
"""Columns of ``patterns.csv``: most keys that a query sees under the pattern and under the model's
own attention, shares of the cache and of attention's operations by formula and of a forward's
time as measured (missing where nothing is skipped), delta and its limits (nats a
token), whether the pattern hides nothing, and whether no other, nor full attention, is cheaper in
cache and loses as little. Beside low-rank patterns stands ``truncate`` at their boundary."""


@dataclass(frozen=True, eq=False)
class Attended:
    """Loss and cost of every pattern of a run.

    Args:
        summary: The run's summary.
        table: Columns :data:`COLUMNS`, the cheapest in cache first; limits are missing with fewer
            documents than an interval needs, costs where the run folder does not tell them. Single
            heads are not among them.
        heads: Single heads, columns :data:`probe.analysis.heads.COLUMNS`.
        beside: Windows of attention beside text cut off or hidden at the same distance, columns
            :data:`probe.analysis.beside.COLUMNS`.
        left: Targets of each pattern from which some pattern hides nothing; they are in no row.
    """

    summary: Summary
    table: pd.DataFrame
    heads: pd.DataFrame
    beside: pd.DataFrame
    left: int


def has_patterns(record: Mapping[str, Any]) -> bool:
    """Whether a run was to limit attention by patterns."""
    conditions = (record.get("plan") or {}).get("conditions") or {}
    return any(str(name).startswith(PREFIX) for name in conditions)


def attended(
    run_dir: str | Path,
    *,
    analysis: Analysis | None = None,
    summary: Summary | None = None,
    write: bool = True,
) -> Attended:
    """Read the patterns of a run.

    Deltas are of the targets that have more predecessors than any of the patterns allows, the same
    for all; before them a pattern hides nothing, and delta is 0 by construction. Low-rank patterns
    tell far from near: of theirs the boundary with the most targets is taken, the last of several.

    Args:
        run_dir: The run folder.
        analysis: How to read it; by default what its configuration says.
        summary: Its summary, where it is known already.
        write: Whether to write ``patterns.csv``, ``heads.csv`` and ``beside.csv`` into the folder.

    Returns:
        Delta by pattern, with the interval of a bootstrap over documents, and what it costs.

    Raises:
        ProbeError: If the run has no pattern, or cannot be read.
    """
    summary = summary or summarise(run_dir, analysis=analysis, write=write)
    run = summary.run
    if not has_patterns(run.record):
        raise ProbeError(f"run '{run.path}' limits no attention; allowed: a condition attend(…)")
    told = run.record.get("attention") or {}
    known = {str(name): costs for name, costs in told.items() if costs}
    with connected(run, checked=False) as connection:
        sums, left, idle = _sums(connection, known)
    alone = sums["condition"].map(lambda name: single_head(str(name)) is not None).astype(bool)
    heads = head_table(sums[alone], summary.analysis.confidence)
    table = delta_table(sums[~alone], ("condition",), summary.analysis)
    for name in COSTS:
        values = [known.get(str(text), {}).get(name) for text in table["condition"]]
        table[name] = np.array([np.nan if value is None else value for value in values], float)
    table["idle"] = [str(text) in idle for text in table["condition"]]
    table["frontier"] = _frontier(table)
    table = table.sort_values(["kv_share", "delta"], ignore_index=True)[list(COLUMNS)]
    text = beside(summary)
    if write:
        files = {"patterns.csv": table, "heads.csv": heads, "beside.csv": text}
        for name, rows in files.items():
            if len(rows):
                write_csv(run.path / name, rows)
    return Attended(summary, table, heads, text, left)


def cheapest(table: pd.DataFrame, tolerance: Tolerance) -> "pd.Series[Any] | None":
    """The pattern with the smallest cache whose loss lies below a tolerance, upper limit and all.

    Args:
        table: Of :func:`attended`.
        tolerance: In perplexity or nats.

    Returns:
        Its row; ``None`` where no pattern's upper limit lies below.
    """
    epsilon = tolerance.nats() if tolerance.unit in ("perplexity", "nats") else None
    if epsilon is None:
        return None
    patterns = table["condition"].astype(str).str.startswith(PREFIX)
    below = table[patterns & (table["high"] < epsilon) & ~table["idle"].astype(bool)]
    below = below.sort_values(["kv_share", "keys"])
    return None if below.empty else below.iloc[0]


def levels(summary: Summary) -> dict[float, str]:
    """The tolerances that are the same for every pattern, in nats a token, with their text."""
    plain = [one for one in summary.analysis.tolerances if one.unit in ("perplexity", "nats")]
    return {one.nats() or 0.0: spaced(one.text) for one in plain}


def _sums(
    connection: duckdb.DuckDBPyConnection, known: Mapping[str, Mapping[str, Any]]
) -> tuple[pd.DataFrame, int, set[str]]:
    """Sums of delta by pattern and document on common targets, how many targets are left out.

    And which patterns hide nothing from any target, as far as the record tells.
    """
    scored = """SELECT s.condition, s.document, s.position - w.start AS place,
            if(s.boundary < 0, -1, s.boundary - w.start) AS boundary,
            s.nll::DOUBLE - s.nll_intact AS delta
        FROM scores s JOIN windows w USING (document, "window")
        WHERE starts_with(s.condition, $prefix) OR s.condition = $text"""
    given = {"prefix": PREFIX, "text": TEXT if TEXT in known else None}
    spans = connection.execute(
        f"""SELECT condition, boundary, count(*) AS rows, min(place) AS first, max(place) AS last
        FROM ({scored}) GROUP BY ALL ORDER BY rows DESC, boundary DESC""",
        given,
    ).df()
    # Of low-rank patterns, which have boundaries, the one that most targets stand behind.
    spans = spans.drop_duplicates("condition")
    firsts, idle = [0], set()
    for row in spans.to_dict("records"):
        costs = known.get(str(row["condition"]), {})
        first = costs.get("first", row["first"] if row["boundary"] >= 0 else 0)
        # A pattern that hides nothing from any target of the run must not leave all of them out.
        if first is None or first > row["last"]:
            idle.add(str(row["condition"]))
        else:
            firsts.append(int(first))
    first = max(firsts)
    rows = connection.execute(
        f"""SELECT condition, document,
            count(*) FILTER (WHERE place >= $first) AS targets,
            coalesce(sum(delta) FILTER (WHERE place >= $first), 0) AS delta_sum,
            count(*) AS scored
        FROM ({scored}) WHERE (condition::VARCHAR, boundary) IN (
            SELECT unnest($names::VARCHAR[]), unnest($boundaries::BIGINT[]))
        GROUP BY ALL ORDER BY condition, document""",
        given
        | {
            "first": first,
            "names": spans["condition"].astype(str).tolist(),
            "boundaries": spans["boundary"].tolist(),
        },
    ).df()
    left = (rows["scored"] - rows["targets"]).groupby(rows["condition"].astype(str)).sum()
    most = int(left.max()) if len(left) else 0
    return rows[rows["targets"] > 0].drop(columns="scored"), most, idle


def _frontier(table: pd.DataFrame) -> list[bool]:
    """Whether no other has a smaller cache and a delta as small, or the reverse.

    Full attention, which keeps all and loses nothing, is one of the others.
    """
    share, delta = (table[name].to_numpy(float) for name in ("kv_share", "delta"))
    share = np.where(table["idle"].to_numpy(bool), np.nan, share)
    shares, deltas = (np.append(own, full)[None] for own, full in ((share, 1.0), (delta, 0.0)))
    cheaper = (shares <= share[:, None]) & (deltas <= delta[:, None])
    better = cheaper & ((shares < share[:, None]) | (deltas < delta[:, None]))
    return [bool(value) for value in ~better.any(axis=1) & np.isfinite(share)]
