"""The answer in words: how far a run reads, what that rests on and what limits it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from probe.analysis.effective import LOWERS, EffectiveContext
from probe.analysis.fit import draws_in_words, in_order
from probe.analysis.floor import NoiseFloor
from probe.analysis.looks import Target
from probe.analysis.open_run import OpenRun
from probe.findings.positions import losses
from probe.findings.reading import read_to
from probe.findings.table import Table, between, decimals, records
from probe.perturbations import registry
from probe.results.tolerance import parse_tolerance, spaced
from probe.text import counted, printable

_CHANGES = {
    "truncate": "is cut off",
    "replace(source='document')": "is replaced by text of another document",
    "shuffle": "is put into random order",
}
"""What the usual conditions do with the far text; others are said by their own summary."""


def sentence(run: OpenRun) -> str:
    """The effective context of the run's headline condition in one sentence.

    The condition is ``truncate`` where it was scored, else the first; the tolerance the first that
    is resolved. Limit, tolerance and estimate have a clause each.
    """
    context = run.headline()
    if context is None:
        return f"{subject(run)}: no condition with a curve was scored."
    condition = printable(context.condition)
    if context.only_lowers:
        said = f"{condition} lowers the loss{_lowest(run, context)}"
    else:
        unit = run.folder.reading.counted
        length, known, more = _parts(context, f"{run.analysis.confidence * 100:g} %", unit)
        at = f"under {condition}{known} at {describe_tolerance(context.tolerance)}"
        said = "; ".join([f"{length} {at}", *more])
    return f"{subject(run)}: {said}."


def subject(run: OpenRun) -> str:
    """What a sentence is about: the model, on the data."""
    return printable(f"{run.model} on {run.data}")


def basis(run: OpenRun) -> str:
    """What the answer rests on: documents, windows, targets and the range of far lengths."""
    shortest, longest = run.far
    far = f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
    documents, windows, targets = counts(run)
    reading = run.folder.reading
    farthest = run.reach - run.has_same_targets  # of single distances the last is measured
    far = f"{far} far tokens" if reading.unit == "tokens" else f"{far} {reading.unit} of it far"
    return (
        f"Measured on {documents}, {windows} and {targets}, up to a distance of"
        f" {farthest:,} {reading.unit}, with {far} in the perturbed context.{stopped(run)}"
    )


def stopped(run: OpenRun) -> str:
    """Of a run that stops once an interval is narrow: how narrow it was, and what that takes.

    A sentence behind others; empty of a run whose documents were counted before.
    """
    asked = run.facts.precision
    if asked is None or not asked.looks:
        return ""
    last = asked.looks[-1]
    target = Target(asked.condition, asked.half_width, asked.tolerance, asked.distances)
    width = last.half_width
    found = "has no two ends" if width is None else f"is {target.width_text(width)}"
    times = counted(len(asked.looks), "time") if len(asked.looks) > 1 else "once"
    all_of_them = "" if width is not None and width <= asked.half_width else ", all there were"
    return (
        f" It was scored until the interval of {target} would be {target.width_text()}: it {found}"
        f" after {counted(last.documents, 'document')}{all_of_them}"
        f"; as it was looked at {times}, intervals are"
        f" {last.confidence * 100:g} % ones."
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
    names = in_order(context.condition for context in run.contexts)
    by_condition = {name: [one for one in run.contexts if one.condition == name] for name in names}
    caption = f"Effective context ({run.unit}, with its interval) by condition and tolerance"
    return context_table(run, caption, "condition", by_condition)


def context_table(
    run: OpenRun, caption: str, head: str, rows: Mapping[str, Sequence[EffectiveContext]]
) -> Table:
    """Answers in rows, the tolerances of the run in columns, and once what ``>`` leaves open.

    Args:
        run: The run.
        caption: What the lengths are.
        head: What the rows are.
        rows: The answers of each row by its name.
    """
    tolerances = [tolerance.text for tolerance in run.analysis.tolerances]
    cells: list[list[str]] = []
    details: dict[tuple[int, int], str] = {}
    open_ends: dict[str, dict[str, list[str]]] = {}
    for number, (name, contexts) in enumerate(rows.items()):
        by_tolerance = {context.tolerance: context for context in contexts}
        cells.append([name, *(short(by_tolerance.get(text)) for text in tolerances)])
        for column, text in enumerate(tolerances, 1):
            context = by_tolerance.get(text)
            if context is None or context.kind != "greater":
                continue
            if context.estimate is not None:
                details[number, column] = f"estimate {context.estimate:,}"
            if context.estimate is not None or context.value != context.reach:
                places = open_ends.setdefault(context.open_end, {})
                places.setdefault(printable(name), []).append(spaced(text))
    what = what_greater_is(
        [context for contexts in rows.values() for context in contexts], run.analysis.confidence
    )
    said = [
        "; ".join(f"{name} at {', '.join(at)}" for name, at in places.items()) + f": {end}"
        for end, places in open_ends.items()
    ]
    return Table(
        f"{caption}; {what}" if what else caption,
        [head, *map(spaced, tolerances)],
        cells,
        shown="both",
        captioned=False,
        rule=True,
        below=[line for line in (meaning(run.main_condition or "", run.unit), what, *said) if line],
        details=details,
    )


def what_greater_is(contexts: Sequence[EffectiveContext], confidence: float) -> str:
    """What ``> x`` in a table of answers says, for a note below it; empty where none is there.

    Args:
        contexts: The answers of the table.
        confidence: Of their intervals.
    """
    greater = [context for context in contexts if context.kind == "greater"]
    if not greater:
        return ""
    said = f"> x: the lower limit of the {confidence * 100:g} % interval"
    # What ends in the last half octave may have been seen to end: it has a line of its own.
    beyond = [one for one in greater if one.estimate is None and one.value == one.reach]
    ends = sorted({context.reach for context in beyond})
    return (
        f"{said}; the end was not seen within {' or '.join(f'{end:,}' for end in ends)}"
        if ends
        else said
    )


def meaning(condition: str, unit: str = "tokens") -> str:
    """What a condition does to the far text, on one line; empty for a chain or an unknown one.

    Args:
        condition: Its canonical text.
        unit: What distances are counted in.
    """
    if condition in _CHANGES:
        return f"{condition}: the text further away than so many tokens {_CHANGES[condition]}"
    if condition == "truncate(of='source')":
        what = "source" if unit == "tokens" else "sound"
        return f"{condition}: the {what} further away than so many {unit} is cut off"
    name = condition.partition("(")[0]
    if name not in registry.names():
        return ""
    summary = registry.get(name).summary
    return printable(f"{condition}: {summary[:1].lower()}{summary[1:].rstrip('.')}")


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
    """An answer in a table or a legend, ``–`` where there is none."""
    return "–" if context is None else context.text()


def describe_tolerance(text: str) -> str:
    """A tolerance's text as it is read aloud, such as ``1 % of perplexity``."""
    tolerance = parse_tolerance(text)
    share = f"{tolerance.amount * 100:g} %"
    return {
        "perplexity": f"{share} of perplexity",
        "nats": f"{tolerance.amount:g} nats per token",
        "bpb": f"{tolerance.amount:g} bits per byte",
        "delta0": f"{share} of delta at distance 0",
    }[tolerance.unit]


def warnings_of(run: OpenRun) -> list[str]:
    """What a reader must know before believing the answers, one line each."""
    lines = [
        f"{context.condition} at {spaced(context.tolerance)} is not monotone: delta is"
        " significantly above the tolerance again at longer distances"
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
                f"; targets are at positions up to {longest:,}, and beyond the length that the"
                f" model was trained on ({trained:,} by its configuration) delta has no meaning"
            )
    return lines + excluded(run)


def excluded(run: OpenRun) -> list[str]:
    """From which distance on targets are excluded, in a line; none where all take part."""
    grey = run.sums.loc[run.sums["grey"], "distance_from"]
    if grey.empty:
        return []
    return [
        f"distances from {int(grey.min()):,} on have targets with less far than near text: they are"
        " greyed out and excluded"
    ]


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
        "unit": run.unit,
        "reach": run.reach,
        "far": {"shortest": run.far[0], "longest": run.far[1]},
        "analysis": {
            **asdict(run.analysis),
            "tolerances": [tolerance.text for tolerance in run.analysis.tolerances],
        },
        "effective_context": [
            {**asdict(context), "text": context.full_text()} for context in run.contexts
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
    low, high = (decimals(-row[name]) for name in ("high", "low"))
    return (
        f" by {decimals(-row['delta'])} nats per token at {at} ({run.analysis.confidence * 100:g} %"
        f" interval {low} to {high}); no length can be read off it"
    )


def _parts(
    context: EffectiveContext, confidence: str, unit: Callable[[int], str]
) -> tuple[str, str, list[str]]:
    """An answer as words: the length, what is known of it, and what else is to be said."""
    value, lower, upper = context.value or 0, context.lower, context.upper
    if context.kind == "unresolved":
        return "effective context unresolved", "", list(context.reasons)
    if context.kind == "greater":
        limit = value if lower is None else lower
        return f"more than {unit(limit)}", f" ({confidence} lower limit)", [_end(context)]
    if "at most" in context.flags:
        wider = upper is not None and upper > value
        known = f" ({confidence} interval up to {upper:,})" if wider else ""
        return f"at most {unit(value)}", known, [f"no distance below {value:,} was measured"]
    if context.kind == "zero":
        known = f" ({confidence} interval 0 to {upper:,})" if upper else ""
        return unit(0), known, ["at every distance the mean loss rises by less than that"]
    start = f"{context.start:,} or less" if (lower or 0) < context.start else f"{lower:,}"
    return unit(value), f" ({confidence} interval {start} to {upper:,})", []


def _end(context: EffectiveContext) -> str:
    """What is known of the end of a length that has no upper limit."""
    if context.estimate is not None:
        return (
            f"the estimate is {context.estimate:,}, with no upper bound within the measured range"
        )
    if context.value == context.reach:
        return f"the end was not seen within {context.reach:,}"
    return f"the end was not seen before the last half octave of {context.reach:,}"


def _unresolved(run: OpenRun) -> list[str]:
    """Why answers are unresolved, one line for each reason and what it holds for."""
    where: dict[str, dict[str, list[str]]] = {}
    for context in run.contexts:
        for reason in context.reasons:
            # The floor is one of the run, whatever half of a tolerance it is above.
            line = re.sub(r", above half of [0-9.e-]+$", ", above half of the tolerance", reason)
            of_reason = where.setdefault(line, {})
            of_reason.setdefault(context.condition, []).append(spaced(context.tolerance))
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
