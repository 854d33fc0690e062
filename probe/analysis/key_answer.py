"""LongPPL in words: a sentence, what it rests on, the table of LSD, and what limits them."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from probe.analysis.keys import KeyRule, Span
from probe.analysis.longppl import LongPPL
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.results.files import write_text
from probe.results.folder import RunFolder
from probe.text import aligned, counted, printable, signed

BIAS = (
    "the scored model has chosen its own key tokens: LCL > {lcl:g} keeps those that it predicts"
    " well, and this selection makes the value too low; to compare models, choose the keys with"
    " one and score the others on them (probe keys RUN --score OTHER)"
)


def answer(found: LongPPL) -> str:
    """The whole answer as plain text: sentence, basis, table of LSD, notes.

    Args:
        found: What :func:`probe.analysis.longppl.longppl` gives.

    Returns:
        Several lines, without a newline at the end.
    """
    notes = [BIAS.format(lcl=found.rule.lcl)] if found.same and found.keys else []
    notes += map(printable, found.warnings)
    parts = [f"{sentence(found)}\n{basis(found)}", table(found.by_distance, found.rule)]
    return "\n\n".join([*parts, *(["\n".join(f"- {note}" for note in notes)] if notes else [])])


def sentence(found: LongPPL) -> str:
    """LongPPL with its interval in one sentence."""
    subject = f"LongPPL of {_name(found.scored, 'model')} on {_name(found.scored, 'data')}"
    if found.perplexity is None:
        return f"{subject} has no value: no token is key ({_rule(found.rule)})."
    value = f"{subject} is {found.perplexity:.2f}"
    if found.interval is None:
        few = f"{counted(found.with_keys, 'document')} with key tokens"
        return f"{value} (interval unresolved: {few}, at least {FEWEST_DOCUMENTS} needed)."
    low, high = found.interval
    return f"{value} ({found.confidence * 100:g} % interval {low:.2f}–{high:.2f})."


def basis(found: LongPPL) -> str:
    """Number and share of the key tokens, who chose them, and the perplexity of all tokens."""
    protocol = found.evaluator.record["config"]["protocol"]
    context, stride = int(protocol["context"]), int(protocol["stride"])
    share = f"{100 * found.keys / max(1, found.targets):.2f} %"
    own = found.scored is found.evaluator
    what = f"the {found.targets:,} tokens behind the first {context:,}"
    chosen = ""
    if not own:
        what = f"all {found.targets:,} tokens"
        chosen = (
            f", carried over from {found.chosen:,} of {_name(found.evaluator, 'model')}"
            f" (run '{printable(found.evaluator.name)}')"
        )
    return (
        f"{counted(found.keys, 'key token')}{chosen}: {share} of {what} of"
        f" {counted(found.documents, 'document')} ({_rule(found.rule)}; short contexts of"
        f" {context:,} to {context + stride - 1:,} tokens). Perplexity of all tokens:"
        f" {math.exp(found.all_loss):,.2f}."
    )


def table(by_distance: pd.DataFrame, rule: KeyRule) -> str:
    """LSD by distance as plain text, nats; empty where nothing was cut off."""
    if by_distance.empty:
        return "LSD: no short context was cut off, every document is too short."
    quantiles = [name for name in by_distance.columns if name.startswith("q")]
    names = ["median" if name == "q50" else f"{int(name[1:])} %" for name in quantiles]
    lines = [["distance", "mean", *names, f"LSD > {rule.lsd:g}", "key", "targets"]]
    for row in by_distance.to_dict("records"):
        numbers = (signed(row[name], 3) for name in ["mean", *quantiles])
        shares = (f"{row[name]:.2%}" for name in ["above", "key"])
        distances = f"{row['distance_from']:,}–{row['distance_to'] - 1:,}"
        lines.append([distances, *numbers, *shares, f"{row['targets']:,}"])
    head = "LSD, loss in the short context less that in the whole text (nats)"
    return f"{head}\n{aligned(lines, numbers=True)}"


def to_record(found: LongPPL, spans: Iterable[Span] | None = None) -> dict[str, Any]:
    """The same as plain values, for a file.

    Args:
        found: The answer.
        spans: Spans of the evaluator's key tokens, to be among them.
    """
    protocol = found.evaluator.record["config"]["protocol"]
    record: dict[str, Any] = {
        "evaluator": {"run": found.evaluator.name, "model": _name(found.evaluator, "model")},
        "scored": {"run": found.scored.name, "model": _name(found.scored, "model")},
        "same_model": found.same,
        "lsd_above": found.rule.lsd,
        "lcl_above": found.rule.lcl,
        "context": protocol["context"],
        "stride": protocol["stride"],
        "first_token": found.evaluator.record["config"].get("first_token"),
        "longppl": found.perplexity,
        "interval": found.interval,
        "confidence": found.confidence,
        "loss": found.loss,
        "loss_of_all_tokens": found.all_loss,
        "keys": found.keys,
        "targets": found.targets,
        "documents": found.documents,
        "documents_with_keys": found.with_keys,
        "lsd_by_distance": json.loads(found.by_distance.to_json(orient="records")),
        "warnings": found.warnings,
    }
    return record if spans is None else {**record, "spans": [vars(span) for span in spans]}


def as_json(found: LongPPL, spans: Iterable[Span] | None = None) -> str:
    """What :func:`to_record` gives, as the text of a JSON file."""
    text = json.dumps(to_record(found, spans), indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n"


def write_answer(path: Path, found: LongPPL, spans: Iterable[Span] | None = None) -> None:
    """Write :func:`to_record` into a JSON file of a run folder, whole or not at all."""
    write_text(path, as_json(found, spans))


def _rule(rule: KeyRule) -> str:
    return f"LSD > {rule.lsd:g}, LCL > {rule.lcl:g}"


def _name(run: RunFolder, part: str) -> str:
    """A name to show; what a terminal would obey is escaped."""
    name = run.model if part == "model" else run.data
    return printable(name)
