"""The answer in words: how far a run reads, what that rests on and what limits it."""

import re
from dataclasses import asdict
from typing import Any

import pandas as pd

from probe.analysis.effective import LOWERS, EffectiveContext
from probe.analysis.fit import draws_in_words, in_order
from probe.analysis.floor import NoiseFloor
from probe.analysis.open_run import OpenRun
from probe.findings.positions import losses
from probe.findings.reading import read_to
from probe.findings.table import Table, between, records
from probe.results.tolerance import parse_tolerance
from probe.text import counted, limits, printable

_NOUNS = {
    "truncate": "effective context",
    "replace": "reach of content",
    "shuffle": "reach of order",
}
_READS = {"replace": "reads content", "shuffle": "reads order"}


def sentence(run: OpenRun) -> str:
    """The effective context of the run's headline condition in one sentence.

    The condition is ``truncate`` where it was scored, else the first; the tolerance the first that
    is resolved. *Uses N tokens* is said of ``truncate`` alone.
    """
    context = run.headline()
    if context is None:
        return f"{subject(run)}: no condition with a curve was scored."
    who, condition = subject(run), printable(context.condition)
    at = f"at a tolerance of {describe_tolerance(context.tolerance)}"
    kind = context.condition.partition("(")[0]
    if context.kind == "unresolved":
        reasons = "; ".join(context.reasons)
        noun = f"The {_NOUNS.get(kind, 'reach')} of {who} ({condition})"
        return f"{noun} is unresolved {at}: {reasons}."
    if context.only_lowers:
        return f"{who}: {condition} lowers the loss{_lowest(run, context)}."
    length, interval = _length(context, f"{run.analysis.confidence * 100:g} % interval")
    tokens = "token" if length.split()[-1] == "1" else "tokens"
    if kind == "truncate":
        return f"{who} uses {length} {tokens} of context ({interval}) {at}."
    what = _READS.get(kind, "is moved")
    return f"{who} {what} to {length} {tokens} ({condition}; {interval}) {at}."


def subject(run: OpenRun) -> str:
    """What a sentence is about: the model, on the data."""
    return printable(f"{run.model} on {run.data}")


def basis(run: OpenRun) -> str:
    """What the answer rests on: documents, windows, targets and the range of far lengths."""
    shortest, longest = run.far
    far = f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
    documents, windows, targets = counts(run)
    return (
        f"Measured on {documents}, {windows} and {targets}, up to a distance of"
        f" {run.reach:,} tokens, with {far} far tokens in the perturbed context."
    )


def counts(run: OpenRun) -> list[str]:
    """Documents, windows and targets in words: ``24 documents``, ``1 window``."""
    return [
        counted(len(run.documents), "document"),
        counted(run.windows, "window"),
        counted(run.targets, "target"),
    ]


def answer_table(run: OpenRun) -> Table:
    """Effective contexts: conditions in rows, tolerances in columns; tokens."""
    tolerances = [tolerance.text for tolerance in run.analysis.tolerances]
    rows = [
        [name, *(short(run.context(name, tolerance)) for tolerance in tolerances)]
        for name in in_order(context.condition for context in run.contexts)
    ]
    return Table(
        "Effective context (tokens) by condition and tolerance, with its interval",
        ["condition", *tolerances],
        rows,
        shown="both",
        captioned=False,
        rule=True,
    )


def caveats(run: OpenRun) -> list[str]:
    """What limits the answer, one line each: reasons, KL, draws, the run's own warnings."""
    return [
        *_unresolved(run),
        *read_to(run),
        *draws_in_words(run.curve),
        *warnings_of(run),
        *run.warnings,
    ]


def short(context: EffectiveContext | None) -> str:
    """An answer short enough for a table or a legend; why one is unresolved stands elsewhere."""
    if context is None:
        return "–"
    if context.kind == "unresolved":
        return "unresolved"
    return context.text()


def describe_tolerance(text: str) -> str:
    """A tolerance's text as it is read aloud, such as ``1 % of perplexity``."""
    tolerance = parse_tolerance(text)
    share = f"{tolerance.amount * 100:g} %"
    return {
        "perplexity": f"{share} of perplexity",
        "nats": f"{tolerance.amount:g} nats a token",
        "bpb": f"{tolerance.amount:g} bits per byte",
        "delta0": f"{share} of delta at distance 0",
    }[tolerance.unit]


def warnings_of(run: OpenRun) -> list[str]:
    """What a reader must know before believing the answers, one line each."""
    lines = [
        f"{context.condition} at {context.tolerance} is not monotone: delta is significantly above"
        " the tolerance again at longer distances"
        for context in run.contexts
        if "not monotone" in context.flags
    ]
    lowered = {c.condition: None for c in run.contexts if LOWERS in c.flags and not c.only_lowers}
    lines += [
        f"{condition} also lowers the loss, at some distances by more than the tolerance: its"
        " length says how far it raises the loss, not how far it is read"
        for condition in lowered
    ]
    if run.floor is None:
        lines.append("no noise floor: the run has no noise condition")
    measured = run.once(losses)
    if measured.worsening is not None:
        rise, low = measured.worsening
        lines.append(
            f"the intact loss worsens with position: by {rise:.3f} nats (at least {low:.3f}) from"
            " the second to the last quarter of the measured positions"
        )
        longest = int(measured.by_position["position_to"].max())
        trained = run.facts.model.trained_length
        if trained is not None and longest > trained:
            lines[-1] += (
                f"; targets stand at up to {longest:,} tokens, and beyond the length that the model"
                f" was trained on ({trained:,} by its configuration) delta has no meaning"
            )
    if run.sums["grey"].any():
        start = int(run.sums.loc[run.sums["grey"], "distance_from"].min())
        lines.append(
            f"distances from {start:,} on have targets with less far than near text: they are drawn"
            " grey and never answer"
        )
    return lines


def summary_record(run: OpenRun) -> dict[str, Any]:
    """The answer's part of ``summary.json``."""
    return {
        "run": run.name,
        "status": run.facts.status,
        "model": run.model,
        "data": run.data,
        "documents": len(run.documents),
        "windows": run.windows,
        "targets": run.targets,
        "reach": run.reach,
        "far": {"shortest": run.far[0], "longest": run.far[1]},
        "analysis": {
            **asdict(run.analysis),
            "tolerances": [tolerance.text for tolerance in run.analysis.tolerances],
        },
        "effective_context": [
            {**asdict(context), "text": context.text()} for context in run.contexts
        ],
        "noise_floor": None if run.floor is None else _floor_record(run.floor),
        "flags": warnings_of(run),
        "warnings": run.warnings,
    }


def usable(run: OpenRun, condition: str) -> pd.DataFrame:
    """The bins of a curve that may answer."""
    curve = run.curve
    return curve[(curve["condition"] == condition) & ~curve["grey"].astype(bool)]


def _floor_record(floor: NoiseFloor) -> dict[str, Any]:
    octaves = pd.DataFrame(asdict(floor)).drop(columns="condition")
    octaves = octaves.rename(columns={"lower": "distance_from", "upper": "distance_to"})
    return {"condition": floor.condition, "octaves": records(octaves)}


def _lowest(run: OpenRun, context: EffectiveContext) -> str:
    """By how much a condition lowers the loss where it does most, and its interval."""
    rows = usable(run, context.condition)
    row = rows.nsmallest(1, "delta").to_dict("records")[0]
    place = between(row)
    at = f"distances {place}" if "–" in place else f"distance {place}"
    low, high = (f"{-row[name]:.3f}".replace("-", "−") for name in ("high", "low"))
    return (
        f", by {-row['delta']:.3f} nats a token at {at} ({run.analysis.confidence * 100:g} % "
        f"interval {low} to {high}): no length can be read off it"
    )


def _length(context: EffectiveContext, interval: str) -> tuple[str, str]:
    """The length of a resolved answer in words, and its interval."""
    value, measured = context.value or 0, f"the {context.reach:,} measured"
    if context.kind == "greater":
        if context.lower is None:
            return f"more than {value:,}", f"the {interval} lies beyond {measured}"
        if context.estimate is not None:
            told = f"the estimate is {context.estimate:,}, the interval ends beyond {measured}"
        elif value == context.reach:
            told = f"the estimate lies beyond {measured}"
        else:
            told = f"the estimate lies in the last half octave of {measured}, or beyond"
        return f"more than {context.lower:,}", f"{interval}; {told}"
    if "at most" in context.flags:
        limit = f"the curve starts there; upper limit of the {interval} {context.upper or 0:,}"
        return f"at most {value:,}", limit
    if context.upper is None:
        return f"{value:,}", interval
    return f"{value:,}", f"{interval} {limits(context.lower or 0, context.upper, context.start)}"


def _unresolved(run: OpenRun) -> list[str]:
    """Why answers are unresolved, one line for each reason and what it holds for."""
    where: dict[str, dict[str, list[str]]] = {}
    for context in run.contexts:
        for reason in context.reasons:
            # The floor is one of the run, whatever half of a tolerance it is above.
            told = re.sub(r", above half of [0-9.e-]+$", ", above half of the tolerance", reason)
            where.setdefault(told, {}).setdefault(context.condition, []).append(context.tolerance)
    alike: dict[tuple[str, str], list[str]] = {}
    for reason, conditions in where.items():
        for condition, tolerances in conditions.items():
            alike.setdefault((reason, ", ".join(tolerances)), []).append(condition)
    lines = [
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} unresolved at {at}: {reason}"
        for (reason, at), names in alike.items()
    ]
    dtype = run.facts.model.dtype
    if dtype in ("bfloat16", "float16") and any("noise floor" in reason for reason in where):
        lines.append(f"the noise floor is that of {dtype}: model.dtype float32 lowers it")
    return lines
