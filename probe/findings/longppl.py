"""LongPPL: the perplexity of the tokens that a long context helps (Fang et al. 2025)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from probe.analysis.open_run import OpenRun
from probe.analysis.sums import delta_table
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.errors import ProbeError, UsageError
from probe.findings.base import Finding, Marks, register
from probe.findings.key_tokens import QUANTILE_NAMES, KeyRule, Span, lsd_table, transfer
from probe.findings.table import Table, decimals, records
from probe.text import counted, json_text, printable, signed

BIAS = (
    "the scored model has chosen its own key tokens: LCL > {lcl} selects those that it"
    " predicts well, which biases the value downwards; to compare models, choose the keys with"
    " one and score the others on them (probe keys RUN --score OTHER)"
)
NOTHING_CUT = "LSD: no short context was cut off, every document is too short."


@dataclass(frozen=True, eq=False)
class LongPPL:
    """What the key tokens of a run say; losses in nats per token.

    Args:
        evaluator: The run that chose the key tokens.
        scored: The run whose losses they have; the same, or another.
        same: Whether both are of one model.
        rule: Which tokens are key.
        loss: Mean loss of the key tokens of all documents; ``None`` without any.
        interval: Of LongPPL, ``None`` where it is unresolved.
        keys: Key tokens of the scored run.
        targets: Tokens that could have been key: of one run, its targets in short contexts; of
            another run, all its tokens.
        chosen: Key tokens of the evaluator.
        documents: Documents of both runs.
        with_keys: Documents with a key token: the interval resamples documents.
        all_loss: Mean loss of all tokens of the scored run in these documents.
        by_distance: LSD of the evaluator by distance, columns
            :data:`probe.findings.key_tokens.LSD_COLUMNS`.
        warnings: What is missing, one line each.
    """

    evaluator: OpenRun
    scored: OpenRun
    same: bool
    rule: KeyRule
    loss: float | None
    interval: tuple[float, float] | None
    keys: int
    targets: int
    chosen: int
    documents: int
    with_keys: int
    all_loss: float
    by_distance: pd.DataFrame
    warnings: tuple[str, ...]

    @property
    def perplexity(self) -> float | None:
        """LongPPL itself: exp of the mean loss of the key tokens."""
        return None if self.loss is None else math.exp(self.loss)


@register("longppl", order=10, level="answer")
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding | None:
    """The answer of a run whose short context slides over whole documents.

    Args:
        run: The open run.
        others: Runs that are told of with it: those of the same protocol give it their key tokens.
    """
    if not run.is_answered_by("longppl"):
        return None
    result = longppl(run)
    transferred, refused = _transferred(run, others)
    told = alone(result)
    caveats = list(told.caveats)
    for other in transferred:
        caveats += [basis(other), *(line for line in other.warnings if line not in caveats)]
    return replace(
        told,
        tables=[_choosers([result, *transferred]), *told.tables],
        caveats=[*caveats, *refused],
        # Counts and losses stand in summary.json as well.
        files={"longppl.json": to_record(result), "summary.json": {}},
        marks=_marks(run, result.rule),
    )


def longppl(run: OpenRun, *, scored: OpenRun | None = None, rule: KeyRule | None = None) -> LongPPL:
    """LongPPL of a run, with keys chosen by the run itself or by another one.

    The losses of the key tokens of all documents are pooled; the interval draws documents again,
    forms the same ratio of sums, and is stretched for few documents like every other one.

    Args:
        run: The run that chooses the key tokens, of protocol ``longppl``.
        scored: The run whose losses they get, over the same documents; the same by default. Its
            resamples, seed and confidence are used.
        rule: Which tokens are key, ``LSD > 2`` and ``LCL > -2`` by default.

    Raises:
        UsageError: If a run has another protocol.
        ProbeError: If the runs have no document in common.

    Source: Fang et al. 2025, "What is Wrong with Perplexity for Long-context Language Modeling?",
        arXiv:2410.23771: LongPPL of one text; here the key tokens of all documents are pooled.
    """
    other = run if scored is None else scored
    for one in (run, other):
        if not one.is_answered_by("longppl"):
            raise UsageError(
                f"run '{one.path}' has protocol {one.folder.kind!r}; allowed for LongPPL: longppl, "
                "whole documents and their short contexts"
            )
    rule = rule or KeyRule()
    by_distance = lsd_table(run, rule)  # makes the view of the key tokens, too
    chosen = _sums(run)
    sums, warnings = (chosen, []) if scored is None else transfer(run, other)
    # The key tokens of all documents are one group.
    pooled = sums.assign(delta_sum=sums["key_sum"], targets=sums["keys"], key=True)
    loss, *limits = delta_table(pooled, ["key"], other.analysis)[["delta", "low", "high"]].iloc[0]
    return LongPPL(
        evaluator=run,
        scored=other,
        same=_model(run) == _model(other),
        rule=rule,
        loss=None if math.isnan(loss) else float(loss),
        interval=None if math.isnan(limits[0]) else (math.exp(limits[0]), math.exp(limits[1])),
        keys=int(sums["keys"].sum()),
        targets=int(sums["targets"].sum()),
        chosen=int(chosen["keys"].sum()),
        documents=len(sums),
        with_keys=int((sums["keys"] > 0).sum()),
        all_loss=float(sums["all_sum"].sum() / max(1, sums["all_tokens"].sum())),
        by_distance=by_distance,
        warnings=tuple(dict.fromkeys([*run.warnings, *other.warnings, *warnings])),
    )


def sentence(result: LongPPL) -> str:
    """LongPPL with its interval in one sentence."""
    subject = f"LongPPL of {printable(result.scored.model)} on {printable(result.scored.data)}"
    if result.perplexity is None:
        return f"{subject} is undefined: no token is a key token ({_rule(result.rule)})."
    value = f"{subject} is {result.perplexity:.2f}"
    if result.interval is None:
        few = f"{counted(result.with_keys, 'document')} with key tokens"
        return f"{value} (interval unresolved: {few}, at least {FEWEST_DOCUMENTS} needed)."
    low, high = result.interval
    return f"{value} ({_level(result)} {low:.2f} to {high:.2f})."


def basis(result: LongPPL) -> str:
    """Number and share of the key tokens, who chose them, and the perplexity of all tokens."""
    protocol = result.evaluator.record["config"]["protocol"]
    context, stride = int(protocol["context"]), int(protocol["stride"])
    share = f"{100 * result.keys / max(1, result.targets):.2f} %"
    what = f"the {result.targets:,} tokens behind the first {context:,}"
    chosen = ""
    if result.scored is not result.evaluator:
        what = f"all {result.targets:,} tokens"
        chosen = (
            f", transferred from {result.chosen:,} of {printable(result.evaluator.model)}"
            f" (run '{printable(result.evaluator.name)}')"
        )
    return (
        f"{counted(result.keys, 'key token')}{chosen}: {share} of {what} of"
        f" {counted(result.documents, 'document')} ({_rule(result.rule)}; short contexts of"
        f" {context:,} to {context + stride - 1:,} tokens). Perplexity of all tokens:"
        f" {math.exp(result.all_loss):,.2f}."
    )


def alone(result: LongPPL) -> Finding:
    """LongPPL as a finding by itself, without the key tokens of other runs.

    Args:
        result: The answer.
    """
    some = len(result.by_distance) > 0
    biased = result.same and result.keys
    return Finding(
        "answer",
        "The answer",
        sentence(result),
        basis(result),
        tables=[lsd_lines(result.by_distance, result.rule)] if some else [],
        caveats=[
            *([] if some else [NOTHING_CUT]),
            *([BIAS.format(lcl=f"{result.rule.lcl:g}".replace("-", "−"))] if biased else []),
            *result.warnings,
        ],
    )


def lsd_lines(by_distance: pd.DataFrame, rule: KeyRule) -> Table:
    """LSD by distance, nats.

    Args:
        by_distance: From :func:`probe.findings.key_tokens.lsd_table`.
        rule: Which tokens are key.
    """
    names = ["median" if name == "q50" else f"{int(name[1:])} %" for name in QUANTILE_NAMES]
    rows = []
    for row in by_distance.to_dict("records"):
        numbers = (signed(row[name], 3) for name in ["mean", *QUANTILE_NAMES])
        shares = (f"{100 * row[name]:.2f} %" for name in ["above", "key"])
        distances = f"{row['distance_from']:,}–{row['distance_to'] - 1:,}"
        rows.append([distances, *numbers, *shares, f"{row['targets']:,}"])
    return Table(
        "LSD, loss in the short context less that in the whole text (nats)",
        ["distance", "mean", *names, f"LSD > {rule.lsd:g}", "key", "targets"],
        rows,
        shown="both",
        numbers=True,
    )


def to_record(result: LongPPL) -> dict[str, Any]:
    """The same as plain values, for a file.

    Args:
        result: The answer.
    """
    protocol = result.evaluator.record["config"]["protocol"]
    return {
        "evaluator": {"run": result.evaluator.name, "model": printable(result.evaluator.model)},
        "scored": {"run": result.scored.name, "model": printable(result.scored.model)},
        "same_model": result.same,
        "lsd_above": result.rule.lsd,
        "lcl_above": result.rule.lcl,
        "context": protocol["context"],
        "stride": protocol["stride"],
        "first_token": result.evaluator.record["config"].get("first_token"),
        "longppl": result.perplexity,
        "interval": result.interval,
        "confidence": result.scored.analysis.confidence,
        "loss": result.loss,
        "loss_of_all_tokens": result.all_loss,
        "keys": result.keys,
        "targets": result.targets,
        "documents": result.documents,
        "documents_with_keys": result.with_keys,
        "lsd_by_distance": records(result.by_distance),
        "warnings": result.warnings,
    }


def as_json(result: LongPPL, spans: Iterable[Span]) -> str:
    """What :func:`to_record` gives with the key tokens, as the text of a JSON file.

    Args:
        result: The answer.
        spans: Spans of the evaluator's key tokens.
    """
    record = {**to_record(result), "spans": [vars(span) for span in spans]}
    return json_text(record)


def _marks(run: OpenRun, rule: KeyRule) -> Marks:
    """The key tokens for the token explorer; far text is as long as the document lets it."""

    def title(lsd: float, nll: float) -> str | None:
        if not (lsd > rule.lsd and -nll > rule.lcl):
            return None
        return f"Key token: LSD {decimals(lsd)}, LCL {decimals(-nll)} nats"

    words = f"{_rule(rule)}, chosen by {_chooser(run)}"
    return Marks(words, title, "far > 0")


def _chooser(run: OpenRun) -> str:
    """Who has chosen key tokens: the model, and the run by name."""
    return f"{run.model} (run {run.name})"


def _transferred(run: OpenRun, others: Sequence[OpenRun]) -> tuple[list[LongPPL], list[str]]:
    """LongPPL with the key tokens of other runs, and why those of some cannot be used."""
    results, refused = [], []
    for other in others:
        if other.path == run.path or not other.is_answered_by("longppl"):
            continue
        try:
            results.append(longppl(other, scored=run))
        except ProbeError as error:
            refused.append(f"key tokens of {_chooser(other)} cannot be transferred: {error}")
    return results, refused


def _choosers(every: Sequence[LongPPL]) -> Table:
    """One row for each run that has chosen key tokens."""
    level = _level(every[0])
    headers = ["key tokens chosen by", "LongPPL", level, "key tokens", "of tokens", "documents"]
    rows = []
    for result in every:
        interval = "unresolved"
        if result.interval is not None:
            interval = "{:.2f}–{:.2f}".format(*result.interval)
        rows.append(
            [
                f"{result.evaluator.model}, run {result.evaluator.name}"
                + (" (this run)" if result.scored is result.evaluator else ""),
                decimals(result.perplexity, 2),
                "–" if result.perplexity is None else interval,
                f"{result.keys:,}",
                f"{result.targets:,}",
                f"{result.with_keys:,} of {result.documents:,}",
            ]
        )
    return Table("LongPPL, by the run that chose the key tokens", headers, rows)


def _sums(run: OpenRun) -> pd.DataFrame:
    """By document: targets, keys and their loss, all tokens and theirs; one row each."""
    sums = run.connection.execute(
        """SELECT document, count(*) AS targets, count(*) FILTER (WHERE key) AS keys,
            coalesce(sum(nll) FILTER (WHERE key), 0) AS key_sum
        FROM candidates GROUP BY document"""
    ).df()
    tokens = run.connection.execute(
        """SELECT document, count(*) AS all_tokens, sum(nll::DOUBLE) AS all_sum FROM scores
        WHERE condition = 'intact' GROUP BY document"""
    ).df()
    names = pd.DataFrame({"document": run.documents})
    return names.merge(sums, how="left").merge(tokens, how="left").fillna(0)


def _model(run: OpenRun) -> tuple[Any, Any]:
    return run.facts.model.path, run.facts.model.revision


def _rule(rule: KeyRule) -> str:
    return f"LSD > {rule.lsd:g}, LCL > {rule.lcl:g}".replace("-", "−")


def _level(result: LongPPL) -> str:
    return f"{result.scored.analysis.confidence * 100:g} % interval"
