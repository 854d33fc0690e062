"""Dense context probing in words: a sentence, loss and KL by context length, the lengths."""

import numpy as np
import pandas as pd

from probe.analysis.answer import counts, sentence, short
from probe.analysis.lengths import KL, Lengths
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.text import counted, printable


def answer(found: Lengths) -> str:
    """The whole answer as plain text.

    Args:
        found: What :func:`probe.analysis.lengths.lengths` gives.

    Returns:
        Several lines, without a newline at the end.
    """
    summary = found.summary
    head = [
        sentence(summary),
        f"Measured on {', '.join(counts(summary))}, each at every context length from 1 to "
        f"{found.context:,} tokens; compared with the longest.",
    ]
    notes = [f"- {printable(line)}" for line in _notes(found)]
    parts = ["\n".join(head), loss_by_length(found), tolerated(found), "\n".join(notes)]
    return "\n\n".join(part for part in parts if part)


def loss_by_length(found: Lengths) -> str:
    """Loss and KL at 0, 1, 2, 4, … and the longest context, as plain text; nats a token."""
    powers = [1 << power for power in range(found.context.bit_length())]
    shown = found.table.set_index("context").loc[[0, *dict.fromkeys([*powers, found.context])]]
    rows = [["context", "loss", KL]]
    for length, row in shown.iterrows():
        name = "0 (unigram)" if length == 0 else f"{length:,}"
        rows.append([name, _value(row, "nll"), _value(row, "kl")])
    return _aligned(rows)


def tolerated(found: Lengths) -> str:
    """Smallest lengths from which delta, and KL, stay below each tolerance, as plain text."""
    summary = found.summary
    tolerances = [tolerance.text for tolerance in summary.analysis.tolerances]
    kinds = {"delta": summary.contexts, KL: found.kl_contexts}
    rows = [["below the tolerance from", *tolerances]]
    for name, contexts in kinds.items():
        by_tolerance = {context.tolerance: context for context in contexts}
        if by_tolerance:
            rows.append([name, *(short(by_tolerance.get(text)) for text in tolerances)])
    return _aligned(rows) if len(rows) > 1 else ""


def _notes(found: Lengths) -> list[str]:
    summary = found.summary
    lines = []
    if summary.documents < FEWEST_DOCUMENTS:
        few = counted(summary.documents, "document")
        lines.append(f"{few}: an interval needs {FEWEST_DOCUMENTS}")
    for name, contexts in {"delta": summary.contexts, KL: found.kl_contexts}.items():
        reasons = dict.fromkeys(reason for context in contexts for reason in context.reasons)
        lines += [f"{name} has an unresolved length: {reason}" for reason in reasons]
    lines += [flag for flag in summary.flags if not flag.startswith("no noise floor")]
    if found.table["nll"].isna().any():
        lines.append("no unigram estimate: frequencies.parquet is missing or cannot be read")
    return [*lines, *(line for line in summary.warnings if not line.startswith("no contrast"))]


def _value(row: pd.Series, name: str) -> str:
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if np.isnan(value):
        return "–"
    return f"{value:.4f}" if np.isnan(low) else f"{value:.4f} ({low:.4f}–{high:.4f})"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
