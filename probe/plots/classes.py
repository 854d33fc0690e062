"""Delta against distance by token class: one line a value of the class."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from probe.analysis.answer import in_order
from probe.analysis.tolerance import parse_tolerance, spaced
from probe.plots import marks, scales, style

_GREY: dict[str, Any] = {"color": style.GREY, "linewidth": 0.7, "zorder": 1.5}

MOST = 6
"""So many values are drawn and told of; the legend names the others."""
BANDS = 3
"""With more lines than this their bands would hide one another."""


def classes(
    curves: pd.DataFrame,
    contexts: pd.DataFrame | None = None,
    *,
    name: str | None = None,
    condition: str | None = None,
    tolerance: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the never-rising fits of one token class under one condition.

    Marks stand at the ends of each; with at most three of them, the pointwise bands of their bins
    too. A value without an answer is unresolved: its curve is grey and alone, and the legend says
    so. The other entries give the effective context of their value at the tolerance, the dotted
    line. Of many values the six that most targets have are drawn, and the others named.

    Args:
        curves: Curves per class, columns ``class, value, condition, distance_from, distance_to,
            delta, low, high, fit, targets`` (tokens; nats a token).
        contexts: Effective contexts per class, columns ``class, value, condition, tolerance, kind,
            text``; without them no value is unresolved, and the legend has no lengths.
        name: The class; without it the first one.
        condition: The condition; without it ``truncate``, else the first.
        tolerance: The tolerance of the lengths; without it the first at which any value has one.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes: distance (tokens) and delta (nats a token), as in `curve`.

    Raises:
        EmptyFigureError: If the class has no curve under the condition.
    """
    name = str(curves["class"].iloc[0]) if name is None and len(curves) else name
    of_class = curves[curves["class"] == name]
    conditions = in_order(of_class["condition"].astype(str))
    condition = conditions[0] if condition is None and conditions else condition
    rows = of_class[of_class["condition"] == condition]
    if rows.empty:
        raise style.EmptyFigureError(
            f"no curve of class {name!r} under the condition {condition!r} to draw"
        )
    answers = _answers(contexts, name, condition)
    tolerance = _tolerance(answers) if tolerance is None else tolerance
    told = _texts(answers, tolerance)
    values, others = _values(rows, told)
    with style.sheet():
        axes = style.column(2.5 + style.ENTRY * (len(values) + bool(others))) if ax is None else ax
        handles = _lines(axes, rows, values, told)
        if others:
            label = style.short(f"not drawn: {', '.join(others)}", 52)
            handles.append(Line2D([], [], linestyle="none", label=label))
        epsilon = _epsilon(tolerance)
        scales.distances(axes, rows)
        scales.deltas(axes, _scaled(rows, values, told), epsilon or 0.01)
        scales.zero(axes)
        scales.lines_at(axes, {epsilon: spaced(str(tolerance))} if epsilon else {})
        axes.set_title(style.short(f"{name}: {condition}", 56))
        marks.legend_below(axes, handles)
    return axes


def _answers(
    contexts: pd.DataFrame | None, name: str | None, condition: str | None
) -> pd.DataFrame:
    if contexts is None:
        return pd.DataFrame(columns=["value", "tolerance", "kind", "text"])
    return contexts[(contexts["class"] == name) & (contexts["condition"] == condition)]


def _tolerance(answers: pd.DataFrame) -> str | None:
    """The first tolerance at which any value has an answer, else the first of all."""
    resolved = answers[answers["kind"] != "unresolved"]
    found = list(resolved["tolerance"]) or list(answers["tolerance"])
    return str(found[0]) if found else None


def _texts(answers: pd.DataFrame, tolerance: str | None) -> dict[str, str | None]:
    """The printed answer of each value at the tolerance, ``None`` where it is unresolved."""
    at = answers[answers["tolerance"] == tolerance]
    told: dict[str, str | None] = {}
    for value, kind, text in zip(at["value"], at["kind"], at["text"], strict=True):
        told[str(value)] = None if kind == "unresolved" else str(text)
    return told


def _values(rows: pd.DataFrame, told: Mapping[str, str | None]) -> tuple[list[str], list[str]]:
    """The values to draw, those with answers first, and the others."""
    known = list(dict.fromkeys([*rows["value"].astype(str), *told]))
    targets = rows.groupby(rows["value"].astype(str))["targets"].sum().to_dict()
    best = sorted(known, key=lambda value: (told.get(value, "") is None, -targets.get(value, 0)))
    kept = set(best[:MOST])
    drawn = [value for value in known if value in kept]
    others = [value for value in best if value not in kept]
    return sorted(drawn, key=lambda value: told.get(value, "") is None), others


def _scaled(
    rows: pd.DataFrame, values: Sequence[str], told: Mapping[str, str | None]
) -> pd.DataFrame:
    """The rows that the axis has to hold: those with answers, unless none has."""
    resolved = [value for value in values if told.get(value, "") is not None]
    own = rows[rows["value"].astype(str).isin(resolved)]
    return rows if own.empty else own


def _lines(
    axes: Axes, rows: pd.DataFrame, values: Sequence[str], told: Mapping[str, str | None]
) -> list[Line2D]:
    """Draw each value and give the legend's entries; what is unresolved is grey."""
    handles = []
    banded = sum(told.get(value, "") is not None for value in values) <= BANDS
    for number, value in enumerate(values):
        text = told.get(value, "")
        own = rows[rows["value"].astype(str) == value].sort_values("distance_from")
        look = _GREY if text is None else style.look(number)
        if text is not None and banded:
            marks.band(axes, own, look, 0.1)
        if len(own):
            marks.fit(axes, own, look)
        handles.append(marks.handle(_label(value, text), look))
    return handles


def _label(value: str, text: str | None) -> str:
    """A value with its answer; of the two the value is cut."""
    answer = "unresolved" if text is None else text
    if not answer:
        return style.short(value)
    return style.short(f"{style.short(value, max(8, 42 - len(answer)))}: {answer}")


def _epsilon(tolerance: str | None) -> float | None:
    """The tolerance in nats where it is the same for every value of a class."""
    parsed = None if tolerance is None else parse_tolerance(tolerance)
    return parsed.nats() if parsed is not None and parsed.unit in ("perplexity", "nats") else None
