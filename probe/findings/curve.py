"""The answer: how far a run reads under each condition, and the curve of delta by distance."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from probe.analysis.effective import LOWERS, EffectiveContext
from probe.analysis.fit import draws_in_words, in_order
from probe.analysis.floor import NoiseFloor, is_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.tolerance import parse_tolerance, spaced
from probe.findings.base import CONDITION, Drawn, Files, Finding, Plot, only, register
from probe.findings.chart import (
    THRESHOLD,
    Chart,
    EmptyChartError,
    Interval,
    Rule,
    Series,
    Strip,
    delta_axis,
    distance_axis,
)
from probe.findings.positions import losses
from probe.findings.reading import read_to
from probe.findings.table import (
    Table,
    between,
    decimals,
    middles,
    percent,
    pivot,
    ranged,
    records,
)
from probe.results.folder import unique_labels
from probe.text import counted, limits, printable

_NOUNS = {
    "truncate": "effective context",
    "replace": "reach of content",
    "shuffle": "reach of order",
}
_READS = {"replace": "reads content", "shuffle": "reads order"}


def curve_plot(runs: Sequence[OpenRun], *, condition: str | None = None) -> Drawn:
    """Delta by distance of one run, or of several over one another, for `probe plot`.

    Args:
        runs: The runs.
        condition: Only this condition.

    Raises:
        EmptyChartError: If none has a curve.
    """
    yield "", overlay(runs, condition=condition)


@register("curve", order=0, level="answer", plots=[Plot("curve", curve_plot, None, [CONDITION])])
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """The answer of a run with lengths, and the curve of one that another finding answers.

    Args:
        run: The open run.
        others: Not needed.
    """
    files: Files = {"summary.json": summary_record(run), "curve.csv": run.curve}
    names = run.curve_conditions if run.has_length else []
    charts = [chart(run)] if names else []
    if not run.is_answered_by("curve"):
        return Finding(
            "curve",
            "Loss by distance",
            _ends(run, run.main_condition or names[0]) if names else "",
            charts=[replace(each, file="") for each in charts],  # the answer has its own figure
            files=files,
            level="brief",
        )
    if not run.contexts and run.patterns:  # attention alone was limited
        return Finding("curve", "Loss by distance", files=files)
    return Finding(
        "answer",
        "The answer",
        sentence(run),
        basis(run),
        tables=[answer_table(run)] if run.contexts else [],
        charts=charts,
        caveats=caveats(run),
        files=files,
    )


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


def epsilons(run: OpenRun) -> dict[float, str]:
    """Tolerances (nats) that are the same for every curve, with their text."""
    return {
        context.epsilon: spaced(context.tolerance)
        for context in run.contexts
        if context.epsilon is not None and not context.tolerance.endswith("delta0")
    }


def threshold_of(run: OpenRun) -> float:
    """The smallest tolerance (nats), where axes of delta turn logarithmic."""
    return min(epsilons(run), default=THRESHOLD)


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
        trained = (run.record.get("model") or {}).get("trained_length")
        if trained is not None and longest > int(trained):
            lines[-1] += (
                f"; targets stand at up to {longest:,} tokens, and beyond the length that the model"
                f" was trained on ({int(trained):,} by its configuration) delta has no meaning"
            )
    if run.sums["grey"].any():
        start = int(run.sums.loc[run.sums["grey"], "distance_from"].min())
        lines.append(
            f"distances from {start:,} on have targets with less far than near text: they are drawn"
            " grey and never answer"
        )
    return lines


def chart(run: OpenRun) -> Chart:
    """Delta by distance under every condition, with the answer on the line of its tolerance."""
    names = run.curve_conditions
    shown = run.curve[run.curve["condition"].isin(names)]
    usable = records(shown[~shown["grey"].astype(bool)])
    share = f"{run.analysis.confidence * 100:g} %"
    band = "simultaneous" if run.analysis.simultaneous else "pointwise"
    how = (
        "Each line is the loss added when the text further back than the distance is changed in"
        " that way: the higher, the more the model needs it. Where a line drops below a dotted"
        f" tolerance, its mean delta is below it. Bands: {share} {band}"
        " interval over documents; hairlines: the never-rising fit that the answer is read from."
    )
    tables = [
        pivot(
            f"Delta (nats a token) by distance (tokens), with its {share} interval",
            usable,
            names,
            by="condition",
            cell=lambda row: ranged(row, "delta"),
        ),
        pivot(
            "Targets behind each bin, and the share that the far text helped",
            usable,
            names,
            by="condition",
            cell=lambda row: f"{int(row['targets']):,} ({percent(row['helped'])})",
        ),
    ]
    return replace(overlay([run]), how=how, tables=tables)


def overlay(runs: Sequence[OpenRun], *, condition: str | None = None) -> Chart:
    """Delta by distance of one run, one line a condition, or of several over one another.

    Of several runs the colour tells the run, dash and mark the condition.

    Args:
        runs: The runs.
        condition: Only this condition.

    Raises:
        EmptyChartError: If none has a curve.
    """
    labels = unique_labels([run.folder for run in runs])
    curves = [only(run.curve, "condition", condition, "--condition") for run in runs]
    curves = [rows[~rows["condition"].map(is_noise).astype(bool)] for rows in curves]
    names = in_order(str(name) for rows in curves for name in rows["condition"].unique())
    if not names:
        if all(run.patterns for run in runs):
            raise EmptyChartError("it limits attention alone; allowed: --kind tradeoff, heads")
        raise EmptyChartError("no run with a curve to draw")
    series = [
        line
        for number, (label, rows) in enumerate(zip(labels, curves, strict=True))
        for line in _lines(rows, names, label if len(runs) > 1 else None, number)
    ]
    shown = pd.concat(curves)
    rules = {value: text for run in runs for value, text in epsilons(run).items()}
    floors = [floor for run in runs if (floor := run.floor) is not None]
    threshold = min(rules, default=THRESHOLD)
    # A band that reaches far below 0 says no more than one that reaches below it: it is cut.
    lows = np.maximum(shown["low"].to_numpy(np.float64), -3 * threshold)
    return Chart(
        "Delta against distance" + ("" if len(runs) == 1 else ", by run"),
        distance_axis(float(shown["distance_to"].max())),
        delta_axis([*lows, *shown["delta"], *shown["high"]], threshold),
        series,
        [Rule(value, text) for value, text in rules.items()],
        [mark for number, run in enumerate(runs) if (mark := _mark(runs, number, condition))],
        _strip(floors[0]) if floors else None,
        legend=_legend(runs, floors, bool(shown["grey"].any()), condition),
        heading=_heading(runs, labels),
        file="curve" if len(runs) == 1 and runs[0].contexts else "",
    )


def curve_series(rows: pd.DataFrame, name: str, look: int, **more: Any) -> Series:
    """A line of delta with its band and, where there is one, its fit.

    Args:
        rows: ``distance_from, distance_to, delta, low, high``, and ``fit`` where there is one.
        name: Its name in the legend.
        look: Number of its look.
        more: Other fields of the series.
    """
    fit = rows["fit"].to_numpy(float) if "fit" in rows and rows["fit"].notna().any() else None
    return value_series(rows, name, look, "delta", **({"fit": fit} | more))


def value_series(rows: pd.DataFrame, name: str, look: int, value: str, **more: Any) -> Series:
    """A line of one value over distance, with its limits where it has them."""
    low, high = (rows[end].to_numpy(float) if end in rows else None for end in ("low", "high"))
    titles = [f"{name}, {between(row)}: {ranged(row, value)}" for row in records(rows)]
    fields: dict[str, Any] = {"low": low, "high": high, "titles": titles} | more
    return Series(name, middles(rows), rows[value].to_numpy(float), look, **fields)


def mark(context: EffectiveContext | None, look: int | None = None) -> Interval | None:
    """The mark of an answer on the line of its tolerance, ``None`` if it is unresolved."""
    if context is None or context.kind == "unresolved" or context.epsilon is None:
        return None
    return Interval(
        context.epsilon,
        float(context.reach if context.lower is None else context.lower),
        float(context.reach if context.upper is None else context.upper),
        None if context.estimate is None else float(context.estimate),
        context.upper is None,
        f"{context.condition}, {context.tolerance}: {short(context)}",
        look,
    )


def summary_record(run: OpenRun) -> dict[str, Any]:
    """The answer's part of ``summary.json``."""
    return {
        "run": run.name,
        "status": run.record.get("status"),
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


def _floor_record(floor: NoiseFloor) -> dict[str, Any]:
    octaves = pd.DataFrame(
        {
            "distance_from": floor.lower,
            "distance_to": floor.upper,
            "limit": floor.limit,
            "targets": floor.targets,
        }
    )
    return {"condition": floor.condition, "octaves": records(octaves)}


def _lowest(run: OpenRun, context: EffectiveContext) -> str:
    """By how much a condition lowers the loss where it does most, and its interval."""
    rows = _usable(run, context.condition)
    row = rows.nsmallest(1, "delta").to_dict("records")[0]
    first, last = int(row["distance_from"]), int(row["distance_to"]) - 1
    at = f"distance {first:,}" if first == last else f"distances {first:,}–{last:,}"
    low, high = (f"{-row[name]:.3f}".replace("-", "−") for name in ("high", "low"))
    return (
        f", by {-row['delta']:.3f} nats a token at {at} ({run.analysis.confidence * 100:g} % "
        f"interval {low} to {high}): no length can be read off it"
    )


def _usable(run: OpenRun, condition: str) -> pd.DataFrame:
    """The bins of a curve that may answer."""
    curve = run.curve
    return curve[(curve["condition"] == condition) & ~curve["grey"].astype(bool)]


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
    lines = []
    for reason, conditions in where.items():
        alike: dict[tuple[str, ...], list[str]] = {}
        for condition, at in conditions.items():
            alike.setdefault(tuple(at), []).append(condition)
        for tolerances, names in alike.items():
            verb = "is" if len(names) == 1 else "are"
            at_ = ", ".join(tolerances)
            lines.append(f"{', '.join(names)} {verb} unresolved at {at_}: {reason}")
    dtype = (run.record.get("model") or {}).get("dtype")
    if dtype in ("bfloat16", "float16") and any("noise floor" in reason for reason in where):
        lines.append(f"the noise floor is that of {dtype}: model.dtype float32 lowers it")
    return lines


def _ends(run: OpenRun, name: str) -> str:
    """The first and the last delta of a curve in words."""
    rows = _usable(run, name)
    if rows.empty:
        return f"{name}: every distance has less far than near text."
    first, last = records(rows.sort_values("distance_from").iloc[[0, -1]])
    return (
        f"Under {name} a token loses {decimals(first['delta'])} nats at distance {between(first)}"
        f" and {ranged(last, 'delta')} nats at {between(last)}."
    )


def _lines(rows: pd.DataFrame, names: Sequence[str], run: str | None, number: int) -> list[Series]:
    """A series a condition, what never answers apart; of several runs the colour is the run's."""
    lines = []
    for look, name in enumerate(names):
        own = rows[rows["condition"] == name]
        grey = own["grey"].astype(bool)
        colour = None if run is None else number
        label = name if run is None else f"{run}: {name}"
        if grey.any():
            lines.append(curve_series(own[grey], "", look, role="grey", colour=colour))
        if not grey.all():
            lines.append(curve_series(own[~grey], label, look, colour=colour))
    return lines


def _mark(runs: Sequence[OpenRun], number: int, condition: str | None) -> Interval | None:
    return mark(_marked(runs[number], condition), None if len(runs) == 1 else number)


def _marked(run: OpenRun, condition: str | None) -> EffectiveContext | None:
    """The answer that is drawn: the headline, or that of the one condition that is."""
    found = run.headline(condition or "truncate")
    return found if found is None or condition in (None, found.condition) else None


def _strip(floor: NoiseFloor) -> Strip:
    return Strip(np.append(floor.lower, floor.upper[-1]).astype(float), floor.limit)


def _legend(
    runs: Sequence[OpenRun], floors: Sequence[NoiseFloor], grey: bool, condition: str | None
) -> list[tuple[str, str]]:
    """What the strip, what is grey and the diamond are."""
    entries = []
    limits = [limit for floor in floors for limit in floor.limit if np.isfinite(limit)]
    if limits:
        entries.append(("floor", f"noise floor, at most {max(limits):.1g} nats"))
    if grey:
        entries.append(("grey", "less far than near text"))
    marked = _marked(runs[0], condition)
    if mark(marked) is not None and marked is not None:
        at = f"{marked.condition}, {spaced(marked.tolerance)}: {short(marked)}"
        several = f"effective context, {spaced(marked.tolerance)}, by run"
        entries.append(("answer", at if len(runs) == 1 else several))
    return entries


def _heading(runs: Sequence[OpenRun], labels: Sequence[str]) -> list[str]:
    """Model, data and counts; what several runs have in common stands in the first lines."""
    told = ("model", "data")
    shared = [name for name in told if len({getattr(run, name) for run in runs}) == 1]
    lines = [str(getattr(runs[0], name)) for name in shared]
    if len(runs) == 1:
        return [*lines, ", ".join(counts(runs[0]))]
    for label, run in zip(labels, runs, strict=True):
        own = [str(getattr(run, what)) for what in told if what not in shared]
        lines.append(f"{label}: {', '.join([counts(run)[0], *own])}")
    return lines
