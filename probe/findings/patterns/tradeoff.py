"""The trade-off of attention patterns: what each costs in loss, and what it spares in keys.

Their losses are compared on the targets that every pattern hides something from.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.open_run import PATTERN, OpenRun
from probe.analysis.sums import delta_table, in_words
from probe.attention.pattern import ATTENTIONS
from probe.errors import ProbeError
from probe.findings.base import Drawn
from probe.findings.chart import (
    THRESHOLD,
    Axis,
    Chart,
    EmptyChartError,
    Rule,
    Series,
    delta_axis,
)
from probe.results.tolerance import Tolerance, spaced

COSTS = ("keys", "full", "kv_share", "flops_share", "forward_share")
COLUMNS = (
    *("condition", *COSTS, "delta", "low", "high", "targets", "documents"),
    *("idle", "frontier"),
)
"""Columns of ``patterns.csv``: most keys that a query sees under the pattern and under the model's
own attention, shares of the cache and of attention's operations by formula, the share of a
forward's time as measured (missing where nothing is skipped), delta and its limits (nats per
token), whether the pattern hides nothing, and whether neither another nor full attention is cheaper
in cache and loses as little. With low-rank patterns comes ``truncate`` at their boundary."""
TRUNCATE = "truncate"
"""The condition that low-rank patterns are compared with: their far text cut off."""
SELF = "self"
"""The attention of a model that has no other."""
OF_THREE = rf"\b(?:{'|'.join(ATTENTIONS)})\("
"""What a pattern on one of an encoder–decoder's attentions has in its name."""
_ATTENTION = re.compile(rf"({'|'.join(ATTENTIONS)})\((.+)\)")
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


def single_head(condition: str) -> tuple[str, str, int, int] | None:
    """What stands in place of a head, its attention, layer and number.

    ``None`` for any other condition.
    """
    match = _HEAD.fullmatch(condition)
    if match is None or " + " in match[1]:
        return None
    of_three = _ATTENTION.fullmatch(match[1])
    attention, kind = of_three.groups() if of_three else (SELF, match[1])
    return kind, attention, int(match[2]), int(match[3])


def plot(runs: Sequence[OpenRun]) -> Drawn:
    """Delta against the share of the KV cache that patterns keep, for `probe plot`.

    Args:
        runs: One run.
    """
    yield "", chart(runs[0], runs[0].once(tradeoff))


def tradeoff(run: OpenRun) -> pd.DataFrame:
    """Delta by pattern, with the interval of a bootstrap over documents, and what it costs.

    Args:
        run: A run with patterns.

    Returns:
        Columns :data:`COLUMNS`, the cheapest in cache first; limits are missing with fewer
        documents than an interval needs, costs where the run folder does not have them. Single
        heads are not among them.

    Raises:
        ProbeError: If the run has no pattern.
    """
    common = run.once(common_targets)
    is_head = common.sums["condition"].map(lambda name: single_head(str(name)) is not None)
    table = delta_table(common.sums[~is_head.astype(bool)], ("condition",), run.analysis)
    names = table["condition"].astype(str)
    costs = pd.DataFrame(_recorded_costs(run)).T.reindex(index=names, columns=list(COSTS))
    table[list(COSTS)] = costs.to_numpy(float)
    table["idle"] = names.isin(common.idle)
    table["frontier"] = _frontier(table)
    return table.sort_values(["kv_share", "delta"], ignore_index=True)[list(COLUMNS)]


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
    costs = _recorded_costs(run)
    scored = """SELECT s.condition, s.document, s.position - w.start AS place,
            if(s.boundary < 0, -1, s.boundary - w.start) AS boundary,
            s.nll::DOUBLE - s.nll_intact AS delta
        FROM scores s JOIN windows w USING (document, "window")
        WHERE starts_with(s.condition, $prefix) OR s.condition = $truncate"""
    given: dict[str, Any] = {"prefix": PATTERN, "truncate": None}
    if TRUNCATE in costs:
        given["truncate"] = TRUNCATE
    spans = run.connection.execute(
        f"""SELECT condition, boundary, count(*) AS rows, min(place) AS first, max(place) AS last
        FROM ({scored}) GROUP BY ALL ORDER BY rows DESC, boundary DESC""",
        given,
    ).df()
    # Of low-rank patterns, which have boundaries, the one that most targets stand behind.
    spans = spans.drop_duplicates("condition")
    given["names"] = spans["condition"].astype(str).tolist()
    given["boundaries"] = spans["boundary"].tolist()
    given["first"], idle = _first_target(spans, costs)
    rows = run.connection.execute(
        f"""SELECT condition, document,
            count(*) FILTER (WHERE place >= $first) AS targets,
            coalesce(sum(delta) FILTER (WHERE place >= $first), 0) AS delta_sum,
            count(*) AS scored
        FROM ({scored}) WHERE (condition::VARCHAR, boundary) IN (
            SELECT unnest($names::VARCHAR[]), unnest($boundaries::BIGINT[]))
        GROUP BY ALL ORDER BY condition, document""",
        given,
    ).df()
    left_out = (rows["scored"] - rows["targets"]).groupby(rows["condition"].astype(str)).sum()
    common = rows[rows["targets"] > 0].drop(columns="scored")
    return CommonTargets(common, int(left_out.max()) if len(left_out) else 0, idle)


def effective(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of patterns that hide something: ``truncate`` is none, and idle ones answer nothing.

    Args:
        table: Of :func:`tradeoff`.
    """
    patterns = table["condition"].astype(str).str.startswith(PATTERN)
    return table[patterns & ~table["idle"].astype(bool)]


def cheapest(table: pd.DataFrame, tolerance: Tolerance) -> "pd.Series[Any] | None":
    """The pattern with the smallest cache whose loss lies below a tolerance, upper limit and all.

    Args:
        table: Of :func:`tradeoff`.
        tolerance: In perplexity or nats.

    Returns:
        Its row; ``None`` where no pattern's upper limit lies below.
    """
    if not is_constant(tolerance):
        return None
    rows = effective(table)
    rows = rows[rows["high"] < tolerance.nats()].sort_values(["kv_share", "keys"])
    return None if rows.empty else rows.iloc[0]


def is_constant(tolerance: Tolerance) -> bool:
    """Whether a tolerance is as many nats for every target; others differ from target to target."""
    return tolerance.unit in ("perplexity", "nats")


def delta_and_rules(run: OpenRun, rows: pd.DataFrame) -> tuple[Axis, list[Rule]]:
    """The axis of delta (nats per token), and the tolerances that are the same for every pattern.

    Args:
        run: The run.
        rows: What is drawn: ``delta, low, high`` (nats per token).
    """
    constant = filter(is_constant, run.analysis.tolerances)
    levels = {tolerance.nats() or 0.0: spaced(tolerance.text) for tolerance in constant}
    values = rows[["delta", "low", "high"]].to_numpy(float)
    rules = [Rule(epsilon, text) for epsilon, text in levels.items()]
    return delta_axis(values, min(levels, default=THRESHOLD)), rules


def delta_series(
    rows: pd.DataFrame, across: str, name: str, look: int, title: Callable[[Any], str], **more: Any
) -> Series:
    """Marks of delta with their intervals, from the left to the right.

    Args:
        rows: ``delta, low, high`` (nats per token) and the column *across*.
        across: The column of their places.
        name: Its name in the legend.
        look: Number of its look.
        title: What to call a row.
        more: Other fields of the series.
    """
    rows = rows.sort_values(across)
    x, y, low, high = (rows[column].to_numpy(float) for column in (across, "delta", "low", "high"))
    titles = [f"{title(row)}: {in_words(row)} nats per token" for _, row in rows.iterrows()]
    return Series(name, x, y, look, low, high, titles=titles, points=True, **more)


def chart(run: OpenRun, table: pd.DataFrame) -> Chart:
    """Delta against the share of the KV cache: a mark with its interval for each pattern.

    Full attention is a cross, and a grey line goes through the patterns that neither it nor another
    pattern beats in both.

    Args:
        run: The run.
        table: Of :func:`tradeoff`.

    Raises:
        EmptyChartError: If no pattern has a known share.
    """
    memory, rows = run.folder.reading.memory, table[table["kv_share"] > 0]
    if rows.empty:
        raise EmptyChartError(f"no pattern to draw whose share of the {memory} is known")
    families = rows["condition"].astype(str).map(family)
    series = [
        delta_series(
            rows[families == name], "kv_share", name, look, itemgetter("condition"), joined=False
        )
        for look, name in enumerate(dict.fromkeys(families))
    ]
    best = rows[rows["frontier"].astype(bool)].sort_values("kv_share")
    if len(best) > 1:
        x, y = (best[name].to_numpy(float) for name in ("kv_share", "delta"))
        series.append(Series("frontier", x, y, role="reference", points=False))
    whole = np.array([1.0]), np.array([0.0])
    series.append(Series("full attention", *whole, role="full", points=True, joined=False))
    smallest = np.log2(max(rows["kv_share"].min(), 2.0**-30))
    ticks = [2.0**power for power in range(int(np.clip(np.floor(smallest), -30, -1)), 1)]
    axis, rules = delta_and_rules(run, rows)
    return Chart(
        f"Delta against the share of the {memory} kept",
        Axis(f"share of the {memory} kept", ticks[0], 1.0, "log", ticks, percent=True),
        axis,
        series,
        rules,
        how=(
            "Each mark is a pattern: the rise in loss when attention sees only what it allows, with"
            " the interval over documents, against the share of keys and values that are kept. The"
            " line joins the patterns that neither another nor full attention (100 %, 0) dominates."
            " The table below has all of them."
        ),
        heading=[run.model, run.data],
        file="tradeoff",
    )


def family(condition: str) -> str:
    """The pattern without the numbers that a series of them varies: ``local, sinks=4``."""
    inside = re.sub(r"^attend\((.*)\)$", r"\1", condition)
    plain = re.sub(r"\b(w|size|k|stride|links|gap)=\d+(, )?|positions=\[[^]]*\](, )?", "", inside)
    plain = with_ranges(plain).replace("(sinks=1)", "").replace("()", "")
    return plain.replace("(, ", "(").strip()


def with_ranges(pattern: str) -> str:
    """A pattern whose lists of consecutive numbers are shortened: ``layers=[15–29]``."""

    def shorten(match: re.Match[str]) -> str:
        numbers = enumerate(map(int, match[0].split(", ")))
        # Numbers that follow one another have one distance to their places.
        groups = groupby(numbers, lambda pair: pair[1] - pair[0])
        runs = [[number for _, number in group] for _, group in groups]
        return ", ".join(
            f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
        )

    return re.sub(r"(?<=\[)[0-9]{1,9}(, [0-9]{1,9})+(?=\])", shorten, pattern)


def _frontier(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether no other has a smaller cache and a delta as small, or the reverse.

    Full attention, which keeps all and loses nothing, is one of the others.
    """
    share, delta = (table[name].to_numpy(float) for name in ("kv_share", "delta"))
    share = np.where(table["idle"].to_numpy(bool), np.nan, share)
    shares, deltas = np.append(share, 1.0), np.append(delta, 0.0)
    cheaper = (shares <= share[:, None]) & (deltas <= delta[:, None])
    better = cheaper & ((shares < share[:, None]) | (deltas < delta[:, None]))
    return np.asarray(~better.any(axis=1) & np.isfinite(share))


def _recorded_costs(run: OpenRun) -> dict[str, Mapping[str, Any]]:
    """Keys and shares of each pattern by its text, where ``run.json`` has them."""
    recorded = run.record.get("attention") or {}
    return {str(name): costs for name, costs in recorded.items() if costs}


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
