"""Bands of distances on the page: what each is worth where it alone is perturbed."""

import numpy as np
import pandas as pd

from probe.analysis.answer import counts, in_order
from probe.analysis.bands import answer, bands, is_banded
from probe.analysis.record import records
from probe.report.answers import threshold_of
from probe.report.charts import Chart, Line
from probe.report.explained import Explained, Figure, Section, between, figure, pivot, ranged
from probe.report.svg import delta_scale, distance_scale


def band_section(explained: Explained) -> Section | None:
    """The answer of a run with protocol band, ``None`` for every other run.

    Args:
        explained: The run.

    Raises:
        ProbeError: If its scores cannot be read.
    """
    summary = explained.summary
    if not is_banded(summary.run.record):
        return None
    found = bands(summary.run.path, analysis=summary.analysis, write=False)
    figures = [_figure(found.table, threshold_of(summary))] if len(found.table) else []
    told = f"Measured on {', '.join(counts(summary))}; what lies beyond a band is intact."
    notes = [told, *noted(answer(found))]
    return Section("answer", "The answer", answer(found).partition("\n")[0], figures, [], notes)


def noted(answer: str) -> list[str]:
    """The notes of a printed answer, one a line; contrasts belong to other protocols."""
    notes = [line[2:] for line in answer.splitlines() if line.startswith("- ")]
    return [note for note in notes if not note.startswith("no contrast")]


def _figure(table: pd.DataFrame, threshold: float) -> Figure:
    rows = table.rename(columns={"band_from": "distance_from", "band_to": "distance_to"})
    names = in_order(rows["condition"].astype(str))
    lines = [_steps(rows[rows["condition"] == name], name, look) for look, name in enumerate(names)]
    across = "perturbed band (tokens before the first target)"
    chart = Chart(
        "Delta of each band",
        distance_scale(float(rows["distance_to"].max()), label=across),
        delta_scale(rows[["delta", "low", "high"]].to_numpy(float), threshold),
        lines,
    )
    how = (
        "Each bar is the loss added when the text between these two distances alone is changed,"
        " all nearer and all farther text being intact; its shade is the interval over documents."
        " What lies beyond a band stays and may stand in for it: bands do not add up."
    )
    cells = pivot(
        "Delta (nats a token) by band (tokens before the first target)",
        records(rows),
        names,
        by="condition",
        cell=lambda row: ranged(row, "delta"),
        corner="band",
    )
    return figure(chart, how, cells)


def _steps(rows: pd.DataFrame, name: str, look: int) -> Line:
    """One level stroke a band, from its first distance to its last."""
    rows = rows.sort_values("distance_from")
    ends = rows[["distance_from", "distance_to"]].to_numpy(float) - [0, 1]
    x = np.column_stack([ends, ends[:, 1]]).ravel()

    def level(column: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
        """The value at both ends of a band, and a gap behind it."""
        return np.column_stack([rows[column], rows[column], np.full(len(rows), np.nan)]).ravel()

    told = [f"{name}, {between(row)}: {ranged(row, 'delta')}" for row in records(rows)]
    said = [text for text in told for _ in range(3)]
    return Line(name, x, level("delta"), look, level("low"), level("high"), None, said, points=True)
