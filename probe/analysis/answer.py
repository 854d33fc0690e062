"""The answer of a run in words: one sentence, a small table, and what limits them."""

import re
from collections.abc import Iterable

from probe.analysis.effective import EffectiveContext
from probe.analysis.fit import draws_in_words
from probe.analysis.floor import is_noise
from probe.analysis.summary import Summary
from probe.analysis.tolerance import parse_tolerance, spaced
from probe.text import aligned, counted, limits, printable

_NOUNS = {
    "truncate": "effective context",
    "replace": "reach of content",
    "shuffle": "reach of order",
}
_READS = {"replace": "reads content", "shuffle": "reads order"}


def answer(summary: Summary) -> str:
    """The whole answer as plain text: sentence, basis, table, then flags and warnings.

    Args:
        summary: What :func:`probe.analysis.summary.summarise` gives.

    Returns:
        Several lines, without a newline at the end.
    """
    parts = [f"{sentence(summary)}\n{basis(summary)}", table(summary)]
    parts.append("\n".join(f"- {printable(note)}" for note in notes(summary)))
    return "\n\n".join(part for part in parts if part)


def notes(summary: Summary) -> list[str]:
    """What limits the answer, one line each: reasons, KL, draws, flags, warnings."""
    return [
        *_reasons(summary),
        *_reading(summary),
        *draws_in_words(summary.curve),
        *summary.flags,
        *summary.warnings,
    ]


def sentence(summary: Summary) -> str:
    """The effective context of the run's headline condition in one sentence.

    The condition is ``truncate`` where it was scored, else the first; the tolerance the first that
    is resolved. *Uses N tokens* is said of ``truncate`` alone.
    """
    context = headline(summary)
    if context is None:
        return f"{subject(summary)}: no condition with a curve was scored."
    who, condition = subject(summary), printable(context.condition)
    at = f"at a tolerance of {describe_tolerance(context.tolerance)}"
    kind = _kind(context.condition)
    if context.kind == "unresolved":
        reasons = "; ".join(context.reasons)
        noun = f"The {_NOUNS.get(kind, 'reach')} of {who} ({condition})"
        return f"{noun} is unresolved {at}: {reasons}."
    if context.only_lowers:
        return f"{who}: {condition} lowers the loss{_lowest(summary, context)}."
    length, interval = _length(context, f"{summary.analysis.confidence * 100:g} % interval")
    tokens = "token" if length.split()[-1] == "1" else "tokens"
    if kind == "truncate":
        return f"{who} uses {length} {tokens} of context ({interval}) {at}."
    what = _READS.get(kind, "is moved")
    return f"{who} {what} to {length} {tokens} ({condition}; {interval}) {at}."


def subject(summary: Summary) -> str:
    """What a sentence is about: the model, on the data."""
    return printable(f"{summary.model} on {summary.data}")


def basis(summary: Summary) -> str:
    """What the answer rests on: documents, windows, targets and the range of far lengths."""
    shortest, longest = summary.far
    far = f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
    documents, windows, targets = counts(summary)
    return (
        f"Measured on {documents}, {windows} and {targets}, up to a distance of"
        f" {summary.reach:,} tokens, with {far} far tokens in the perturbed context."
    )


def counts(summary: Summary) -> list[str]:
    """Documents, windows and targets in words: ``24 documents``, ``1 window``."""
    return [
        counted(summary.documents, "document"),
        counted(summary.windows, "window"),
        counted(summary.targets, "target"),
    ]


def table(summary: Summary) -> str:
    """Effective contexts as plain text: conditions in rows, tolerances in columns; tokens."""
    conditions = in_order(context.condition for context in summary.contexts)
    if not conditions:
        return ""
    tolerances = [tolerance.text for tolerance in summary.analysis.tolerances]
    rows = [["condition", *tolerances]]
    for condition in conditions:
        contexts = [summary.context(condition, tolerance) for tolerance in tolerances]
        rows.append([condition, *(short(context) for context in contexts)])
    return aligned(rows, rule=True)


def conditions_of(summary: Summary) -> list[str]:
    """Conditions with a curve in that order, noise left out."""
    names = (str(name) for name in summary.curve["condition"].unique())
    return in_order(name for name in names if not is_noise(name))


def epsilons(summary: Summary) -> dict[float, str]:
    """Tolerances (nats) that are the same for every curve, with their text."""
    return {
        context.epsilon: spaced(context.tolerance)
        for context in summary.contexts
        if context.epsilon is not None and not context.tolerance.endswith("delta0")
    }


def in_order(conditions: Iterable[str]) -> list[str]:
    """Conditions as tables and figures show them: truncate, content, order, then by name."""
    order = {"truncate": 0, "replace": 1, "shuffle": 2}
    return sorted(set(conditions), key=lambda name: (order.get(_kind(name), 3), name))


def headline(summary: Summary, condition: str = "truncate") -> EffectiveContext | None:
    """The answer to put first: of *condition*, at the first tolerance that is resolved.

    Args:
        summary: The summary.
        condition: The condition to prefer; without it the first that was scored.

    Returns:
        The answer, an unresolved one if all are, ``None`` without any curve.
    """
    own = [context for context in summary.contexts if context.condition == condition]
    own = own or [
        context
        for context in summary.contexts
        if context.condition == summary.contexts[0].condition
    ]
    resolved = [context for context in own if context.kind != "unresolved"]
    return next(iter(resolved or own), None)


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


def _kind(condition: str) -> str:
    """The perturbation of a condition, without its parameters."""
    return condition.partition("(")[0]


def _lowest(summary: Summary, context: EffectiveContext) -> str:
    """By how much a condition lowers the loss where it does most, and its interval."""
    curve = summary.curve
    rows = curve[(curve["condition"] == context.condition) & ~curve["grey"].astype(bool)]
    row = rows.nsmallest(1, "delta").to_dict("records")[0]
    first, last = int(row["distance_from"]), int(row["distance_to"]) - 1
    at = f"distance {first:,}" if first == last else f"distances {first:,}–{last:,}"
    low, high = (f"{-row[name]:.3f}".replace("-", "−") for name in ("high", "low"))
    return (
        f", by {-row['delta']:.3f} nats a token at {at} ({summary.analysis.confidence * 100:g} % "
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


def _reasons(summary: Summary) -> list[str]:
    """Why answers are unresolved, one line for each reason and what it holds for."""
    where: dict[str, dict[str, list[str]]] = {}
    for context in summary.contexts:
        for reason in context.reasons:
            # The floor is one of the run, whatever half of a tolerance it is above.
            told = re.sub(r", above half of [0-9.e-]+$", ", above half of the tolerance", reason)
            where.setdefault(told, {}).setdefault(context.condition, []).append(context.tolerance)
    lines = []
    for reason, conditions in where.items():
        alike: dict[tuple[str, ...], list[str]] = {}
        for condition, at in conditions.items():
            alike.setdefault(tuple(at), []).append(condition)
        for tolerances, names in alike.items():
            verb = "is" if len(names) == 1 else "are"
            at_ = ", ".join(tolerances)
            lines.append(f"{', '.join(names)} {verb} unresolved at {at_}: {reason}")
    dtype = (summary.run.record.get("model") or {}).get("dtype")
    if dtype in ("bfloat16", "float16") and any("noise floor" in reason for reason in where):
        lines.append(f"the noise floor is that of {dtype}: model.dtype float32 lowers it")
    return lines


def _reading(summary: Summary) -> list[str]:
    """How far each condition's text is read by KL, where that was measured."""
    lines = []
    for condition, rows in summary.reading.groupby("condition"):
        if rows["floor"].notna().any() and not is_noise(str(condition)):
            unread = rows[~rows["read"].astype(bool)]["distance_from"]
            end = unread.min() if len(unread) else rows["distance_to"].max()
            lines.append(f"{condition}: KL to intact is above its noise floor up to {int(end):,}")
    return lines
