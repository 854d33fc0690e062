"""Dense context probing on the page: loss at every context length, and mean importance."""

import pandas as pd

from probe.analysis.answer import sentence, short
from probe.analysis.dense import is_dense, mean_importance
from probe.analysis.lengths import KL, Lengths, Measure, lengths
from probe.analysis.lengths_answer import answer
from probe.findings.table import records
from probe.report.bands import noted
from probe.report.charts import Chart, Line
from probe.report.explained import Explained, Figure, Section, Table, figure, ranged
from probe.report.svg import delta_scale, distance_scale, linear_scale

THRESHOLD = 0.01
"""Where the axis of importance turns logarithmic (nats)."""
_NAMES: dict[Measure, str] = {"nll": "loss", "kl": KL}


def dense_section(explained: Explained) -> Section | None:
    """The answer of a run with protocol dense, ``None`` for every other run.

    Args:
        explained: The run.

    Raises:
        ProbeError: If its scores cannot be read.
    """
    summary = explained.summary
    if not is_dense(summary.run.record):
        return None
    found = lengths(summary.run.path, analysis=summary.analysis, write=False)
    said = answer(found)
    notes = [said.splitlines()[1], *noted(said)]
    tables = [table for table in (_tolerated(found),) if table.rows]
    figures = [_importance(found), _losses(found)]
    return Section("answer", "The answer", sentence(summary), figures, tables, notes)


def _tolerated(found: Lengths) -> Table:
    """Smallest lengths from which delta, and KL, stay below each tolerance."""
    tolerances = [tolerance.text for tolerance in found.summary.analysis.tolerances]
    rows = []
    for name, contexts in (("delta", found.summary.contexts), (KL, found.kl_contexts)):
        by_tolerance = {context.tolerance: context for context in contexts}
        if by_tolerance:
            rows.append([name, *(short(by_tolerance.get(text)) for text in tolerances)])
    headers = ["measure", *(text.replace("%", " %") for text in tolerances)]
    return Table("Context length (tokens) from which each stays below a tolerance", headers, rows)


def _importance(found: Lengths) -> Figure:
    lines, every = [], []
    for look, (measure, name) in enumerate(_NAMES.items()):
        if measure in found.sums:
            rows = mean_importance(found, measure).dropna(subset="importance")
            every.append(rows.assign(measure=name))
            lines.append(_line(rows, "distance", "importance", f"of the {name}", look))
    rows = pd.concat(every)
    chart = Chart(
        "Mean importance of the token at each distance",
        distance_scale(float(rows["distance"].max()), label="distance (tokens; 1 is the last)"),
        delta_scale(rows[["importance", "low", "high"]].to_numpy(float), THRESHOLD, "nats"),
        lines,
    )
    how = (
        "What the loss, or the KL to the longest context, falls by when the context grows by the"
        " token at this distance, over all targets; bands: interval over documents. The importance"
        " of single tokens of a window is drawn by probe plot --kind importance."
    )
    cells = [
        [f"{int(row['distance']):,}", str(row["measure"]), ranged(row, "importance", 4)]
        for row in records(rows[rows["distance"].isin(_powers(found.context))])
    ]
    caption = "Mean importance (nats) at some distances (tokens)"
    return figure(chart, how, Table(caption, ["distance", "of the", "importance"], cells))


def _losses(found: Lengths) -> Figure:
    known = found.table.dropna(subset="nll")
    rows = known.rename(columns={"nll_low": "low", "nll_high": "high"})
    line = _line(rows, "context", "nll", "loss", 0)
    chart = Chart(
        "Loss by length of the context",
        distance_scale(float(found.context), label="context (tokens; 0 is the unigram estimate)"),
        linear_scale(rows[["nll", "low", "high"]].to_numpy(float), "loss (nats a token)"),
        [line],
    )
    how = "Each target with every length of context before it; bands: interval over documents."
    told = found.table[found.table["context"].isin([0, *_powers(found.context)])]
    cells = [
        [f"{int(row['context']):,}", *(_value(row, measure) for measure in _NAMES)]
        for row in records(told)
    ]
    headers = ["context", *_NAMES.values()]
    return figure(chart, how, Table("Loss and KL (nats a token) by context", headers, cells))


def _line(rows: pd.DataFrame, across: str, value: str, name: str, look: int) -> Line:
    columns = {key: rows[key].to_numpy(float) for key in (across, value, "low", "high")}
    told = [f"{name}, {int(row[across]):,}: {ranged(row, value, 4)}" for row in records(rows)]
    x, y, low, high = columns.values()
    return Line(name, x, y, look, low, high, told=told)


def _powers(context: int) -> list[int]:
    return [*dict.fromkeys([*(1 << power for power in range(context.bit_length())), context])]


def _value(row: dict[str, object], measure: Measure) -> str:
    named = {"value": row[measure], "low": row[f"{measure}_low"], "high": row[f"{measure}_high"]}
    return ranged(named, "value", 4)
