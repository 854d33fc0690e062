"""Curves, effective contexts and tables by token class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.effective import EffectiveContext
from probe.analysis.opened import Opened
from probe.analysis.sums import stacked
from probe.classes.class_sums import (
    attach,
    boundary_sums,
    class_counts,
    class_sums,
    measured_bins,
)
from probe.classes.reading import Reading
from probe.classes.table import ClassTable

MOST_VALUES = 30
"""Values of a class that get curves: those with most targets."""

CONTEXTS = (
    "class",
    "value",
    "condition",
    "tolerance",
    "kind",
    "length",
    "low",
    "high",
    "text",
    "targets",
    "documents",
    "reasons",
    "flags",
)
CURVES = (
    "class",
    "value",
    "condition",
    "distance_from",
    "distance_to",
    "delta",
    "low",
    "high",
    "fit",
    "targets",
    "documents",
)


@dataclass(frozen=True, eq=False)
class ClassFindings:
    """What is said of the token classes of a run; distances in tokens, deltas in nats a token.

    Args:
        curves: Delta by class, value, condition and bin, columns ``CURVES``; limits are missing
            in bins with fewer than six documents.
        contexts: Effective contexts, columns ``CONTEXTS``: ``kind`` and ``text`` as in
            :class:`probe.analysis.effective.EffectiveContext`; ``length`` the estimate, ``low`` and
            ``high`` its limits (a missing one is beyond reach, all are missing if unresolved).
        counts: ``class, value, targets, share, documents``; every scored target once.
        occurrences: Delta by octave and by where the target's token last stood relative to the
            boundary: ``condition, distance_from, distance_to, where, delta, low, high, targets,
            documents``. Its members change along the curve, so it gives no length.
        copies: The same by where the longest copied context stands.
        notes: What a reader should know, one line each.
    """

    curves: pd.DataFrame
    contexts: pd.DataFrame
    counts: pd.DataFrame
    occurrences: pd.DataFrame
    copies: pd.DataFrame
    notes: tuple[str, ...]


def class_findings(run: Opened, table: ClassTable) -> ClassFindings:
    """Curves and answers of each value of each class; the noise control has none.

    Args:
        run: The open run; the view ``classes`` is added to its connection.
        table: From :func:`probe.classes.table.classify`.

    Returns:
        The findings.
    """
    connection = run.connection
    attach(connection, table)
    reading = Reading(run)
    counts = class_counts(connection, table.classes)
    sums = class_sums(connection, table.classes, run.edges, run.starts)
    measured = measured_bins(connection, run.edges, run.starts)
    curves, contexts = _by_value(counts, sums, measured, reading)
    placed = {
        column: reading.placed(boundary_sums(connection, column, run.reach, run.starts))
        for column in ("last_occurrence_distance", "copy_distance")
    }
    return ClassFindings(
        curves,
        contexts,
        counts,
        placed["last_occurrence_distance"],
        placed["copy_distance"],
        (*table.notes, *_notes(table.classes, counts, connection)),
    )


def _by_value(
    counts: pd.DataFrame,
    sums: pd.DataFrame,
    measured: Mapping[str, NDArray[np.int64]],
    reading: Reading,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves and contexts of the values with most targets of each class."""
    parts = dict(iter(sums.groupby(["class", "value", "condition"])))
    by_class = counts.sort_values("targets", ascending=False, kind="stable").groupby("class")
    kept = counts[counts.index.isin(by_class.head(MOST_VALUES).index)]
    curves, answers = [], []
    for text, value in zip(kept["class"], kept["value"], strict=True):
        for condition, bins in measured.items():
            rows = parts.get((text, value, condition), sums.iloc[:0])
            curve, contexts = reading.read(condition, rows, bins)
            if len(curve):
                curves.append(curve.assign(**{"class": text, "value": value}))
            answers += [_record(text, value, context) for context in contexts]
    frame = stacked(curves, CURVES)
    whole = dict.fromkeys(["length", "low", "high"], "Int64")
    return frame[[*CURVES]], pd.DataFrame(answers, columns=[*CONTEXTS]).astype(whole)


def _record(text: str, value: str, context: EffectiveContext) -> dict[str, object]:
    length, low, high = context.lengths
    return {
        "class": text,
        "value": value,
        "condition": context.condition,
        "tolerance": context.tolerance,
        "kind": context.kind,
        "length": length,
        "low": low,
        "high": high,
        "text": context.text(),
        "targets": context.targets,
        "documents": context.documents,
        "reasons": "; ".join(context.reasons),
        "flags": "; ".join(context.flags),
    }


def _notes(
    classes: Sequence[str], counts: pd.DataFrame, connection: duckdb.DuckDBPyConnection
) -> list[str]:
    """Classes without any member, and those with more values than are read."""
    texts = connection.execute("SELECT count(text) FROM windows").fetchall()[0][0]
    reason = "" if texts else ": the windows have no text"
    lines = []
    for text in classes:
        values = int((counts["class"] == text).sum())
        if not values:
            lines.append(f"token class {text} has no member{reason}")
        elif values > MOST_VALUES:
            lines.append(
                f"token class {text} has {values} values: curves of the {MOST_VALUES} with most"
                " targets"
            )
    return lines
