"""Runs as rows of one table: models × data × revisions, with their effective contexts."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from probe.analysis.answer import in_order, short
from probe.analysis.compare.text import bits_per_byte
from probe.analysis.summary import Summary, summarise
from probe.results.folder import unique_labels

COLUMNS = (
    "run",
    "model",
    "revision",
    "dtype",
    "attention",
    "data",
    "documents",
    "windows",
    "targets",
    "loss",
    "perplexity",
    "bits_per_byte",
    "condition",
)
"""Columns in front of the tolerances: loss is the intact one (nats a token)."""


def run_table(paths: Sequence[str | Path]) -> pd.DataFrame:
    """One row a run: what it is, its intact loss, its effective contexts.

    Args:
        paths: Run folders.

    Returns:
        What :func:`summary_table` gives.

    Raises:
        ProbeError: If a folder cannot be read.
        UsageError: If a tolerance is not understood or cannot be formed from a run.
    """
    return summary_table([summarise(path, write=False) for path in paths])


def summary_table(summaries: Sequence[Summary]) -> pd.DataFrame:
    """One row a summary; the lengths are those of ``truncate``.

    Where no run has ``truncate``, they are those of the first condition that most runs have.

    Args:
        summaries: What :func:`probe.analysis.summary.summarise` gives.

    Returns:
        The columns ``COLUMNS``, and for each tolerance ``1%`` (the answer in words) with
        ``1% length, 1% low, 1% high`` (tokens, missing beyond reach or where unresolved).
    """
    condition = _condition(summaries)
    names = unique_labels([summary.run for summary in summaries])
    rows = []
    for summary, name in zip(summaries, names, strict=True):
        record = summary.run.record.get("model") or {}
        losses = summary.losses.by_condition
        intact = losses.loc[losses["condition"] == "intact", "loss"]
        loss = float(intact.iloc[0]) if len(intact) else np.nan
        row: dict[str, object] = {
            "run": name,
            "model": summary.model,
            "revision": _short(record.get("revision")),
            "dtype": str(record.get("dtype") or "–"),
            "attention": _attention(summary),
            "data": summary.data,
            "documents": summary.documents,
            "windows": summary.windows,
            "targets": summary.targets,
            "loss": loss,
            "perplexity": math.exp(loss),
            "bits_per_byte": bits_per_byte(summary.run),
            "condition": condition,
        }
        rows.append(row | _answers(summary, condition))
    tolerances = dict.fromkeys(
        tolerance.text for summary in summaries for tolerance in summary.analysis.tolerances
    )
    ends = ("", " length", " low", " high")
    columns = [*COLUMNS, *(f"{text}{end}" for text in tolerances for end in ends)]
    frame = pd.DataFrame(rows, columns=columns)
    whole = [f"{text}{end}" for text in tolerances for end in ends[1:]]
    frame = frame.astype(dict.fromkeys(whole, "Int64") | {"bits_per_byte": "float64"})
    frame[list(tolerances)] = frame[list(tolerances)].fillna("–")
    return frame


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: words and rounded numbers, no limits of their own.

    The attention is told where it is not that of every run.
    """
    texts = [name for name in table.columns if f"{name} length" in table.columns]
    same = table["attention"].nunique() < 2
    kept = table[[*(name for name in COLUMNS if name != "attention" or not same), *texts]].copy()
    for name, form in (("loss", "{:.4f}"), ("perplexity", "{:.2f}"), ("bits_per_byte", "{:.4f}")):
        kept[name] = [form.format(value) if value == value else "–" for value in table[name]]
    for name in ("documents", "windows", "targets"):
        kept[name] = [f"{value:,}" for value in table[name]]
    return kept.rename(columns={"bits_per_byte": "bits per byte"}).astype(str)


def _answers(summary: Summary, condition: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for tolerance in summary.analysis.tolerances:
        context = summary.context(condition, tolerance.text)
        found[tolerance.text] = short(context)
        if context is not None:
            for name, tokens in zip(("length", "low", "high"), context.lengths, strict=True):
                found[f"{tolerance.text} {name}"] = tokens
    return found


def _attention(summary: Summary) -> str:
    """The attention that the configuration names, ``–`` where it names none."""
    config = summary.run.record.get("config") or {}
    return str((config.get("model") or {}).get("attention") or "–")


def _condition(summaries: Sequence[Summary]) -> str:
    every = [context.condition for summary in summaries for context in summary.contexts]
    ordered = in_order(every)
    if not ordered or "truncate" in ordered:
        return "truncate"
    having = {
        name: sum(any(context.condition == name for context in s.contexts) for s in summaries)
        for name in ordered
    }
    return max(ordered, key=having.__getitem__)


def _short(revision: object) -> str:
    """A revision short enough for a table: eight digits of a hash, else the name itself."""
    text = str(revision or "–")
    return text[:8] if re.fullmatch(r"[0-9a-f]{12,}", text) else text
