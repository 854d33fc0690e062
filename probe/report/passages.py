"""Passages on the page: what each is worth to the answer, by name and by distance."""

import pandas as pd

from probe.analysis.answer import in_order
from probe.analysis.passages import answer, has_passages, passages
from probe.findings.table import records
from probe.report.answers import curve_line, threshold_of
from probe.report.bands import noted
from probe.report.charts import Chart
from probe.report.explained import Explained, Figure, Section, figure, pivot, ranged
from probe.report.svg import delta_scale, distance_scale


def passage_section(explained: Explained) -> Section | None:
    """The answer of a run with protocol passages, ``None`` for every other run.

    Args:
        explained: The run.

    Raises:
        ProbeError: If its scores cannot be read.
    """
    summary = explained.summary
    if not has_passages(summary.run.record):
        return None
    found = passages(summary.run.path, analysis=summary.analysis, write=False)
    said = answer(found).splitlines()
    tables, figures = [], []
    if len(found.by_name):
        names = in_order(found.by_name["condition"].astype(str))
        tables.append(
            pivot(
                "Delta (nats a token) by passage",
                records(found.by_name),
                names,
                by="condition",
                cell=lambda row: ranged(row, "delta"),
                corner="passage",
                row_name=lambda row: str(row["passage"]),
            )
        )
        figures.append(_figure(found.by_distance, names, threshold_of(summary)))
    notes = [said[1], *noted(answer(found))]
    return Section("answer", "The answer", said[0], figures, tables, notes)


def _figure(rows: pd.DataFrame, names: list[str], threshold: float) -> Figure:
    lines = [
        curve_line(rows[rows["condition"] == name], name, look) for look, name in enumerate(names)
    ]
    across = "from the passage's end to the target (tokens)"
    chart = Chart(
        "Delta by distance of the passage",
        distance_scale(float(rows["distance_to"].max()), label=across),
        delta_scale(rows[["delta", "low", "high"]].to_numpy(float), threshold),
        lines,
    )
    how = (
        "The loss added to the answer when one passage alone is changed, by how far before the"
        " target it ends; bands: interval over documents. Passages of different distances are"
        " different text: see the table by name as well."
    )
    cells = pivot(
        "Delta (nats a token) by distance (tokens)",
        records(rows),
        names,
        by="condition",
        cell=lambda row: ranged(row, "delta"),
    )
    return figure(chart, how, cells)
