"""What each band of distances is worth: delta where it alone is perturbed (protocol `band`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from probe.analysis.answer import counts, in_order, subject
from probe.analysis.floor import without_noise
from probe.analysis.intervals import delta_table, in_words, strongest
from probe.analysis.settings import Analysis
from probe.analysis.summary import Summary, summarise
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import ProbeError
from probe.results.csv_files import write_csv
from probe.results.views import connect
from probe.text import aligned, counted, printable

COLUMNS = (
    "condition",
    "band_from",
    "band_to",
    "delta",
    "low",
    "high",
    "targets",
    "documents",
)
"""Columns of ``bands.csv``: distances of the first target in tokens, delta and its limits in nats a
token."""


@dataclass(frozen=True, eq=False)
class Bands:
    """Delta of every band and condition.

    Args:
        summary: The run's summary, which holds no length: what lies beyond a band is intact.
        table: Columns :data:`COLUMNS`; limits are missing with fewer documents than an interval
            needs.
    """

    summary: Summary
    table: pd.DataFrame


def is_banded(record: Mapping[str, Any]) -> bool:
    """Whether a run perturbed bands of distances."""
    protocol = (record.get("config") or {}).get("protocol") or {}
    return bool(protocol.get("kind") == "band")


def bands(run_dir: str | Path, *, analysis: Analysis | None = None, write: bool = True) -> Bands:
    """Read a run of protocol `band`.

    Args:
        run_dir: The run folder.
        analysis: How to read it; by default what its configuration says.
        write: Whether to write ``bands.csv`` and the summary's files into the folder.

    Returns:
        Delta by band and condition, with the interval of a bootstrap over documents.

    Raises:
        ProbeError: If the run has another protocol, or cannot be read.
    """
    summary = summarise(run_dir, analysis=analysis, write=write)
    run = summary.run
    if not is_banded(run.record):
        raise ProbeError(f"run '{run.path}' has no bands; allowed: a run with protocol band")
    try:
        with connect(run.path / "windows.parquet", run.parts) as connection:
            sums = _sums(connection)
    except duckdb.Error as error:
        raise ProbeError(f"the scores of '{run.path}' cannot be read: {error}") from error
    table = delta_table(sums, ("condition", "band_from", "band_to"), summary.analysis)
    if write:
        write_csv(run.path / "bands.csv", table)
    return Bands(summary, table)


def answer(found: Bands) -> str:
    """The whole answer as plain text: sentence, basis, table, notes."""
    summary, table = found.summary, found.table
    who = subject(summary)
    if table.empty:
        lines = [f"{who}: no band was scored."]
    else:
        told = without_noise(table)
        most = strongest(
            told if len(told) else table,
            lambda row: f"{_band(row)} tokens before the target",
            "band",
        )
        lines = [f"{who}: of the bands, {printable(most)}."]
    lines.append(f"Measured on {', '.join(counts(summary))}; what lies beyond a band is intact.")
    rows = _lines(table) if len(table) else ""
    notes = [f"- {printable(line)}" for line in (*_few(summary), *summary.warnings)]
    return "\n\n".join(part for part in ("\n".join(lines), rows, "\n".join(notes)) if part)


def _lines(table: pd.DataFrame) -> str:
    """Conditions in rows, bands in columns: there are few bands and may be many conditions."""
    pairs = table[["band_from", "band_to"]].drop_duplicates().sort_values("band_from")
    edges = [(int(near), int(far)) for near, far in pairs.itertuples(index=False)]
    cells = {
        (str(row["condition"]), (int(row["band_from"]), int(row["band_to"]))): in_words(row)
        for _, row in table.iterrows()
    }
    lines = [["condition", *(f"{near:,}–{far - 1:,}" for near, far in edges)]]
    for name in in_order(table["condition"].astype(str)):
        lines.append([name, *(cells.get((name, edge), "–") for edge in edges)])
    return f"Delta (nats a token) by band (tokens before the first target)\n{aligned(lines)}"


def _sums(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Sums of delta by condition, band and document; a band is told by its first target."""
    return connection.execute(
        """SELECT condition, band_from, band_to, document, count(*) AS targets,
            sum(delta) AS delta_sum
        FROM (SELECT condition, document, delta, near AS band_from,
                near + boundary - far_start AS band_to
            FROM (SELECT condition, document, boundary, far_start,
                    avg(nll::DOUBLE - nll_intact) AS delta, any_value(near) AS near
                FROM (SELECT *, min(distance) OVER (
                        PARTITION BY document, "window", condition, repeat, boundary, far_start
                    ) AS near FROM scores WHERE boundary >= 0)
                GROUP BY condition, document, "window", position, boundary, far_start))
        GROUP BY ALL ORDER BY condition, band_from, band_to, document"""
    ).df()


def _band(row: pd.Series) -> str:
    return f"{row['band_from']:,}–{row['band_to'] - 1:,}"


def _few(summary: Summary) -> list[str]:
    if summary.documents >= FEWEST_DOCUMENTS:
        return []
    return [f"{counted(summary.documents, 'document')}: an interval needs {FEWEST_DOCUMENTS}"]
