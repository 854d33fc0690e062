"""Several runs together: one table of models × data × revisions, their curves over one another."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from probe.analysis.open_run import OpenRun
from probe.findings.answer import short
from probe.findings.base import Finding, register_of_all
from probe.findings.chart import Chart
from probe.findings.compare.comparison import settings_apart
from probe.findings.compare.comparison_finding import PLOT
from probe.findings.compare.pair import create_token_bytes
from probe.findings.compare.panels import PANELS
from probe.findings.compare.pivot import main_condition
from probe.findings.curve import overlay
from probe.findings.positions import losses
from probe.findings.table import Table, pivot, ranged, records
from probe.results.folder import unique_labels
from probe.results.tolerance import spaced
from probe.results.views import row

COLUMNS = (
    *("run", "model", "revision", "dtype", "attention", "data", "documents", "windows", "targets"),
    *("loss", "perplexity", "bits_per_byte", "condition"),
)
"""Columns in front of the tolerances: loss is the intact one (nats per token)."""


@register_of_all("runs", plots=[PLOT, PANELS])
def finding(
    runs: Sequence[OpenRun], findings_of_each: Sequence[Sequence[Finding]]
) -> Finding | None:
    """The runs as a table, their curves over one another, and the answer of each.

    Args:
        runs: The runs.
        findings_of_each: The findings of each.
    """
    labels = unique_labels([run.folder for run in runs])
    answers = [
        f"{label}: {sentence}"
        for label, findings in zip(labels, findings_of_each, strict=True)
        for sentence in [one.sentence for one in findings if one.sentence][:1]
    ]
    return replace(
        table_finding(runs),
        sentence=f"{len(runs)} runs, each in full below.",
        more=answers,
        charts=_charts(runs),
    )


def table_finding(runs: Sequence[OpenRun]) -> Finding:
    """The table of the runs alone, with the analysis settings that its rows do not share.

    Args:
        runs: The runs.
    """
    return Finding(
        "runs", "The runs", tables=[_table(run_table(runs))], caveats=list(settings_apart(runs))
    )


def _charts(runs: Sequence[OpenRun]) -> list[Chart]:
    """One line a run for the page, every condition for the figure beside it."""
    whole = curves_chart(runs)
    if whole is None:
        return []
    answers = curves_chart(runs, answered=True) or whole
    return [replace(answers, file=""), replace(whole, on_page=False)]


def curves_chart(runs: Sequence[OpenRun], *, answered: bool = False) -> Chart | None:
    """The curves of the runs that have lengths over one another, ``None`` where no run has.

    Args:
        runs: The runs.
        answered: Whether each has one line, under the condition of its answer.
    """
    drawn = [run for run in runs if run.contexts]  # other protocols have no curve of lengths
    if not drawn:
        return None
    chart = overlay(drawn, answered=answered)
    named = [series.name for series in chart.series if series.name]
    labels = [f"{label}: " for label in unique_labels([run.folder for run in drawn])]
    rows = pd.concat(
        [
            run.curve.assign(series=label + run.curve["condition"].astype(str))
            for label, run in zip(labels if len(drawn) > 1 else [""], drawn, strict=True)
        ]
    )
    rows = rows[~rows["grey"].astype(bool)]
    units = " or ".join(dict.fromkeys(run.unit for run in drawn))
    numbers = pivot(
        f"Delta (nats per token) by distance ({units})",
        records(rows[rows["series"].isin(named)]),
        named,
        by="series",
        cell=lambda row: ranged(row, "delta"),
    )
    how = (
        f"One line a run{', under the condition of its answer' if answered else ' and condition'};"
        " diamonds are effective contexts. Runs of different text or tokenizer are not paired:"
        " probe compare gives the difference with its interval."
    )
    return replace(chart, how=how, tables=[numbers], file="curves")


def run_table(runs: Sequence[OpenRun]) -> pd.DataFrame:
    """One row a run: what it is, its intact loss, its effective contexts.

    The lengths are those of ``truncate``; where no run has it, of the first condition that most
    runs have.

    Args:
        runs: The runs.

    Returns:
        The columns ``COLUMNS``, and for each tolerance ``1%`` (the answer in words) with
        ``1% length, 1% low, 1% high`` (tokens, missing beyond reach or where unresolved).
    """
    condition = main_condition(runs)
    labels = unique_labels([run.folder for run in runs])
    rows = []
    for run, label in zip(runs, labels, strict=True):
        with run.reading():
            rows.append({"run": label, **_about(run, condition), **_answers(run, condition)})
    tolerances = dict.fromkeys(
        tolerance.text for run in runs for tolerance in run.analysis.tolerances
    )
    ends = ("", " length", " low", " high")
    columns = [*COLUMNS, *(f"{text}{end}" for text in tolerances for end in ends)]
    frame = pd.DataFrame(rows, columns=columns)
    whole = [f"{text}{end}" for text in tolerances for end in ends[1:]]
    frame = frame.astype(dict.fromkeys(whole, "Int64") | {"bits_per_byte": "float64"})
    frame[list(tolerances)] = frame[list(tolerances)].fillna("–")
    return frame


def _about(run: OpenRun, condition: str) -> dict[str, object]:
    """What a run is and how much it measured, the columns between its name and its answers."""
    model = run.facts.model
    by_condition = run.once(losses).by_condition
    intact = by_condition.loc[by_condition["condition"] == "intact", "loss"]
    loss = float(intact.iloc[0]) if len(intact) else np.nan
    return {
        "model": run.model,
        "revision": _short_revision(model.revision),
        "dtype": str(model.dtype or "–"),
        "attention": str(run.facts.config.model.get("attention") or "–"),
        "data": run.data,
        "documents": len(run.documents),
        "windows": run.windows,
        "targets": run.targets,
        "loss": loss,
        "perplexity": math.exp(loss),
        "bits_per_byte": run.once(bits_per_byte),
        "condition": condition,
    }


def bits_per_byte(run: OpenRun) -> float | None:
    """Intact loss of a run in bits per byte of its targets; ``None`` for data without text."""
    connection = run.connection
    create_token_bytes(connection, "token_bytes", run.path / "windows.parquet")
    nats, size = row(
        connection,
        """SELECT sum(nll::DOUBLE), sum(bytes)
        FROM scores JOIN token_bytes USING (document, "window", position)
        WHERE condition = 'intact'""",
    )
    connection.execute("DROP TABLE token_bytes")
    return float(nats) / math.log(2) / float(size) if size else None


def _table(frame: pd.DataFrame) -> Table:
    """The runs in words and rounded numbers, lengths without columns of their limits.

    The attention has a column where the runs differ in it.
    """
    tolerances = [name for name in frame.columns if f"{name} length" in frame.columns]
    alike = frame["attention"].nunique() < 2
    names = [*(name for name in COLUMNS if name != "attention" or not alike), *tolerances]
    forms = dict.fromkeys(("documents", "windows", "targets"), ",")
    forms |= {"loss": ".4f", "perplexity": ".2f", "bits_per_byte": ".4f"}
    shown = frame[names].copy()
    for name, form in forms.items():
        shown[name] = [f"{value:{form}}" if value == value else "–" for value in frame[name]]
    return Table(
        "The runs",
        [name.replace("_", " ") if name in COLUMNS else spaced(name) for name in names],
        shown.astype(str).to_numpy().tolist(),
        shown="both",
        captioned=False,
        rule=True,
        blocks=True,
    )


def _answers(run: OpenRun, condition: str) -> dict[str, object]:
    """The effective context at each tolerance: in words, the length and its limits."""
    cells: dict[str, object] = {}
    for tolerance in run.analysis.tolerances:
        context = run.context(condition, tolerance.text)
        cells[tolerance.text] = short(context)
        if context is not None:
            for name, tokens in zip(("length", "low", "high"), context.lengths, strict=True):
                cells[f"{tolerance.text} {name}"] = tokens
    return cells


def _short_revision(revision: object) -> str:
    """A revision short enough for a table: eight digits of a hash, else the name itself."""
    text = str(revision or "–")
    return text[:8] if re.fullmatch(r"[0-9a-f]{12,}", text) else text
