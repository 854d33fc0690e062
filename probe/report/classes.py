"""Token classes: a chart for each class under the main condition, lengths and counts as tables."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from probe.analysis.answer import in_order
from probe.analysis.record import records
from probe.analysis.tolerance import spaced
from probe.report.answers import curve_line, main_condition, threshold_of
from probe.report.charts import Chart, Line, Rule
from probe.report.explained import (
    Explained,
    Figure,
    Section,
    Table,
    between,
    figure,
    frame,
    length,
    percent,
    ranged,
)
from probe.report.svg import LOOKS, delta_scale, distance_scale
from probe.report.which import APART, class_finding

PLACES = ("condition", "distance_from", "distance_to", "where", "delta", "low", "high")
"""Columns of the frames that split targets by what stands near or far."""

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


def class_section(explained: Explained) -> Section | None:
    """Curves, effective contexts and counts by class; ``None`` without classes."""
    columns = ("class", "value", "condition", "distance_from", "distance_to")
    curves = frame(explained, "classes", *columns, "delta", "low", "high")
    contexts = frame(explained, "class_contexts", *columns[:3], "tolerance", "text")
    if curves.empty and contexts.empty:
        return None
    main = main_condition(explained.summary) or ""
    names = list(dict.fromkeys([*curves["class"].astype(str), *contexts["class"].astype(str)]))
    figures = [found for name in names if (found := _figure(explained, name, main)) is not None]
    tables = [table for table in (_overview(explained, main), _contexts(explained)) if table.rows]
    notes = [APART, *_unresolved(explained, main)]
    finding = class_finding(explained, main)
    return Section("classes", "Token classes", finding, figures, tables, notes)


def _figure(explained: Explained, name: str, condition: str) -> Figure | None:
    rows = frame(explained, "classes", "class", "value", "condition", "delta", "low", "high")
    rows = rows[(rows["class"] == name) & (rows["condition"] == condition)]
    if rows.empty:
        return None
    unclear = _too_small(explained, name, condition)
    values = [str(value) for value in dict.fromkeys(rows["value"]) if str(value) not in unclear]
    lines = [
        _fitted(rows[rows["value"].astype(str) == value], value, look, banded=len(values) <= BANDS)
        for look, value in enumerate(values[:LOOKS])
    ]
    if not lines:
        return None
    threshold = threshold_of(explained.summary)
    chart = Chart(
        f"{name}: delta under {condition}",
        distance_scale(float(rows["distance_to"].max())),
        delta_scale(np.concatenate([line.y for line in lines]), threshold),
        lines,
        [Rule(threshold, "")],
    )
    how = (
        "One never-rising fit a value of the class, which its length is read from; the means of"
        " the bins are in the table."
    )
    if len(values) > LOOKS:
        how += f" {len(values) - LOOKS} more values are in the table alone."
    headers = ["value", "distance", "delta (nats a token)", "targets", "documents"]
    cells = [
        [
            str(row["value"]),
            between(row),
            ranged(row, "delta"),
            *(f"{int(row[count]):,}" for count in ("targets", "documents")),
        ]
        for row in records(rows)
    ]
    return figure(chart, how, Table(f"{name} under {condition}", headers, cells))


def _fitted(rows: pd.DataFrame, value: str, look: int, *, banded: bool) -> Line:
    """The fit of a class value where there is one, else its means; bands where few overlap."""
    line = curve_line(rows, value, look)
    limits = (line.low, line.high) if banded else (None, None)
    y = line.y if line.fit is None or np.isnan(line.fit).all() else line.fit
    return replace(line, y=y, fit=None, low=limits[0], high=limits[1])


def _too_small(explained: Explained, name: str, condition: str) -> list[str]:
    """Values of a class that have no answer at any tolerance."""
    rows = frame(explained, "class_contexts", "class", "value", "condition", "kind")
    own = rows[(rows["class"] == name) & (rows["condition"] == condition)]
    found = own.groupby("value", sort=False)["kind"].agg(lambda kinds: set(kinds) == {"unresolved"})
    return [str(value) for value in found.index[found.to_numpy(bool)]]


def _unresolved(explained: Explained, condition: str) -> list[str]:
    """One line a class and reason: values that have no answer, and so no line in its chart."""
    rows = frame(explained, "class_contexts", "class", "value", "condition", "kind")
    lines = []
    for name in dict.fromkeys(rows["class"].astype(str)):
        own = rows[(rows["class"] == name) & (rows["condition"] == condition)]
        reasons = {str(row["value"]): str(row.get("reasons") or "") for row in records(own)}
        by_reason: dict[str, list[str]] = {}
        for value in _too_small(explained, name, condition):
            by_reason.setdefault(reasons[value], []).append(value)
        for reason, values in by_reason.items():
            told = f"{name}: unresolved, hence not drawn: {', '.join(values)}"
            lines.append(f"{told} ({reason})" if reason else told)
    return lines


def _answer(row: Mapping[str, Any]) -> str:
    """An answer in a cell: of an unresolved one the reason in two or three words."""
    if row.get("kind") != "unresolved":
        return str(row["text"])
    reason = str(row.get("reasons") or "")
    brief = next((said for sign, said in _BRIEF.items() if sign in reason), reason)
    return f"unresolved: {brief}" if brief else "unresolved"


def _overview(explained: Explained, condition: str) -> Table:
    """Counts and lengths under one condition, a line for each value of each class."""
    counts = frame(explained, "class_counts", "class", "value", "targets", "share", "documents")
    contexts = frame(
        explained, "class_contexts", "class", "value", "condition", "tolerance", "text"
    )
    own = records(contexts[contexts["condition"] == condition])
    tolerances = list(dict.fromkeys(str(row["tolerance"]) for row in own))
    answers = {
        (str(row["class"]), str(row["value"]), str(row["tolerance"])): _answer(row) for row in own
    }
    cells = []
    for row in [*records(counts), *_no_class(counts, explained.summary.targets)]:
        key = str(row["class"]), str(row["value"])
        numbers = f"{int(row['targets']):,}", percent(row["share"]), length(row["documents"], "–")
        found = (answers.get((*key, tolerance), "–") for tolerance in tolerances)
        cells.append([": ".join(key), *numbers, *found])
    headers = ["class", "targets", "share", "documents"]
    headers += map(spaced, tolerances)
    caption = (
        f"Targets by class, each counted once, and effective context (tokens) under {condition}"
    )
    return Table(caption, headers, cells)


def _no_class(counts: pd.DataFrame, targets: int) -> list[dict[str, Any]]:
    """The targets that a class says nothing of, where there are any."""
    found = counts.groupby("class", sort=False)["targets"].sum()
    return [
        {
            "class": name,
            "value": "no class",
            "targets": targets - int(own),
            "share": 1 - own / targets,
            "documents": None,
        }
        for name, own in found.items()
        if own < targets
    ]


def _contexts(explained: Explained) -> Table:
    """Effective contexts: one row a class, value and condition, tolerances as columns."""
    columns = ("class", "value", "condition", "tolerance", "text")
    rows = records(frame(explained, "class_contexts", *columns))
    tolerances = list(dict.fromkeys(str(row["tolerance"]) for row in rows))
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        key = str(row["class"]), str(row["value"]), str(row["condition"])
        lines.setdefault(key, {})[str(row["tolerance"])] = _answer(row)
    cells = [
        [f"{key[0]}: {key[1]}", key[2], *(found.get(at, "–") for at in tolerances)]
        for key, found in lines.items()
    ]
    headers = ["class", "condition", *map(spaced, tolerances)]
    return Table("Effective context (tokens) by class and condition", headers, cells)


def occurrence_section(explained: Explained) -> Section | None:
    """Delta by where the target last occurred, relative to the boundary: a table, no length."""
    rows = frame(explained, "occurrences", *PLACES)
    if rows.empty:
        return None
    tables = [_places(rows, "Delta (nats a token) by where the target last occurred")]
    if len(copies := frame(explained, "copies", *PLACES)):
        caption = "Delta (nats a token) by where the text that the target continues was seen"
        tables.append(_places(copies, caption))
    main = main_condition(explained.summary)
    return Section(
        "occurrences",
        "Where the target last occurred",
        _last(records(rows[rows["condition"] == main]), str(main)),
        [],
        tables,
        [
            "Near or far is meant relative to the boundary, so that a target changes its group"
            " along the curve: a table, never a length."
        ],
    )


def _places(rows: pd.DataFrame, caption: str) -> Table:
    """Delta by condition and octave, a column for each place."""
    places = [place for place in ("far", "near", "nowhere") if (rows["where"] == place).any()]
    lines: dict[tuple[str, int, str], dict[str, str]] = {}
    for row in records(rows):
        key = str(row["condition"]), int(row["distance_from"]), between(row)
        lines.setdefault(key, {})[str(row["where"])] = ranged(row, "delta")
    order = {name: place for place, name in enumerate(in_order(key[0] for key in lines))}
    cells = [
        [key[0], key[2], *(lines[key].get(place, "–") for place in places)]
        for key in sorted(lines, key=lambda key: (order[key[0]], key[1]))
    ]
    headers = ["condition", "distance", *(f"seen {place}" for place in places)]
    return Table(caption, headers, cells)


def _last(rows: list[dict[str, Any]], main: str) -> str:
    """Far against nowhere at the farthest octave that has both."""
    cells = {(int(row["distance_from"]), row["where"]): row for row in rows}
    both = [start for start, where in cells if where == "far" and (start, "nowhere") in cells]
    if not both:
        return ""
    far, nowhere = (cells[max(both), place] for place in ("far", "nowhere"))
    return (
        f"Under {main} at {between(far)}: {ranged(far, 'delta')} nats where the token was last seen"
        f" in the far text, {ranged(nowhere, 'delta')} where it had not been seen."
    )
