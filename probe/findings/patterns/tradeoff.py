"""The trade-off of attention patterns: what each costs in loss, and what it spares in keys."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from probe.analysis.open_run import PATTERN, OpenRun
from probe.analysis.sums import delta_table, in_words
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
from probe.findings.patterns.common_targets import common_targets, recorded_costs, single_head
from probe.results.tolerance import Tolerance, spaced

COSTS = ("keys", "full", "kv_share", "flops_share", "forward_share")
COLUMNS = (
    *("condition", *COSTS, "delta", "low", "high", "targets", "documents"),
    *("idle", "frontier"),
)
"""Columns of ``patterns.csv``: most keys that a query sees under the pattern and under the model's
own attention, shares of the cache and of attention's operations by formula and of a forward's
time as measured (missing where nothing is skipped), delta and its limits (nats a
token), whether the pattern hides nothing, and whether no other, nor full attention, is cheaper in
cache and loses as little. With low-rank patterns comes ``truncate`` at their boundary."""
SHARES = tuple(2.0**power for power in range(-30, 1))
"""Ticks of the share of the cache."""


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
    costs = recorded_costs(run)
    for name in COSTS:
        values = [costs.get(str(text), {}).get(name) for text in table["condition"]]
        table[name] = np.array([np.nan if value is None else value for value in values], float)
    table["idle"] = [str(text) in common.idle for text in table["condition"]]
    table["frontier"] = _frontier(table)
    return table.sort_values(["kv_share", "delta"], ignore_index=True)[list(COLUMNS)]


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
    epsilon = tolerance.nats() if is_constant(tolerance) else None
    if epsilon is None:
        return None
    rows = effective(table)
    rows = rows[rows["high"] < epsilon].sort_values(["kv_share", "keys"])
    return None if rows.empty else rows.iloc[0]


def is_constant(tolerance: Tolerance) -> bool:
    """Whether a tolerance is as many nats for every target; others differ from target to target."""
    return tolerance.unit in ("perplexity", "nats")


def levels(run: OpenRun) -> dict[float, str]:
    """The tolerances that are the same for every pattern, in nats a token, with their text."""
    constant = filter(is_constant, run.analysis.tolerances)
    return {tolerance.nats() or 0.0: spaced(tolerance.text) for tolerance in constant}


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
    rows = table[table["kv_share"] > 0]
    if rows.empty:
        raise EmptyChartError("no pattern to draw whose share of the KV cache is known")
    families = rows["condition"].astype(str).map(family)
    series = [
        _series(rows[families == name], name, look)
        for look, name in enumerate(dict.fromkeys(families))
    ]
    best = rows[rows["frontier"].astype(bool)].sort_values("kv_share")
    if len(best) > 1:
        x, y = (best[name].to_numpy(float) for name in ("kv_share", "delta"))
        series.append(Series("frontier", x, y, role="reference", points=False))
    whole = np.array([1.0]), np.array([0.0])
    series.append(Series("full attention", *whole, role="full", points=True, joined=False))
    smallest = float(rows["kv_share"].min())
    start = max((share for share in SHARES[:-1] if share <= smallest), default=SHARES[0])
    ticks = [share for share in SHARES if share >= start]
    rules = levels(run)
    values = rows[["delta", "low", "high"]].to_numpy(float)
    return Chart(
        "Delta against the share of the KV cache kept",
        Axis("share of the KV cache kept", start, 1.0, "log", ticks, percent=True),
        delta_axis(values, min(rules, default=THRESHOLD)),
        series,
        [Rule(epsilon, text) for epsilon, text in rules.items()],
        how=(
            "Each mark is a pattern: what the loss rises by when attention sees only what it"
            " allows, with the interval over documents, against how much of the keys and values"
            " must be held. The line joins the patterns that neither another nor full attention"
            " (100 %, 0) beats in both. The table below has all of them."
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
        runs: list[list[int]] = []
        for number in map(int, match[0].split(", ")):
            if runs and number == runs[-1][-1] + 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        return ", ".join(
            f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
        )

    return re.sub(r"(?<=\[)[0-9]{1,9}(, [0-9]{1,9})+(?=\])", shorten, pattern)


def _series(rows: pd.DataFrame, name: str, look: int) -> Series:
    """The patterns of one family, each a mark with its interval."""
    rows = rows.sort_values("kv_share")
    x, y, low, high = (
        rows[column].to_numpy(float) for column in ("kv_share", "delta", "low", "high")
    )
    titles = [f"{row['condition']}: {in_words(row)} nats a token" for _, row in rows.iterrows()]
    return Series(name, x, y, look, low, high, titles=titles, points=True, joined=False)


def _frontier(table: pd.DataFrame) -> list[bool]:
    """Whether no other has a smaller cache and a delta as small, or the reverse.

    Full attention, which keeps all and loses nothing, is one of the others.
    """
    share, delta = (table[name].to_numpy(float) for name in ("kv_share", "delta"))
    share = np.where(table["idle"].to_numpy(bool), np.nan, share)
    shares, deltas = (
        np.append(values, full)[None] for values, full in ((share, 1.0), (delta, 0.0))
    )
    cheaper = (shares <= share[:, None]) & (deltas <= delta[:, None])
    better = cheaper & ((shares < share[:, None]) | (deltas < delta[:, None]))
    return [bool(value) for value in ~better.any(axis=1) & np.isfinite(share)]
