"""What each passage is worth to the answer, and at which distance (protocol `passages`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from probe.analysis.answer import counts, subject
from probe.analysis.bins import octave_edges
from probe.analysis.intervals import delta_table, in_words, strongest
from probe.analysis.settings import Analysis
from probe.analysis.summary import Summary, summarise
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import ProbeError
from probe.results.csv_files import write_csv
from probe.results.views import connect, scored_conditions
from probe.text import counted, printable

_ROWS = """
    SELECT condition, document, name AS passage, position - stop AS distance,
        avg(nll::DOUBLE - nll_intact) AS delta
    FROM scores JOIN rules USING (condition) JOIN passages USING (document)
    WHERE boundary >= 0 AND CASE WHEN rule = 'start'
        THEN far_start = start OR (start = 0 AND far_start = 1)  -- its first token is kept
        ELSE boundary = stop END
    GROUP BY condition, document, name, position, stop
"""
"""A row a target and passage, repeats averaged; a passage that moves back is told by its start."""


@dataclass(frozen=True, eq=False)
class Passages:
    """Delta by passage and by distance.

    Args:
        summary: The run's summary, which holds no length.
        by_name: ``condition, passage, delta, low, high, targets, documents`` (nats a token).
        by_distance: The same by octave of the distance from the passage's end to the target:
            ``condition, distance_from, distance_to, …`` (tokens).
    """

    summary: Summary
    by_name: pd.DataFrame
    by_distance: pd.DataFrame


def has_passages(record: Mapping[str, Any]) -> bool:
    """Whether a run perturbed passages."""
    protocol = (record.get("config") or {}).get("protocol") or {}
    return bool(protocol.get("kind") == "passages")


def passages(
    run_dir: str | Path, *, analysis: Analysis | None = None, write: bool = True
) -> Passages:
    """Read a run of protocol `passages`.

    Args:
        run_dir: The run folder.
        analysis: How to read it; by default what its configuration says.
        write: Whether to write ``passages.csv``, ``passages_by_distance.csv`` and the summary's
            files into the folder.

    Raises:
        ProbeError: If the run has another protocol, or cannot be read.
    """
    summary = summarise(run_dir, analysis=analysis, write=write)
    run = summary.run
    if not has_passages(run.record):
        raise ProbeError(f"run '{run.path}' has no passages; allowed: a run with protocol passages")
    try:
        with connect(run.path / "windows.parquet", run.parts) as connection:
            named, far = _sums(connection, run.record)
    except duckdb.Error as error:
        raise ProbeError(f"the scores of '{run.path}' cannot be read: {error}") from error
    by_name = delta_table(named, ("condition", "passage"), summary.analysis)
    by_distance = delta_table(far, ("condition", "distance_from", "distance_to"), summary.analysis)
    if write:
        for name, table in (("passages", by_name), ("passages_by_distance", by_distance)):
            write_csv(run.path / f"{name}.csv", table)
    return Passages(summary, by_name, by_distance)


def answer(found: Passages) -> str:
    """The whole answer as plain text: sentence, basis, tables, notes."""
    summary, named = found.summary, found.by_name
    who = subject(summary)
    if named.empty:
        first = f"{who}: no passage was scored."
    else:
        most = strongest(named, lambda row: repr(row["passage"]), "passage")
        first = f"{who}: of the passages, {printable(most)}."
    basis = f"Measured on {', '.join(counts(summary))}; all but the passage is intact."
    notes = [f"- {printable(line)}" for line in summary.warnings]
    if summary.documents < FEWEST_DOCUMENTS:
        few = counted(summary.documents, "document")
        notes.insert(0, f"- {few}: an interval needs {FEWEST_DOCUMENTS}")
    parts = [f"{first}\n{basis}"]
    if len(named):
        named = named.assign(what=named["passage"].map(repr))
        far = found.by_distance
        spans = [
            f"{a:,}–{b - 1:,}" if b - a > 1 else f"{a:,}"
            for a, b in zip(far["distance_from"], far["distance_to"], strict=True)
        ]
        parts.append(_lines(named, "passage"))
        parts.append(_lines(far.assign(what=spans), "tokens from the passage to the target"))
    parts.append("\n".join(notes))
    return "\n\n".join(part for part in parts if part)


def _sums(
    connection: duckdb.DuckDBPyConnection, record: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    documents = (record.get("data") or {}).get("documents") or []
    spans = [
        (str(document["id"]), str(name), int(start), int(stop))
        for document in documents
        for name, start, stop in document.get("spans", [])
    ]
    frame = pd.DataFrame(spans, columns=["document", "name", "start", "stop"])
    connection.register("passages", frame)
    connection.register("rules", _rules(scored_conditions(connection)))
    connection.execute(f"CREATE TEMP TABLE passage_rows AS {_ROWS}")
    named = connection.execute(
        """SELECT condition, passage, document, count(*) AS targets, sum(delta) AS delta_sum
        FROM passage_rows GROUP BY ALL ORDER BY ALL"""
    ).df()
    (longest,) = connection.execute("SELECT max(distance) FROM passage_rows").fetchall()[0]
    edges = octave_edges((longest or 0) + 1)
    bins = pd.DataFrame({"distance_from": edges[:-1], "distance_to": edges[1:]})
    connection.register("passage_bins", bins)
    far = connection.execute(
        """SELECT condition, distance_from, distance_to, document, count(*) AS targets,
            sum(delta) AS delta_sum
        FROM passage_rows JOIN passage_bins
            ON distance >= distance_from AND distance < distance_to
        GROUP BY ALL ORDER BY ALL"""
    ).df()
    return named, far


def _rules(conditions: Sequence[str]) -> pd.DataFrame:
    """By which end of the far text each condition's passage is told."""
    back = [text.startswith("move") and "'first'" not in text for text in conditions]
    rules = ["start" if moved else "stop" for moved in back]
    return pd.DataFrame({"condition": list(conditions), "rule": rules})


def _lines(table: pd.DataFrame, title: str) -> str:
    """One line a row: condition, what, delta with its limits, documents."""
    table = table.assign(condition=table["condition"].astype(str).map(printable))
    widths = [max(map(len, map(str, table[column]))) for column in ("condition", "what")]
    rows = [
        f"  {row['condition']:<{widths[0]}}  {row['what']:<{widths[1]}}  {in_words(row)}"
        f"  {counted(row['documents'], 'document')}"
        for _, row in table.iterrows()
    ]
    return "\n".join([f"Delta by {title} (nats a token)", *rows])
