"""Token classes: which tokens need far context, with curves, lengths and counts by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from probe.analysis.fit import in_order
from probe.analysis.open_run import OpenRun
from probe.classes.class_sums import ClassSums
from probe.classes.curves import ClassCurves, class_curves, read_classes
from probe.classes.registry import is_user
from probe.classes.table import classify, default_classes
from probe.findings.base import CONDITION, Drawn, Files, Finding, Option, Plot, only, register
from probe.findings.chart import (
    LOOKS,
    Chart,
    EmptyChartError,
    Role,
    Rule,
    Series,
    delta_axis,
    distance_axis,
)
from probe.findings.curve import curve_series, threshold_of
from probe.findings.last_seen import last_seen, occurrences
from probe.findings.table import Table, between, length, percent, ranged, records
from probe.results.tolerance import parse_tolerance, spaced
from probe.text import one_line, slug

APART = (
    "Values are told apart where their intervals do not meet, each at its own confidence; of many"
    " values the two that lie farthest apart are named."
)
_BRIEF = {
    "no target": "no target",
    "targets at distances": "too few targets",
    "document": "too few documents",
    "floor": "noise too high",
    "wide": "interval too wide",
}
"""What stands in a cell for a reason that holds these words; the notes have it in full."""
BANDS = 3
"""With more lines than this their bands would hide one another."""
CLASS = Option(
    "--class",
    "name",
    "classes: this one alone, such as copy or my.py:rare; default: each of the run's, a file each.",
    metavar="CLASS",
)


@dataclass(frozen=True)
class Contrast:
    """Two values of a token class whose lengths have intervals that do not meet.

    Args:
        name: The class.
        tolerance: The tolerance of both lengths.
        more: The value that needs more context, and its answer.
        less: The other value, and its answer.
        apart: Lower limit of the one over the upper limit of the other.
    """

    name: str
    tolerance: str
    more: tuple[str, str]
    less: tuple[str, str]
    apart: float

    def text(self) -> str:
        """Both values with their answers."""
        (more, long), (less, brief) = self.more, self.less
        at = spaced(self.tolerance)
        return f"by {self.name} at {at}, {long} tokens for “{more}”, {brief} for “{less}”"


def plot(
    runs: Sequence[OpenRun], *, condition: str | None = None, name: str | None = None
) -> Drawn:
    """Delta by distance and token class, for `probe plot`.

    Args:
        runs: One run.
        condition: The condition; without it ``truncate``, else the first.
        name: One class; without it each in a figure of its own.

    Raises:
        EmptyChartError: If no class has a curve.
    """
    (run,) = runs
    found = run.once(classes)[0] if name is None else read_classes(run, [name])
    curves = only(found.curves, "condition", condition, "--condition")
    if curves.empty:
        raise EmptyChartError("no curve of a token class to draw")
    for each, rows in curves.groupby(curves["class"].astype(str), sort=False):
        first, *_ = in_order(rows["condition"].astype(str))
        chart = class_chart(run, replace(found, curves=curves), str(each), first)
        if chart is None:
            raise EmptyChartError(f"no curve of class {each!r} to draw")
        yield "" if name else f"-{slug(str(each))}", chart


def asked(run: OpenRun) -> ClassSums:
    """Sums of the token classes that are asked for, to be counted as the run is opened."""
    names: Sequence[str] | None = run.classes
    if names is None:
        names = [name for name in run.analysis.classes or () if not is_user(name)] or None
    return _sums(run, names)


def _sums(run: OpenRun, names: Sequence[str] | None) -> ClassSums:
    chosen = default_classes(run) if names is None else names
    return ClassSums(run, classify(run, chosen, write=run.write))


PLOT = Plot("classes", plot, options=[CONDITION, CLASS])


@register("classes", order=100, plots=[PLOT], counts=lambda run: run.once(asked))
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """Curves, effective contexts and counts by class.

    Args:
        run: The open run.
        others: Not needed.
    """
    found, refused = run.once(classes)
    files: Files = {
        "classes.csv": found.curves,
        "findings.json": {
            "run": run.name,
            "notes": [*filter(None, [run.length_caveat]), *found.notes, *refused],
            "class_contexts": records(found.contexts),
            "class_counts": records(found.counts),
        },
    }
    notes = [*found.notes, *refused]
    title = "Token classes"
    if not run.has_length or (found.curves.empty and found.contexts.empty):
        return Finding("classes", title, notes=notes, files=files)
    main = run.main_condition or ""
    names = dict.fromkeys(
        [*found.curves["class"].astype(str), *found.contexts["class"].astype(str)]
    )
    charts = (
        class_chart(run, found, name, main, without=_too_small(found, name, main)) for name in names
    )
    return Finding(
        "classes",
        title,
        _sentence(found, main),
        tables=[_overview(run, found, main), _contexts(found)],
        charts=[chart for chart in charts if chart is not None],
        caveats=[APART, *_unresolved(found, main)],
        headlines=which(run, found),
        notes=notes,
        files=files,
    )


@register("occurrences", order=101)
def occurrence_finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """Delta by where the target last occurred.

    Args:
        run: The open run.
        others: Not needed.
    """
    found, _ = run.once(classes)
    return occurrences(run, found)


def classes(run: OpenRun) -> tuple[ClassCurves, tuple[str, ...]]:
    """The token classes that are asked for, and why some that the run names are not read.

    A run folder may come from anyone, and a file that it names as a token class is code: it is read
    only where the caller asks for it.

    Args:
        run: The open run.
    """
    found = class_curves(run, run.once(asked))
    if run.classes is not None:
        return found, ()
    refused = tuple(
        f"token class {name!r} is named by run.json and was not run, because it is code; to run "
        f"it: --class {name}"
        for name in run.analysis.classes or ()
        if is_user(name)
    )
    return found, refused


def which(run: OpenRun, found: ClassCurves) -> list[str]:
    """One or two sentences: which tokens need far text, or that no class differs.

    Args:
        run: The run.
        found: Its token classes.

    Returns:
        Nothing for a run without token classes, or without answers for two values of any.
    """
    main = run.main_condition
    if main is None or not _classes(found, main):
        return []
    lines = [seen] if (seen := last_seen(found, main)) else []
    apart = contrasts(found, main)
    if apart:
        best = apart[0]
        (more, long), (less, brief) = best.more, best.less
        lines.append(
            f"Of all token classes, lengths lie farthest apart by {best.name}: at a tolerance of"
            f" {spaced(best.tolerance)} under {main} {long} tokens for “{more}” and"
            f" {brief} for “{less}”."
        )
    elif not lines and _resolved(found, main):
        lines.append(
            f"No class of tokens is told from another under {main}: all their intervals meet."
        )
    return lines


def contrasts(found: ClassCurves, condition: str) -> list[Contrast]:
    """The farthest pair of values of each class, the farthest of all first.

    Args:
        found: The token classes.
        condition: The condition of the lengths.
    """
    every = found.contexts
    every = every[(every["condition"] == condition) & (every["kind"] != "unresolved")]
    best: dict[str, Contrast] = {}
    for (name, tolerance), rows in every.groupby(["class", "tolerance"], sort=False):
        pair = _apart(str(name), str(tolerance), records(rows))
        if pair and (pair.name not in best or pair.apart > best[pair.name].apart):
            best[pair.name] = pair
    return sorted(best.values(), key=lambda pair: -pair.apart)


def class_chart(
    run: OpenRun,
    found: ClassCurves,
    name: str,
    condition: str | None,
    without: Sequence[str] = (),
) -> Chart | None:
    """The non-increasing fits of one token class under one condition, a line a value.

    A value that is unresolved at the tolerance of the chart is grey. Of many values those with
    answers and most targets are drawn, and the others named.

    Args:
        run: The run.
        found: Its token classes.
        name: The class.
        condition: The condition; ``None`` is the run's main one.
        without: Values that are left out.
    """
    condition = condition or run.main_condition or ""
    rows = found.curves
    rows = rows[(rows["class"] == name) & (rows["condition"] == condition)]
    if rows.empty:
        return None
    answers, tolerance = _answers(found, name, condition)
    values, others = _values(rows, answers, without)
    measured = [value for value in values if (rows["value"].astype(str) == value).any()]
    resolved = [value for value in measured if answers.get(value, "") is not None]
    series = [
        _fitted(
            rows[rows["value"].astype(str) == value],
            value,
            look,
            banded=len(resolved) <= BANDS,
            answer=answers.get(value, ""),
        )
        for look, value in enumerate(values)
        if value in measured
    ]
    if not series:
        return None
    threshold = threshold_of(run)
    how = (
        "One never-rising fit a value of the class, which its length is read from; the means of"
        " the bins are in the table."
    )
    if len(others) > len(without):
        how += f" {len(others) - len(without)} more values are in the table alone."
    cells = [
        [
            str(row["value"]),
            between(row),
            ranged(row, "delta"),
            *(f"{int(row[count]):,}" for count in ("targets", "documents")),
        ]
        for row in records(rows)
    ]
    headers = ["value", "distance", "delta (nats a token)", "targets", "documents"]
    absent = [("grey", _label(value, "unresolved")) for value in values if value not in measured]
    scaled = [line.y for line in series if line.role == "series"] or [line.y for line in series]
    epsilon = _epsilon(tolerance)
    return Chart(
        f"{name}: delta under {condition}",
        distance_axis(float(rows["distance_to"].max())),
        delta_axis(np.concatenate(scaled), epsilon or threshold),
        series,
        [] if epsilon is None else [Rule(epsilon, spaced(str(tolerance)))],
        legend=[*absent, *([("", f"not drawn: {', '.join(others)}")] if others else [])],
        how=how,
        tables=[Table(f"{name} under {condition}", headers, cells)],
        heading=[run.model, run.data, f"{name}: {condition}"],
    )


def _answers(
    found: ClassCurves, name: str, condition: str
) -> tuple[dict[str, str | None], str | None]:
    """The answer of each value at the first tolerance at which any has one, and that tolerance.

    A value without an answer there has ``None``.
    """
    rows = found.contexts
    rows = rows[(rows["class"] == name) & (rows["condition"] == condition)]
    first = [*rows.loc[rows["kind"] != "unresolved", "tolerance"], *rows["tolerance"]][:1]
    texts: dict[str, str | None] = {}
    for row in records(rows[rows["tolerance"].isin(first)]):
        texts[str(row["value"])] = None if row["kind"] == "unresolved" else str(row["text"])
    return texts, str(first[0]) if first else None


def _values(
    rows: pd.DataFrame, answers: Mapping[str, str | None], without: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The values to draw, those with answers first, and the others."""

    def unresolved(value: str) -> bool:
        return answers.get(value, "") is None

    known = list(dict.fromkeys([*rows["value"].astype(str), *answers]))
    targets = rows.groupby(rows["value"].astype(str))["targets"].sum().to_dict()
    ranked = sorted(known, key=lambda value: (unresolved(value), -targets.get(value, 0)))
    best = [value for value in ranked if value not in without][:LOOKS]
    drawn = sorted((value for value in known if value in best), key=unresolved)
    return drawn, [value for value in ranked if value not in best]


def _epsilon(tolerance: str | None) -> float | None:
    """The tolerance in nats where it is the same for every value of a class."""
    parsed = None if tolerance is None else parse_tolerance(tolerance)
    return parsed.nats() if parsed is not None and parsed.unit in ("perplexity", "nats") else None


def _fitted(
    rows: pd.DataFrame, value: str, look: int, *, banded: bool, answer: str | None
) -> Series:
    """The fit of a class value where there is one, else its means; bands where few overlap."""
    unresolved = answer is None
    text = "unresolved" if answer is None else answer
    line = curve_series(rows, _label(value, text), look)
    limits = (line.low, line.high) if banded and not unresolved else (None, None)
    y = line.y if line.fit is None or np.isnan(line.fit).all() else line.fit
    role: Role = "grey" if unresolved else "series"
    points = False if unresolved else None  # a thin line, behind those with an answer
    return replace(line, y=y, fit=None, low=limits[0], high=limits[1], role=role, points=points)


def _label(value: str, answer: str) -> str:
    """A value with its answer; where both are too long for a legend, the value is cut."""
    return f"{one_line(value, max(8, 42 - len(answer)))}: {answer}" if answer else value


def _too_small(found: ClassCurves, name: str, condition: str) -> list[str]:
    """Values of a class that have no answer at any tolerance."""
    rows = found.contexts
    rows = rows[(rows["class"] == name) & (rows["condition"] == condition)]
    kinds = rows.groupby("value", sort=False)["kind"].agg(
        lambda kinds: set(kinds) == {"unresolved"}
    )
    return [str(value) for value in kinds.index[kinds.to_numpy(bool)]]


def _unresolved(found: ClassCurves, condition: str) -> list[str]:
    """One line a class and reason: values that have no answer, and so no line in its chart."""
    lines = []
    for name in dict.fromkeys(found.contexts["class"].astype(str)):
        rows = found.contexts
        rows = rows[(rows["class"] == name) & (rows["condition"] == condition)]
        reasons = {str(row["value"]): str(row.get("reasons") or "") for row in records(rows)}
        by_reason: dict[str, list[str]] = {}
        for value in _too_small(found, name, condition):
            by_reason.setdefault(reasons[value], []).append(value)
        for reason, values in by_reason.items():
            line = f"{name}: unresolved, hence not drawn: {', '.join(values)}"
            lines.append(f"{line} ({reason})" if reason else line)
    return lines


def _answer(row: Mapping[str, Any]) -> str:
    """An answer in a cell: of an unresolved one the reason in two or three words."""
    if row.get("kind") != "unresolved":
        return str(row["text"])
    reason = str(row.get("reasons") or "")
    brief = next((said for sign, said in _BRIEF.items() if sign in reason), reason)
    return f"unresolved: {brief}" if brief else "unresolved"


def _overview(run: OpenRun, found: ClassCurves, condition: str) -> Table:
    """Counts and lengths under one condition, a line for each value of each class."""
    rows = records(found.contexts[found.contexts["condition"] == condition])
    tolerances = list(dict.fromkeys(str(row["tolerance"]) for row in rows))
    answers = {
        (str(row["class"]), str(row["value"]), str(row["tolerance"])): _answer(row) for row in rows
    }
    cells = []
    for row in [*records(found.counts), *_no_class(found.counts, run.targets)]:
        key = str(row["class"]), str(row["value"])
        numbers = f"{int(row['targets']):,}", percent(row["share"]), length(row["documents"], "–")
        texts = (answers.get((*key, tolerance), "–") for tolerance in tolerances)
        cells.append([": ".join(key), *numbers, *texts])
    headers = ["class", "targets", "share", "documents", *map(spaced, tolerances)]
    caption = (
        f"Targets by class, each counted once, and effective context (tokens) under {condition}"
    )
    return Table(caption, headers, cells)


def _no_class(counts: pd.DataFrame, targets: int) -> list[dict[str, Any]]:
    """The targets that a class says nothing of, where there are any."""
    sums = counts.groupby("class", sort=False)["targets"].sum()
    return [
        {
            "class": name,
            "value": "no class",
            "targets": targets - int(count),
            "share": 1 - count / targets,
            "documents": None,
        }
        for name, count in sums.items()
        if count < targets
    ]


def _contexts(found: ClassCurves) -> Table:
    """Effective contexts: one row a class, value and condition, tolerances as columns."""
    rows = records(found.contexts)
    tolerances = list(dict.fromkeys(str(row["tolerance"]) for row in rows))
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        key = str(row["class"]), str(row["value"]), str(row["condition"])
        lines.setdefault(key, {})[str(row["tolerance"])] = _answer(row)
    cells = [
        [f"{key[0]}: {key[1]}", key[2], *(texts.get(at, "–") for at in tolerances)]
        for key, texts in lines.items()
    ]
    headers = ["class", "condition", *map(spaced, tolerances)]
    return Table("Effective context (tokens) by class and condition", headers, cells)


def _sentence(found: ClassCurves, condition: str) -> str:
    """What the classes tell of a condition, class by class."""
    apart = contrasts(found, condition)
    rest = [
        name for name in _classes(found, condition) if name not in {pair.name for pair in apart}
    ]
    parts = [pair.text() for pair in apart]
    if rest and _resolved(found, condition):
        parts.append(f"no value is told from another in {', '.join(rest)}")
    return f"Effective context under {condition}: {'; '.join(parts)}." if parts else ""


def _classes(found: ClassCurves, condition: str) -> list[str]:
    rows = found.contexts
    return list(dict.fromkeys(rows.loc[rows["condition"] == condition, "class"].astype(str)))


def _resolved(found: ClassCurves, condition: str) -> bool:
    """Whether two values of any class have answers that could differ."""
    rows = found.contexts
    rows = rows[(rows["condition"] == condition) & (rows["kind"] != "unresolved")]
    return bool((rows.groupby(["class", "tolerance"]).size() > 1).any())


def _apart(name: str, tolerance: str, rows: Sequence[dict[str, Any]]) -> Contrast | None:
    """The highest lower limit beside the lowest upper limit, where they do not meet."""
    long = max(
        (row for row in rows if not pd.isna(row["low"])), key=lambda row: row["low"], default=None
    )
    short = min(
        (row for row in rows if not pd.isna(row["high"])),
        key=lambda row: row["high"],
        default=None,
    )
    if long is None or short is None or long["low"] <= short["high"]:
        return None
    pairs = [(str(row["value"]), str(row["text"])) for row in (long, short)]
    return Contrast(name, tolerance, pairs[0], pairs[1], long["low"] / max(1, short["high"]))
