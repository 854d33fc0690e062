"""Two runs of protocol suffix: by how much one picks the gold continuation more often."""

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from probe.analysis.open_run import OpenRun
from probe.analysis.sums import Sums, stacked
from probe.findings.compare.differences import VALUES, Draws, PairSums, Unit, difference_rows
from probe.findings.compare.pair import SIDES
from probe.findings.suffix import Suffixes, suffixes
from probe.findings.table import Table, records
from probe.text import counted, difference

COLUMNS = ("prefix", *VALUES)
"""Columns of the differences: the prefix in tokens, accuracies as shares, targets are windows."""
_KEYS = ["document", "window", "prefix"]


def are_choices(runs: Sequence[OpenRun]) -> bool:
    """Whether all runs let a model choose among continuations."""
    return all(run.is_answered_by("suffix") for run in runs)


def other_choice(runs: Sequence[OpenRun]) -> str:
    """Why the accuracies of two runs are no answers to one question; empty where they are."""
    choices = [run.once(suffixes) for run in runs]
    if len({(one.candidates, one.tokens) for one in choices}) == 1:
        return ""
    a, b = map(_task, choices)
    return f"A chooses among {a}; B among {b}"


def accuracy_rows(
    connection: duckdb.DuckDBPyConnection,
    runs: Sequence[OpenRun],
    draws: Draws,
    confidence: float,
) -> pd.DataFrame:
    """The difference B − A of accuracies after each prefix that both runs have.

    Args:
        connection: With the tables of :func:`probe.findings.compare.pair.pairing`.
        runs: Both runs, with protocol suffix.
        draws: Draws of the documents; of paired ``windows`` the choices in the same windows are
            compared.
        confidence: Confidence of the intervals, which have no width where no document differs from
            another.

    Returns:
        One row a prefix, columns :data:`COLUMNS`; none where the choices are other ones.
    """
    nothing = stacked([], COLUMNS)
    if other_choice(runs):
        return nothing
    a, b = (
        run.once(suffixes).choices.merge(
            connection.execute(f'SELECT document, "window" FROM {side}_places').df(),
            on=["document", "window"],
        )
        for side, run in zip(SIDES, runs, strict=True)
    )
    if draws.pairing == "windows":
        a, b = a.merge(b[_KEYS], on=_KEYS), b.merge(a[_KEYS], on=_KEYS)
    prefixes = np.intersect1d(a["prefix"], b["prefix"])
    if not len(prefixes):
        return nothing
    first, second = (
        _sums(choices, documents, prefixes)
        for choices, documents in zip((a, b), draws.documents, strict=True)
    )
    windows = np.minimum(first.targets.sum(axis=0), second.targets.sum(axis=0))
    pair = PairSums("truncate", Unit("tokens"), draws, first, second, windows.astype(np.int64))
    rows = difference_rows(pair, confidence)
    return rows.rename(columns={"distance_from": "prefix"})[[*COLUMNS]]


def accuracy_table(rows: pd.DataFrame) -> Table:
    """How often the gold continuation is picked, prefix by prefix.

    Args:
        rows: Rows of :func:`accuracy_rows`.
    """
    cells = [
        [f"{row['prefix']:,}", share(row["a"]), share(row["b"]), _difference(in_points(row))]
        for row in records(rows)
    ]
    caption = "Gold continuation picked; B − A in percentage points"
    return Table(caption, ["prefix (tokens)", "A", "B", "B − A"], cells, shown="terminal")


def in_points(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its difference and limits in percentage points."""
    points = {name: 100 * float(row[name]) for name in ("difference", "low", "high")}
    return {**row, **points}


def share(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f} %"


def _difference(row: Mapping[str, Any]) -> str:
    return difference(row["difference"], row["low"], row["high"], 1)


def _task(choices: Suffixes) -> str:
    """What a model chooses among, and how often it is right after the longest prefix."""
    text = f"{choices.candidates} continuations of {counted(choices.tokens, 'token')}"
    for row in records(choices.table.tail(1)):
        after = counted(int(row["prefix"]), "token")
        text += f" ({share(row['accuracy'])} correct after {after}, chance {share(row['chance'])})"
    return text


def _sums(choices: pd.DataFrame, documents: Sequence[str], prefixes: np.ndarray) -> Sums:
    """Right choices and all, by document and prefix; a prefix stands for a bin of distances."""
    hits, trials = (
        choices.pivot_table("correct", "document", "prefix", aggfunc=how, fill_value=0)
        .reindex(index=list(documents), columns=prefixes, fill_value=0)
        .to_numpy(np.float64)
        for how in ("sum", "count")
    )
    return Sums(prefixes, prefixes + 1, hits, trials)
