"""Several runs on one page: their curves over one another, and one table."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from probe.analysis.answer import epsilons, headline, sentence, short
from probe.analysis.summary import Summary
from probe.analysis.tolerance import spaced
from probe.findings.table import records
from probe.render.markup import visible
from probe.report.answers import curve_line, interval, main_condition, threshold_of
from probe.report.charts import Chart, Rule
from probe.report.explained import Section, Table, decimals, figure, pivot, ranged
from probe.report.svg import LOOKS, delta_scale, distance_scale
from probe.results.folder import unique_labels

_LIMITS = (" length", " low", " high")


def overlay_section(summaries: Sequence[Summary], table: pd.DataFrame | None) -> Section:
    """The main curve of each run over those of the others, and the runs as a table.

    Args:
        summaries: The runs.
        table: One row a run, any columns; without it the answers of each run.
    """
    names = labels(summaries)
    frames = []
    lines = []
    for look, (name, summary) in enumerate(zip(names, summaries, strict=True)):
        rows = summary.curve
        rows = rows[(rows["condition"] == main_condition(summary)) & ~rows["grey"].astype(bool)]
        if len(rows) and summary.contexts:  # bands and passages have no curve of lengths
            frames.append(rows.assign(run=name))
            lines.append(curve_line(rows, f"{name}: {main_condition(summary)}", look % LOOKS))
    notes = [f"{name}: {sentence(summary)}" for name, summary in zip(names, summaries, strict=True)]
    tables = [_own(summaries, names) if table is None else as_table("The runs", table)]
    if not frames:
        return Section("runs", "The runs", "", [], tables, notes)
    shown = pd.concat(frames, ignore_index=True)
    heights = delta_scale(
        shown[["delta", "high"]].to_numpy(float), min(map(threshold_of, summaries))
    )
    rules = {value: text for summary in summaries for value, text in epsilons(summary).items()}
    marks = [
        replace(mark, class_=f"s{look % LOOKS}")
        for look, summary in enumerate(summaries)
        if (context := headline(summary)) and (mark := interval(context))
    ]
    chart = Chart(
        "Delta against distance, by run",
        distance_scale(float(shown["distance_to"].max())),
        heights,
        lines,
        [Rule(value, text) for value, text in rules.items()],
        marks,
    )
    how = (
        "One line a run, under the condition named first in its answer; diamonds are effective"
        " contexts. Runs of different text or tokenizer are not paired: probe compare gives the"
        " difference with its interval."
    )
    cells = pivot(
        "Delta (nats a token) by distance (tokens)",
        records(shown),
        names,
        by="run",
        cell=lambda row: ranged(row, "delta"),
    )
    finding = f"{len(summaries)} runs, each in full below."
    return Section("runs", "The runs", finding, [figure(chart, how, cells)], tables, notes)


def labels(summaries: Sequence[Summary]) -> list[str]:
    """Names of the runs, told apart by their folders; unseen characters are labelled."""
    return [visible(name) for name in unique_labels([summary.run for summary in summaries])]


def as_table(caption: str, rows: pd.DataFrame) -> Table:
    """A frame as a table of a page, its columns as they are named.

    Left out are empty columns, and numbers that an answer's own column has in words.
    """
    names = [str(name) for name in rows.columns]
    said = {f"{name}{end}" for name in names for end in _LIMITS if f"{name} length" in names}
    rows = rows[[name for name in rows.columns if name not in said]]
    rows = rows.dropna(axis="columns", how="all")
    cells = [[_cell(value) for value in row.values()] for row in records(rows)]
    return Table(caption, [str(column).replace("_", " ") for column in rows.columns], cells)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float | np.floating):
        return decimals(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _own(summaries: Sequence[Summary], names: Sequence[str]) -> Table:
    headers = ["run", "model", "data", "documents", "reach", "effective context"]
    cells = []
    for name, summary in zip(names, summaries, strict=True):
        context = headline(summary)
        found = "–" if context is None else f"{short(context)} at {spaced(context.tolerance)}"
        numbers = f"{summary.documents:,}", f"{summary.reach:,}"
        cells.append([name, summary.model, summary.data, *numbers, found])
    return Table("The runs", headers, cells)
