"""Sums of delta by attention pattern, on the targets that every pattern hides something from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probe.analysis.open_run import PATTERN, OpenRun
from probe.errors import ProbeError

TRUNCATE = "truncate"
"""The condition that low-rank patterns are compared with: their far text cut off."""
_HEAD = re.compile(r"attend\(heads\((.+), layers=\[([0-9]{1,9})\], heads=\[([0-9]{1,9})\]\)\)")


@dataclass(frozen=True, eq=False)
class CommonTargets:
    """What every pattern of a run loses on the same targets.

    Args:
        sums: Columns ``condition, document, targets, delta_sum``, one row a condition and document;
            nats. ``truncate`` is among the conditions where its costs were recorded.
        left_out: Targets of each pattern from which some pattern hides nothing; they are in no sum.
        idle: Patterns that hide nothing from any target, as far as the record says.
    """

    sums: pd.DataFrame
    left_out: int
    idle: frozenset[str]


def single_head(condition: str) -> tuple[str, int, int] | None:
    """What stands in place of a head, its layer and number; ``None`` for any other condition."""
    match = _HEAD.fullmatch(condition)
    if match is None or " + " in match[1]:
        return None
    return match[1], int(match[2]), int(match[3])


def recorded_costs(run: OpenRun) -> dict[str, Mapping[str, Any]]:
    """Keys and shares of each pattern by its text, where ``run.json`` has them."""
    recorded = run.record.get("attention") or {}
    return {str(name): costs for name, costs in recorded.items() if costs}


def common_targets(run: OpenRun) -> CommonTargets:
    """Sum what the patterns of a run lose, on the targets that all of them have in common.

    These are the targets that have more predecessors than any of the patterns allows; before them
    a pattern hides nothing, and delta is 0 by construction. Low-rank patterns tell far from near:
    of theirs the boundary with the most targets is taken, the last of several.

    Args:
        run: The open run.

    Raises:
        ProbeError: If the run has no pattern.
    """
    if not run.patterns:
        raise ProbeError(f"run '{run.path}' limits no attention; allowed: a condition attend(…)")
    costs = recorded_costs(run)
    scored = """SELECT s.condition, s.document, s.position - w.start AS place,
            if(s.boundary < 0, -1, s.boundary - w.start) AS boundary,
            s.nll::DOUBLE - s.nll_intact AS delta
        FROM scores s JOIN windows w USING (document, "window")
        WHERE starts_with(s.condition, $prefix) OR s.condition = $truncate"""
    given = {"prefix": PATTERN, "truncate": TRUNCATE if TRUNCATE in costs else None}
    spans = run.connection.execute(
        f"""SELECT condition, boundary, count(*) AS rows, min(place) AS first, max(place) AS last
        FROM ({scored}) GROUP BY ALL ORDER BY rows DESC, boundary DESC""",
        given,
    ).df()
    # Of low-rank patterns, which have boundaries, the one that most targets stand behind.
    spans = spans.drop_duplicates("condition")
    first, idle = _first_target(spans, costs)
    rows = run.connection.execute(
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
    left_out = (rows["scored"] - rows["targets"]).groupby(rows["condition"].astype(str)).sum()
    return CommonTargets(
        rows[rows["targets"] > 0].drop(columns="scored"),
        int(left_out.max()) if len(left_out) else 0,
        idle,
    )


def _first_target(
    spans: pd.DataFrame, costs: Mapping[str, Mapping[str, Any]]
) -> tuple[int, frozenset[str]]:
    """Place in the window of the first common target, and the patterns that hide nothing."""
    firsts, idle = [0], set()
    for row in spans.to_dict("records"):
        name = str(row["condition"])
        first = costs.get(name, {}).get("first", row["first"] if row["boundary"] >= 0 else 0)
        # A pattern that hides nothing from any target of the run must not leave all of them out.
        if first is None or first > row["last"]:
            idle.add(name)
        else:
            firsts.append(int(first))
    return max(firsts), frozenset(idle)
