"""Token classes: which tokens need far context, with curves, lengths and counts by class."""

from collections.abc import Collection, Mapping, Sequence
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
from probe.findings.table import (
    Table,
    between,
    estimate,
    length,
    of_lengths,
    percent,
    pivot,
    ranged,
    records,
)
from probe.results.tolerance import parse_tolerance, spaced
from probe.text import one_line, slug

APART = (
    "Two values differ where their intervals do not overlap, each at its own confidence; of many"
    " values the two that are farthest apart are named."
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
    "classes: this one alone, such as copy or my.py:rare; default: all of the run, one file each.",
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

    def text(self, unit: str = "tokens") -> str:
        """Both values with their answers."""
        (more, long), (less, brief) = self.more, self.less
        at = spaced(self.tolerance)
        return f"by {self.name} at {at}, {long} {unit} for “{more}”, {brief} for “{less}”"


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
    curves = only(found.curves, "condition", condition, "condition")
    if curves.empty:
        raise EmptyChartError("no curve of a token class to draw")
    drawn, without = [], []
    for each, rows in curves.groupby(curves["class"].astype(str), sort=False):
        first, *_ = in_order(rows["condition"].astype(str))
        chart = class_chart(run, replace(found, curves=curves), str(each), first)
        if chart is None:
            without.append(f"{each}: no value has an answer under {first}, hence no figure")
        else:
            drawn.append(("" if name else f"-{slug(str(each))}", chart))
    if not drawn:
        raise EmptyChartError("; ".join(without))
    (ending, chart), *others = drawn
    yield ending, replace(chart, notes=without)
    yield from others


def asked(run: OpenRun) -> ClassSums:
    """Sums of the token classes that are asked for, to be counted as the run is opened."""
    names: Sequence[str] | None = run.classes
    if names is None:
        configured = (name for name in run.analysis.classes or () if not is_user(name))
        names = tuple(configured) or default_classes(run)
    return ClassSums(run, classify(run, names, write=run.write))


@register(
    "classes",
    order=100,
    plots=[Plot("classes", plot, options=[CONDITION, CLASS])],
    counts=lambda run: run.once(asked),
)
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """Curves, effective contexts and counts by class.

    Args:
        run: The open run.
        others: Not needed.
    """
    found, refused = run.once(classes)
    notes = [*found.notes, *refused]
    files: Files = {
        "classes.csv": found.curves,
        "findings.json": {
            "run": run.name,
            "notes": [*filter(None, [run.length_caveat]), *notes],
            "class_contexts": records(found.contexts.drop(columns="short")),
            "class_counts": records(found.counts),
        },
    }
    nothing = Finding("classes", "Token classes", notes=notes, files=files)
    if not run.has_length or (found.curves.empty and found.contexts.empty):
        return nothing
    main = run.main_condition or ""
    names = dict.fromkeys(
        [*found.curves["class"].astype(str), *found.contexts["class"].astype(str)]
    )
    charts = (class_chart(run, found, name, main) for name in names)
    return replace(
        nothing,
        sentence=_sentence(found, main, run.unit),
        tables=[_overview(run, found, main), _contexts(found, run.unit)],
        charts=[chart for chart in charts if chart is not None],
        caveats=[APART, *_unresolved(found, main)],
        headlines=which(run, found),
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
    if main is None or _rows(found.contexts, main).empty:
        return []
    lines = [seen] if (seen := last_seen(found, main)) else []
    apart = contrasts(found, main)
    if apart:
        best = apart[0]
        (more, long), (less, brief) = best.more, best.less
        lines.append(
            f"Of all token classes, effective context differs most by {best.name}: at"
            f" {spaced(best.tolerance)} under {main}, {long} {run.unit} for “{more}” and"
            f" {brief} for “{less}”."
        )
    elif not lines and _resolved(found, main):
        lines.append(
            f"No two values of a token class differ in effective context under {main}: their"
            " intervals overlap."
        )
    return lines


def contrasts(found: ClassCurves, condition: str) -> list[Contrast]:
    """The farthest pair of values of each class, the farthest of all first.

    Args:
        found: The token classes.
        condition: The condition of the lengths.
    """
    rows = _rows(found.contexts, condition)
    groups = rows[rows["kind"] != "unresolved"].groupby(["class", "tolerance"], sort=False)
    pairs = [pair for (name, at), own in groups if (pair := _apart(str(name), str(at), own))]
    farthest: dict[str, Contrast] = {}
    for pair in sorted(pairs, key=lambda pair: -pair.apart):
        farthest.setdefault(pair.name, pair)
    return list(farthest.values())


def class_chart(run: OpenRun, found: ClassCurves, name: str, condition: str | None) -> Chart | None:
    """The non-increasing fits of one token class under one condition, a line a value.

    A value that is unresolved at the tolerance of the chart is grey, one that is so at every
    tolerance is named alone. Of many values those with answers and most targets are drawn.

    Args:
        run: The run.
        found: Its token classes.
        name: The class.
        condition: The condition; ``None`` is the run's main one.

    Returns:
        The chart, ``None`` without a value to draw.
    """
    condition = condition or run.main_condition or ""
    rows = _rows(found.curves, condition, name)
    if rows.empty:
        return None
    answers, tolerance = _answers(_rows(found.contexts, condition, name))
    without = _too_small(found, name, condition)
    values, others = _values(rows, answers, without)
    by_value = dict(list(rows.groupby(rows["value"].astype(str))))
    resolved = [v for v in values if v in by_value and answers.get(v, "") is not None]
    banded = len(resolved) <= BANDS
    series = [
        _fitted(by_value[value], value, look, banded=banded, answer=answers.get(value, ""))
        for look, value in enumerate(values)
        if value in by_value
    ]
    if not series:
        return None
    how = (
        "One non-increasing (isotonic) fit per value of the class, from which its length is read;"
        " the means of the bins are in the table."
    )
    if len(others) > len(without):
        how += f" {len(others) - len(without)} more values are in the table only."
    cells = [
        [
            str(row["value"]),
            between(row),
            ranged(row, "delta"),
            *(f"{int(row[count]):,}" for count in ("targets", "documents")),
        ]
        for row in records(rows)
    ]
    headers = ["value", "distance", "delta (nats per token)", "targets", "documents"]
    absent = [("grey", _label(value, "unresolved")) for value in values if value not in by_value]
    scaled = [line.y for line in series if line.role == "series"] or [line.y for line in series]
    epsilon = _epsilon(tolerance)
    return Chart(
        f"{name}: delta under {condition}",
        distance_axis(float(rows["distance_to"].max()), unit=run.unit),
        delta_axis(np.concatenate(scaled), epsilon or threshold_of(run)),
        series,
        [] if epsilon is None else [Rule(epsilon, spaced(str(tolerance)))],
        legend=[*absent, *([("", f"not drawn: {', '.join(others)}")] if others else [])],
        how=how,
        tables=[Table(f"{name} under {condition}", headers, cells)],
        heading=[run.model, run.data, f"{name}: {condition}"],
    )


def _rows(frame: pd.DataFrame, condition: str, name: str | None = None) -> pd.DataFrame:
    """The rows of a condition, of one class or of all."""
    rows = frame[frame["condition"] == condition]
    return rows if name is None else rows[rows["class"] == name]


def _answers(rows: pd.DataFrame) -> tuple[dict[str, str | None], str | None]:
    """The answer of each value at the first tolerance at which any has one, and that tolerance.

    A value without an answer there has ``None``.
    """
    first = [*rows.loc[rows["kind"] != "unresolved", "tolerance"], *rows["tolerance"]][:1]
    texts = {
        str(row["value"]): None if row["kind"] == "unresolved" else str(row["short"])
        for row in records(rows[rows["tolerance"].isin(first)])
    }
    return texts, str(first[0]) if first else None


def _values(
    rows: pd.DataFrame, answers: Mapping[str, str | None], without: Collection[str]
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
    y = line.y if rows["fit"].isna().all() else rows["fit"].to_numpy(float)
    role: Role = "grey" if unresolved else "series"
    points = False if unresolved else None  # a thin line, behind those with an answer
    return replace(line, y=y, low=limits[0], high=limits[1], role=role, points=points)


def _label(value: str, answer: str) -> str:
    """A value with its answer; where both are too long for a legend, the value is cut."""
    return f"{one_line(value, max(8, 42 - len(answer)))}: {answer}" if answer else value


def _too_small(found: ClassCurves, name: str, condition: str) -> dict[str, str]:
    """Values of a class that have no answer at any tolerance, each with the reason."""
    rows = _rows(found.contexts, condition, name)
    answered = set(rows.loc[rows["kind"] != "unresolved", "value"])
    return {
        str(row["value"]): str(row.get("reasons") or "")
        for row in records(rows[~rows["value"].isin(answered)])
    }


def _unresolved(found: ClassCurves, condition: str) -> list[str]:
    """One line a class and reason: values that have no answer, and so no line in its chart."""
    lines = []
    for name in dict.fromkeys(found.contexts["class"].astype(str)):
        by_reason: dict[str, list[str]] = {}
        for value, reason in _too_small(found, name, condition).items():
            by_reason.setdefault(reason, []).append(value)
        for reason, values in by_reason.items():
            line = f"{name}: unresolved, hence not drawn: {', '.join(values)}"
            lines.append(f"{line} ({reason})" if reason else line)
    return lines


def _answer(row: Mapping[str, Any]) -> str:
    """An answer in a cell: of an unresolved one the reason in two or three words."""
    if row.get("kind") != "unresolved":
        return str(row["short"])
    reason = str(row.get("reasons") or "")
    brief = next((said for sign, said in _BRIEF.items() if sign in reason), reason)
    return f"unresolved: {brief}" if brief else "unresolved"


def _overview(run: OpenRun, found: ClassCurves, condition: str) -> Table:
    """Counts and lengths under one condition, a line for each value of each class."""
    rows = records(_rows(found.contexts, condition))
    tolerances = list(dict.fromkeys(str(row["tolerance"]) for row in rows))
    by_key = {(str(row["class"]), str(row["value"]), str(row["tolerance"])): row for row in rows}
    cells: list[list[str]] = []
    details: dict[tuple[int, int], str] = {}
    for row in [*records(found.counts), *records(_no_class(found.counts, run.targets))]:
        key = str(row["class"]), str(row["value"])
        line = [f"{int(row['targets']):,}", percent(row["share"]), length(row["documents"], "–")]
        line.insert(0, ": ".join(key))
        for tolerance in tolerances:
            answer = by_key.get((*key, tolerance))
            if answer and (more := estimate(answer)):
                details[len(cells), len(line)] = more
            line.append(_answer(answer) if answer else "–")
        cells.append(line)
    headers = ["class", "targets", "share", "documents", *map(spaced, tolerances)]
    caption = (
        f"Targets by class, each counted once, and effective context ({run.unit}) under {condition}"
    )
    return Table(of_lengths(caption, rows), headers, cells, details=details)


def _no_class(counts: pd.DataFrame, targets: int) -> pd.DataFrame:
    """The targets that a class says nothing of, where there are any."""
    sums = counts.groupby("class", sort=False, as_index=False)["targets"].sum()
    share = 1 - sums["targets"] / targets
    rest: pd.DataFrame = sums.assign(
        value="no class", targets=targets - sums["targets"], share=share, documents=np.nan
    )
    return rest[rest["targets"] > 0]


def _contexts(found: ClassCurves, unit: str) -> Table:
    """Effective contexts: one row a class, value and condition, tolerances as columns."""
    frame = found.contexts.assign(tolerance=found.contexts["tolerance"].astype(str).map(spaced))
    rows = records(frame)
    return pivot(
        of_lengths(f"Effective context ({unit}) by class and condition", rows),
        rows,
        dict.fromkeys(frame["tolerance"]),
        by="tolerance",
        cell=_answer,
        head={
            "class": lambda row: f"{row['class']}: {row['value']}",
            "condition": lambda row: str(row["condition"]),
        },
        detail=estimate,
        line=["class", "value", "condition"],
    )


def _sentence(found: ClassCurves, condition: str, unit: str) -> str:
    """What the classes tell of a condition, class by class."""
    apart = contrasts(found, condition)
    names = dict.fromkeys(_rows(found.contexts, condition)["class"].astype(str))
    rest = [name for name in names if name not in {pair.name for pair in apart}]
    parts = [pair.text(unit) for pair in apart]
    if rest and _resolved(found, condition):
        parts.append(f"no two values differ in {', '.join(rest)}")
    if not parts:
        return f"No token class has two values with a length under {condition} to compare."
    return f"Effective context under {condition}: {'; '.join(parts)}."


def _resolved(found: ClassCurves, condition: str) -> bool:
    """Whether two values of any class have answers that could differ."""
    rows = _rows(found.contexts, condition)
    rows = rows[rows["kind"] != "unresolved"]
    return bool(rows.duplicated(["class", "tolerance"]).any())


def _apart(name: str, tolerance: str, rows: pd.DataFrame) -> Contrast | None:
    """The highest lower limit beside the lowest upper limit, where they do not meet."""
    low, high = rows["low"].max(), rows["high"].min()
    if pd.isna(low) or pd.isna(high) or low <= high:
        return None
    ends = rows.loc[[rows["low"].idxmax(), rows["high"].idxmin()]]
    more, less = ((str(row["value"]), str(row["short"])) for row in records(ends))
    return Contrast(name, tolerance, more, less, low / max(1, high))
