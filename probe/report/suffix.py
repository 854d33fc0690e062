"""Suffix identification on the page: how often the gold continuation is chosen, by prefix."""

import numpy as np

from probe.analysis.suffix import SuffixAnswer, is_suffix, suffix
from probe.analysis.suffix_answer import MARGIN, basis, cells, headers, name, sentence
from probe.report.charts import Chart, Line, Rule
from probe.report.explained import Explained, Figure, Section, Table, figure
from probe.report.svg import Scale, distance_scale

TENTHS = tuple(number / 10 for number in range(0, 11, 2))


def suffix_section(explained: Explained) -> Section | None:
    """The answer of a run with protocol suffix, ``None`` for every other run.

    Args:
        explained: The run.

    Raises:
        ProbeError: If its scores cannot be read.
    """
    summary = explained.summary
    if not is_suffix(summary.run.record):
        return None
    found = suffix(summary.run.path, analysis=summary.analysis, write=False)
    table = Table("Choices among candidates, by the length of the prefix (tokens)", [], [])
    figures = []
    if len(found.table):
        table = Table(table.caption, headers(found), cells(found))
        figures.append(_figure(found, table))
    notes = [basis(found), MARGIN, *found.run.warnings]
    notes += [str(note) for note in getattr(explained, "notes", None) or ()]
    return Section("answer", "The answer", sentence(found), figures, [], notes)


def _figure(found: SuffixAnswer, table: Table) -> Figure:
    rows = found.table
    columns = {key: rows[key].to_numpy(float) for key in ("prefix", "accuracy", "low", "high")}
    told = [f"{row[0]} tokens: {row[1]} ({row[2]})" for row in cells(found)]
    line = Line(
        name(found, "model"),
        columns["prefix"],
        columns["accuracy"],
        low=columns["low"],
        high=columns["high"],
        told=told,
    )
    chart = Chart(
        "Gold continuation chosen, by the length of the prefix",
        distance_scale(float(np.max(columns["prefix"])), label="prefix (tokens)"),
        Scale("gold continuation chosen", 0, 1, "linear", TENTHS, percent=True),
        [line],
        [Rule(found.chance, "chance")],
    )
    how = (
        f"Each window is a choice among {found.candidates} continuations of {found.tokens:,} tokens"
        " behind the same prefix; the one with the lowest mean loss is chosen. The band is the"
        " interval over documents, the thin line blind choice."
    )
    return figure(chart, how, table)
