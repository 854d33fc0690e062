"""What attention must see: with how few keys the loss stays, and what each pattern costs."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from probe.analysis.open_run import PATTERN, OpenRun
from probe.analysis.sums import in_words
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.findings.answer import subject
from probe.findings.base import Finding, Plot, register
from probe.findings.patterns import equal_width, heads, tradeoff
from probe.findings.patterns.tradeoff import (
    cheapest,
    common_targets,
    effective,
    is_constant,
    with_ranges,
)
from probe.findings.table import Table
from probe.results.tolerance import Tolerance, spaced
from probe.text import counted, printable

WIDEST = 60
"""Characters of a pattern in a printed table; of a longer one each term has a line."""
PLOTS = (
    Plot("tradeoff", tradeoff.plot),
    Plot("beside", equal_width.plot),
    Plot("heads", heads.plot),
)


@register("patterns", order=20, level="answer", plots=PLOTS)
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding | None:
    """What limiting attention costs, of a run with patterns.

    Args:
        run: The open run.
        others: Not needed.
    """
    if not run.patterns or not run.has_length:
        return None
    table, ranked, widths = (
        run.once(work)
        for work in (tradeoff.tradeoff, heads.single_heads, equal_width.at_equal_width)
    )
    if table.empty and ranked.empty:
        return None
    first, *more = _sentences(run, table, ranked)
    files = {"patterns.csv": table, "heads.csv": ranked, "beside.csv": widths}
    tables = list(_tables(table, run.folder.reading.memory)) if len(table) else []
    if len(widths):
        tables.append(replace(equal_width.table(widths), shown="terminal"))
    charts = [tradeoff.chart(run, table)] if (table["kv_share"] > 0).any() else []
    charts += [heads.chart(run, rows) for rows in heads.pictured(ranked)]
    charts += [equal_width.chart(run, widths)] if len(widths) else []
    return Finding(
        "attention",
        "What attention must see",
        first,
        tables=[*tables, *heads.tables(ranked, 1 - run.analysis.confidence)],
        charts=charts,
        caveats=list(_caveats(run, table, ranked)),
        more=more,
        headlines=[first],
        files={name: rows for name, rows in files.items() if len(rows)},
    )


def _sentences(run: OpenRun, table: pd.DataFrame, ranked: pd.DataFrame) -> list[str]:
    """What holds at each tolerance: of one pattern at the strictest, of none at all of them."""
    if table.empty:
        return [f"{len(ranked):,} single heads were replaced, one at a time."]
    lines: dict[str, str] = {}
    without = []
    for tolerance in filter(is_constant, run.analysis.tolerances):
        best = cheapest(table, tolerance)
        if best is None:
            without.append(tolerance)
        else:
            lines.setdefault(str(best["condition"]), _stays(run, tolerance, best))
    if without:
        return [_no_pattern(run, table, without), *lines.values()]
    return list(lines.values()) or ["Patterns of attention, and what they cost."]


def _stays(run: OpenRun, tolerance: Tolerance, best: "pd.Series[Any]") -> str:
    """With how many keys this model on this text loses less than a tolerance."""
    share = f"{best['kv_share']:.0%} of the {run.folder.reading.memory}".replace("%", " %")
    keys = f" with {best['keys']:,.0f} keys per query, {share}" if best["keys"] > 0 else ""
    return (
        f"{subject(run)} loses less than {_at([tolerance])}{keys} ({_pattern(best)}:"
        f" {in_words(best)} nats per token)."
    )


def _no_pattern(run: OpenRun, table: pd.DataFrame, tolerances: Sequence[Tolerance]) -> str:
    """That no pattern is known to lose less, and what the best of them does."""
    at, documents = _at(tolerances), len(run.documents)
    if documents < FEWEST_DOCUMENTS:
        few = counted(documents, "document")
        return f"{subject(run)}: unresolved at {at}: {few}, an interval needs {FEWEST_DOCUMENTS}."
    said = f"{subject(run)}: no pattern of this run is shown to lose less than {at}"
    rows = effective(table)
    if rows.empty:
        return f"{said}."
    least = rows.sort_values("delta").iloc[0]
    smallest = f"{_pattern(least)}: {in_words(least)} nats per token"
    return f"{said}; the smallest delta is that of {smallest}."


def _pattern(row: "pd.Series[Any]") -> str:
    return printable(with_ranges(str(row["condition"])))


def _at(tolerances: Sequence[Tolerance]) -> str:
    """Tolerances in a sentence: ``1 %, 2 % or 5 % of perplexity or 0.1 nats``."""
    shares = [spaced(one.text) for one in tolerances if one.unit == "perplexity"]
    nats = [spaced(one.text) for one in tolerances if one.unit == "nats"]
    parts = [f"{_either(shares)} of perplexity"] if shares else []
    return _either([*parts, _either(nats)] if nats else parts)


def _either(texts: Sequence[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)} or {last}" if first else last


def _tables(table: pd.DataFrame, memory: str) -> Iterator[Table]:
    """Every pattern with its keys, its shares and its delta, the smallest share first.

    The terminal breaks long patterns.
    """
    shares = {"kv_share": memory, "flops_share": "FLOPs", "forward_share": "forward-pass time"}
    if table["forward_share"].isna().all():
        del shares["forward_share"]
    headers = ["pattern", "keys", *shares.values(), "delta (nats per token)", "targets", ""]
    rows, broken = [], []
    for _, row in table.iterrows():
        name = _described(str(row["condition"]))
        cells = [
            "–" if math.isnan(row["keys"]) else f"{row['keys']:,.0f}",
            *(_percent(row[share], 0 if share == "forward_share" else 1) for share in shares),
            in_words(row),
            f"{row['targets']:,}",
            "frontier" if row["frontier"] else "",
        ]
        rows.append([name, *cells])
        term, *terms = name.split(" + ") if len(name) > WIDEST else [name]
        broken += [[term, *cells], *([f"  + {term}", *[""] * len(cells)] for term in terms)]
    page = Table(f"Patterns, the smallest {memory} first", headers, rows)
    yield replace(page, rows=broken, shown="terminal", captioned=False, rule=True)
    yield page


def _percent(share: float, digits: int) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def _described(condition: str) -> str:
    """A pattern as its table names it, marked where the model never learned anything like it."""
    if not condition.startswith(PATTERN):
        return f"{condition}, far text cut off"
    pattern = with_ranges(condition[len(PATTERN) : -1])
    if "project(" in pattern:
        return f"{pattern} (untrained, a lower baseline)"
    return f"{pattern} (untrained, an upper bound)" if _is_hard_coded(pattern) else pattern


def _caveats(run: OpenRun, table: pd.DataFrame, ranked: pd.DataFrame) -> Iterator[str]:
    """What a reader must know of the tables, one line each."""
    if len(ranked):
        yield (
            "single heads: those significantly different from 0 (Holm's p below"
            f" {1 - run.analysis.confidence:.2g}) come first, then those with the largest delta;"
            " intervals are simultaneous over all heads of a kind (Bonferroni), a little wider than"
            " p implies; heads.csv has all"
        )
    if len(table):
        of_three = table["condition"].astype(str).str.contains(tradeoff.OF_THREE).any()
        added = ", the three attentions added up" if of_three else ""
        memory = run.folder.reading.memory
        yield (
            f"keys: the most that a query sees, mean over layers and heads{added}; {memory} and"
            " FLOPs of attention by formula, as shares of full attention at this window's length"
        )
    if table["frontier"].any():
        yield (
            "frontier: neither another pattern of the run nor full attention keeps as little of the"
            f" {run.folder.reading.memory} at as small a delta (by the estimates)"
        )
    if table["forward_share"].notna().any():
        yield (
            "forward-pass time: of one window whose hidden blocks are skipped, the smaller of two,"
            " as a share of that with full attention; a few per cent are noise, and blocks are 128"
            " keys wide, so that short windows have little to skip"
        )
    if len(ranked) and ranked["kind"].nunique() > 1:
        yield "the last columns: delta of the other kinds in place of the same head"
    if any(map(_is_hard_coded, [*table["condition"].astype(str), *ranked["kind"].astype(str)])):
        yield (
            "hard-coded heads in a model that was not trained with them: their delta is an upper"
            " bound, most of all where every head is replaced"
        )
    no_keys = table.loc[table["kv_share"] == 0, "condition"].astype(str).tolist()
    if no_keys:
        yield f"without keys, hence not on the logarithmic axis: {', '.join(no_keys)}"
    if left_out := run.once(common_targets).left_out:
        yield (
            f"{counted(left_out, 'target')} of each pattern excluded: patterns are compared"
            " on the targets from which every one of them hides something"
        )
    if idle := table.loc[table["idle"].astype(bool), "condition"].astype(str).tolist():
        yield (
            "hide nothing in windows of this length, so that their delta is rounding and no answer:"
            f" {', '.join(idle)}"
        )


def _is_hard_coded(name: str) -> bool:
    """Whether a pattern replaces a head's weights by fixed ones."""
    return re.search(r"\b(gaussian|(first|last)_token|zero|mean|uniform)\b", name) is not None
