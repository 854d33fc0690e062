"""What each passage is worth to the answer, and at which distance (protocol `passages`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from probe.analysis.bins import octave_edges
from probe.analysis.fit import in_order
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import binned, delta_table, located, strongest
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import ProbeError
from probe.findings.answer import counts, subject
from probe.findings.base import CONDITION, Drawn, Finding, Plot, only, register
from probe.findings.chart import (
    Chart,
    EmptyChartError,
    delta_axis,
    distance_axis,
    linear_axis,
    names_axis,
)
from probe.findings.contrasts import contrasts
from probe.findings.curve import curve_series, group_series, threshold_of
from probe.findings.table import Shown, Table, between
from probe.text import counted, difference, printable

MOST = 20
"""Passages that are drawn: those with most targets."""

_ROWS = """
    SELECT condition, document, name AS passage, position - stop AS distance,
        avg(nll::DOUBLE - nll_intact) AS delta
    FROM scores JOIN passages USING (document)
    WHERE boundary >= 0 AND CASE WHEN list_contains($back::VARCHAR[], condition::VARCHAR)
        THEN far_start = start OR (start = 0 AND far_start = 1)  -- its first token is kept
        ELSE boundary = stop END
    GROUP BY condition, document, name, position, stop
"""
"""A row a target and passage, repeats averaged; a passage that moves back is known by its start."""


@dataclass(frozen=True, eq=False)
class Passages:
    """Delta by passage and by distance.

    Args:
        by_name: ``condition, passage, delta, low, high, targets, documents`` (nats per token).
        by_distance: The same by octave of the distance from the passage's end to the target:
            ``condition, distance_from, distance_to, …`` (tokens).
    """

    by_name: pd.DataFrame
    by_distance: pd.DataFrame


def plot(runs: Sequence[OpenRun], *, condition: str | None = None) -> Drawn:
    """Delta of each passage, for `probe plot`.

    Args:
        runs: One run.
        condition: Only this condition.
    """
    by_name = only(runs[0].once(passages).by_name, "condition", condition, "condition")
    yield "", chart(runs[0], by_name)


@register("passages", order=10, level="answer", plots=[Plot("curve", plot, 1, [CONDITION])])
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding | None:
    """The answer of a run that perturbs one passage at a time.

    Args:
        run: The open run.
        others: Not needed.
    """
    if not run.is_answered_by("passages"):
        return None
    measured = run.once(passages)
    by_name, by_distance = measured.by_name, measured.by_distance
    number = len(run.documents)
    few = f"{counted(number, 'document')}: an interval needs {FEWEST_DOCUMENTS}"
    tables, charts = [], []
    if len(by_name):
        across = "tokens from the passage to the target"
        distances = _table(by_distance, across, between, "terminal")
        tables = [_table(by_name, "passage", _name, "both"), distances]
        charts = [chart(run, by_name), _by_distance(run, by_distance, distances)]
    return Finding(
        "answer",
        "The answer",
        _sentence(run, by_name),
        f"Measured on {', '.join(counts(run))}; all but the passage is intact.",
        tables=tables,
        charts=charts,
        caveats=[
            *([few] if number < FEWEST_DOCUMENTS else []),
            *run.warnings,
            *run.once(contrasts)[1],
        ],
        files={"passages.csv": by_name, "passages_by_distance.csv": by_distance},
    )


def passages(run: OpenRun) -> Passages:
    """Delta by passage and by distance, with intervals of a bootstrap over documents.

    Args:
        run: A run with protocol passages.

    Raises:
        ProbeError: If the run has another protocol.
    """
    if not run.is_answered_by("passages"):
        raise ProbeError(f"run '{run.path}' has no passages; allowed: a run with protocol passages")
    connection = run.connection
    spans = [(one.id, *span) for one in run.facts.data.documents for span in one.spans]
    frame = pd.DataFrame(spans, columns=["document", "name", "start", "stop"])
    back = [name for name in run.conditions if name.startswith("move") and "'first'" not in name]
    connection.register("passages", frame)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE passage_rows AS {_ROWS}", {"back": back})
    named = connection.execute(
        """SELECT condition, passage, document, count(*) AS targets, sum(delta) AS delta_sum
        FROM passage_rows GROUP BY ALL ORDER BY ALL"""
    ).df()
    (longest,) = connection.execute("SELECT max(distance) FROM passage_rows").fetchall()[0]
    edges = octave_edges((longest or 0) + 1)
    with binned(connection, edges):
        far = connection.execute(
            """SELECT condition, bin, document, count(*) AS targets, sum(delta) AS delta_sum
            FROM passage_rows JOIN bins USING (distance) GROUP BY ALL ORDER BY ALL"""
        ).df()
    connection.unregister("passages")
    connection.execute("DROP TABLE passage_rows")
    octaves = ("condition", "distance_from", "distance_to")
    return Passages(
        delta_table(named, ("condition", "passage"), run.analysis),
        delta_table(located(far, edges), octaves, run.analysis),
    )


def chart(run: OpenRun, table: pd.DataFrame) -> Chart:
    """A mark with its interval for each passage and condition, passages from top to bottom.

    Args:
        run: The run.
        table: Columns ``condition, passage, delta, low, high, targets``; of many passages the 20
            with most targets are drawn.

    Raises:
        EmptyChartError: If there is no passage.
    """
    if table.empty:
        raise EmptyChartError("no passage to draw")
    targets = table.groupby("passage", sort=False)["targets"].sum()
    most = set(targets.sort_values(ascending=False, kind="stable").index[:MOST])
    places = [str(name) for name in dict.fromkeys(table["passage"]) if name in most]
    shown = table[table["passage"].isin(most)]
    named = shown.assign(passage=shown["passage"].map(repr))
    marks = group_series(run, named, "passage", list(map(repr, places)))
    values = shown[["delta", "low", "high"]].to_numpy(float)
    return Chart(
        "Delta of each passage",
        linear_axis(values, "delta (nats per token)", include=(0,)),
        names_axis(places, down=True),
        [replace(one, x=one.y, y=one.x) for one in marks],
        horizontal=True,
        how=(
            "Each mark is the loss added to the answer when this passage alone is changed, all"
            " other text being intact; its bar is the interval over documents."
        ),
        heading=[run.model, run.data],
        file="passages",
    )


def _by_distance(run: OpenRun, rows: pd.DataFrame, table: Table) -> Chart:
    conditions = in_order(rows["condition"].astype(str))
    across = "from the passage's end to the target (tokens)"
    return Chart(
        "Delta by distance of the passage",
        distance_axis(float(rows["distance_to"].max()), label=across),
        delta_axis(rows[["delta", "low", "high"]].to_numpy(float), threshold_of(run)),
        [
            curve_series(
                rows[rows["condition"].astype(str) == condition], condition, run.rank(condition)
            )
            for condition in conditions
        ],
        how=(
            "The loss added to the answer when one passage alone is changed, by how far before the"
            " target it ends; bands: interval over documents. Passages of different distances are"
            " different text: see the table by name as well."
        ),
        tables=[table],
        heading=[run.model, run.data],
    )


def _sentence(run: OpenRun, table: pd.DataFrame) -> str:
    if table.empty:
        return f"{subject(run)}: no passage was scored."
    most = strongest(table, _name, "passage")
    return f"{subject(run)}: of the passages, {printable(most)}."


def _name(row: Any) -> str:
    return repr(row["passage"])


def _table(
    table: pd.DataFrame, what: str, name: Callable[[Mapping[Any, Any]], str], shown: Shown
) -> Table:
    """One line a row: condition, what, delta with its limits, documents."""
    rows = [
        [
            str(row["condition"]),
            name(row),
            difference(row["delta"], row["low"], row["high"]),
            counted(int(row["documents"]), "document"),
        ]
        for row in table.to_dict("records")
    ]
    headers = ["condition", what, "delta", "documents"]
    return Table(f"Delta by {what} (nats per token)", headers, rows, shown=shown, listed=True)
