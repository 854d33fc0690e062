"""Suffix identification in words: a sentence, what it rests on, and a table by prefix."""

from typing import Any

import numpy as np
import pandas as pd

from probe.analysis.suffix import SuffixAnswer
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.text import counted, printable, signed

MARGIN = (
    "margin: mean loss of the best distractor less that of the gold continuation (nats a token);"
    " below 0 the model prefers another text"
)


def answer(found: SuffixAnswer) -> str:
    """The whole answer as plain text: sentence, basis, table, notes.

    Args:
        found: What :func:`probe.analysis.suffix.suffix` gives.

    Returns:
        Several lines, without a newline at the end.
    """
    parts = [f"{sentence(found)}\n{basis(found)}"]
    if len(found.table):
        lines = [headers(found), *cells(found)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        parts.append("\n".join("  ".join(map(str.rjust, line, widths)) for line in lines))
    notes = [MARGIN, *found.run.warnings]
    return "\n\n".join([*parts, "\n".join(f"- {printable(note)}" for note in notes)])


def sentence(found: SuffixAnswer) -> str:
    """Accuracy behind the longest prefix with its interval, and what the prefix adds to it."""
    subject = f"{name(found, 'model')} on {name(found, 'data')}"
    if found.table.empty:
        return f"{subject}: no choice among candidates was scored."
    last, first = found.table.iloc[-1], found.table.iloc[0]
    text = (
        f"{subject} picks the gold continuation of {found.tokens:,} tokens among"
        f" {found.candidates} in {_share(last['accuracy'])} of windows after"
        f" {counted(int(last['prefix']), 'token')}"
        f" ({interval(found, last)}); chance is {_share(found.chance)}"
    )
    if found.gain is None:
        return f"{text}."
    gain, low, high = (signed(100 * value, 1) for value in found.gain)
    shortest = counted(int(first["prefix"]), "token")
    return f"{text}. That is {gain} points ({low} to {high}) against {shortest}."


def basis(found: SuffixAnswer) -> str:
    """What the answer rests on, and where the other candidates come from."""
    windows, documents = counted(found.windows, "window"), counted(found.documents, "document")
    at = found.run.record["config"]["protocol"].get("at")
    where = "elsewhere in the same document" if at is None else "other matches in the same document"
    return f"Measured on {windows} of {documents}; the other candidates are from {where}."


def headers(found: SuffixAnswer) -> list[str]:
    """Headers of the table."""
    level = f"{found.analysis.confidence * 100:g} % interval"
    return ["prefix", "accuracy", level, "margin", level, "windows", "documents"]


def cells(found: SuffixAnswer) -> list[list[str]]:
    """The table as text, one row a prefix."""
    rows = []
    for row in found.table.to_dict("records"):
        margins = _between(row["margin_low"], row["margin_high"], "{:+.3f}")
        accuracies = _between(100 * row["low"], 100 * row["high"], "{:.1f}")
        accuracy, margin = _share(row["accuracy"]), signed(row["margin"], 3)
        counts = [f"{row['windows']:,}", f"{row['documents']:,}"]
        rows.append([f"{row['prefix']:,}", accuracy, accuracies, margin, margins, *counts])
    return rows


def interval(found: SuffixAnswer, row: "pd.Series[Any]") -> str:
    """The interval of an accuracy in words."""
    if np.isnan(row["low"]):
        few = f"{counted(int(row['documents']), 'document')}, at least {FEWEST_DOCUMENTS} needed"
        return f"interval unresolved: {few}"
    level = f"{found.analysis.confidence * 100:g} % interval"
    return f"{level} {100 * row['low']:.1f}–{_share(row['high'])}"


def name(found: SuffixAnswer, part: str) -> str:
    """The name of the model or the data to show; what a terminal would obey is escaped."""
    told = str((found.run.record.get(part) or {}).get("name") or f"the {part}")
    return printable(told)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _between(low: float, high: float, form: str) -> str:
    if np.isnan(low) or np.isnan(high):
        return "–"
    return f"{form.format(low)} to {form.format(high)}".replace("-", "−")
