"""LongPPL on the page: its value, who chose the key tokens, and LSD by distance."""

from collections.abc import Sequence
from typing import Any

from probe.analysis.key_answer import BIAS, basis, sentence
from probe.analysis.keys import KeyRule
from probe.analysis.longppl import LongPPL, is_longppl, longppl
from probe.analysis.record import records
from probe.analysis.summary import Summary
from probe.errors import ProbeError
from probe.report.explained import Explained, Section, Table, between, decimals

NOTHING_CUT = "LSD: no short context was cut off, every document is too short."


def key_section(explained: Explained, others: Sequence[Summary] = ()) -> Section | None:
    """The answer of a run with protocol longppl, ``None`` for every other run.

    Args:
        explained: The run.
        others: Runs on the same page: those of protocol longppl give it their key tokens too.

    Raises:
        ProbeError: If its scores cannot be read.
    """
    summary = explained.summary
    if not is_longppl(summary.run.record):
        return None
    own = longppl(summary.run.path, analysis=summary.analysis)
    carried, refused = _carried(summary, others)
    tables = [_choosers([own, *carried])]
    notes = [basis(own)]
    if own.by_distance.empty:
        notes.append(NOTHING_CUT)
    else:
        tables.append(_by_distance(own))
    if own.keys:
        notes.append(BIAS.format(lcl=own.rule.lcl))
    notes += own.warnings
    for found in carried:
        notes += [basis(found), *(line for line in found.warnings if line not in notes)]
    notes += [*refused, *(str(note) for note in getattr(explained, "notes", None) or ())]
    return Section("answer", "The answer", sentence(own), [], tables, notes)


def rule_text(rule: KeyRule) -> str:
    """Which tokens are key, with real minus signs."""
    return f"LSD > {_number(rule.lsd)}, LCL > {_number(rule.lcl)}"


def key_text(rule: KeyRule, lsd: float, nll: float) -> str | None:
    """What a key token says of itself, ``None`` for a token that is not key.

    Args:
        rule: Which tokens are key.
        lsd: Its loss in the short context less that in the whole text (nats).
        nll: Its loss in the whole text (nats).
    """
    if not (lsd > rule.lsd and -nll > rule.lcl):
        return None
    return f"Key token: LSD {decimals(lsd)}, LCL {decimals(-nll)} nats"


def chooser(summary: Summary) -> str:
    """Who has chosen key tokens: the model, and the run by name."""
    return f"{summary.model} (run {summary.run.name})"


def _carried(summary: Summary, others: Sequence[Summary]) -> tuple[list[LongPPL], list[str]]:
    """LongPPL with the key tokens of other runs, and why those of some cannot be used."""
    found, refused = [], []
    for other in others:
        if other.run.path == summary.run.path or not is_longppl(other.run.record):
            continue
        try:
            carried = longppl(other.run.path, scored=summary.run.path, analysis=summary.analysis)
        except ProbeError as error:
            refused.append(f"key tokens of {chooser(other)} cannot be carried over: {error}")
        else:
            found.append(carried)
    return found, refused


def _choosers(every: Sequence[LongPPL]) -> Table:
    """One row for each run that has chosen key tokens."""
    level = f"{every[0].confidence * 100:g} % interval"
    headers = ["key tokens chosen by", "LongPPL", level, "key tokens", "of tokens", "documents"]
    rows = []
    for found in every:
        own = found.scored is found.evaluator
        interval = (
            "unresolved" if found.interval is None else "{:.2f}–{:.2f}".format(*found.interval)
        )
        if found.perplexity is None:
            interval = "–"
        model = (found.evaluator.record.get("model") or {}).get("name") or "the model"
        rows.append(
            [
                f"{model}, run {found.evaluator.name}" + (" (this run)" if own else ""),
                decimals(found.perplexity, 2),
                interval,
                f"{found.keys:,}",
                f"{found.targets:,}",
                f"{found.with_keys:,} of {found.documents:,}",
            ]
        )
    return Table("LongPPL, and who chose the key tokens", headers, rows)


def _by_distance(found: LongPPL) -> Table:
    names = [name for name in found.by_distance.columns if name.startswith("q")]
    headers = ["distance", "mean", *map(_quantile, names), f"LSD > {_number(found.rule.lsd)}"]
    headers += ["key", "targets", "documents"]
    caption = (
        "LSD, loss in the short context less that in the whole text (nats), by distance (tokens)"
    )
    rows = [_bin(row, names) for row in records(found.by_distance)]
    return Table(caption, headers, rows)


def _bin(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    values = [decimals(row[name]) for name in ("mean", *names)]
    shares = [f"{row[name] * 100:.2f} %" for name in ("above", "key")]
    return [between(row), *values, *shares, f"{row['targets']:,}", f"{row['documents']:,}"]


def _quantile(name: str) -> str:
    return "median" if name == "q50" else f"{int(name[1:])} %"


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")
