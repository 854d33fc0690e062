"""Delta against distance: one run, or several over one another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from probe.analysis.answer import conditions_of, counts, epsilons, headline, in_order, short
from probe.analysis.effective import EffectiveContext
from probe.analysis.floor import without_noise
from probe.analysis.summary import Summary
from probe.analysis.tolerance import spaced
from probe.plots import marks, scales, style
from probe.results.folder import unique_labels


def curve(summaries: Summary | Sequence[Summary], ax: Axes | None = None) -> Axes:
    """Draw delta against distance, one line a condition, with everything needed to read it.

    Bands are pointwise intervals over documents, hairlines the fitted curves. The shaded strip
    around 0 is the noise floor, dotted lines are the tolerances, grey points have less far than
    near text. The diamond is the effective context of ``truncate`` (else of the first condition)
    at the smallest tolerance that has an answer, its bar the interval; an arrow means beyond reach.

    Args:
        summaries: One summary, or several to draw over one another: then colour tells the run,
            line and marker the condition.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes: distance (tokens) on an axis that is linear to 1 and then logarithmic to base 2,
        delta (nats a token) linear to the smallest tolerance and logarithmic from there.

    Raises:
        EmptyFigureError: If no summary is given, or none has a curve.
    """
    drawn = [summaries] if isinstance(summaries, Summary) else list(summaries)
    conditions = in_order(name for each in drawn for name in conditions_of(each))
    if not conditions:
        raise style.EmptyFigureError("no summary with a curve to draw")
    with style.sheet():
        names = unique_labels([each.run for each in drawn])
        titles = _titles(drawn, names)
        axes = style.column(_height(drawn, len(conditions), titles)) if ax is None else ax
        handles: list[Line2D | Patch] = []
        for number, summary in enumerate(drawn):
            for condition in conditions:
                look = _look(number if len(drawn) > 1 else None, conditions.index(condition))
                rows = summary.curve[summary.curve["condition"] == condition]
                if rows.empty:
                    continue
                _line(axes, rows, look)
                named = f"{names[number]}: {condition}" if len(drawn) > 1 else condition
                handles.append(marks.handle(style.short(named), look))
        tolerances = {value: text for each in drawn for value, text in epsilons(each).items()}
        shown = pd.concat([summary.curve for summary in drawn])
        shown = without_noise(shown)
        scales.distances(axes, shown)
        scales.deltas(axes, shown, min(tolerances, default=0.01))
        handles += _noise_and_grey(axes, drawn)
        scales.lines_at(axes, tolerances)
        _contexts(axes, drawn)
        axes.set_title("\n".join(titles))
        marks.legend_below(axes, [*handles, *_answer(drawn)])
    return axes


def _height(summaries: Sequence[Summary], conditions: int, titles: Sequence[str]) -> float:
    """Height of the figure (inches): what many lines of words take is not the curve's loss."""
    entries = len(summaries) * conditions + 2
    return 3.3 + style.ENTRY * max(0, entries - 5) + 0.12 * max(0, len(titles) - 3)


def _look(run: int | None, condition: int) -> dict[str, Any]:
    """Of one run all differs between conditions; of several the colour is the run's."""
    own = style.look(condition)
    return own if run is None else {**own, "color": style.look(run)["color"]}


def _line(axes: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
    for grey, part in rows.groupby("grey"):
        marks.line(axes, part, {**look, "color": style.GREY} if grey else look)
        if not grey:
            marks.fitted(axes, part, look["color"])


def _noise_and_grey(axes: Axes, summaries: Sequence[Summary]) -> list[Line2D | Patch]:
    """Shade the floors, and give the legend what was shaded or drawn grey."""
    handles: list[Line2D | Patch] = []
    for summary in summaries:
        if summary.floor is not None:
            limit = np.append(summary.floor.limit, summary.floor.limit[-1])
            edges = np.append(summary.floor.lower, summary.floor.upper[-1])
            axes.fill_between(edges, -limit, limit, step="post", zorder=0, **style.FLOOR)
    floors = [summary.floor.limit for summary in summaries if summary.floor is not None]
    if floors:
        highest = np.nanmax(np.concatenate(floors))
        handles.append(Patch(label=f"noise floor, at most {highest:.1g} nats", **style.FLOOR))
    if any(summary.curve["grey"].any() for summary in summaries):
        handles.append(Line2D([], [], color=style.GREY, label="less far than near text"))
    scales.zero(axes)
    return handles


def _contexts(axes: Axes, summaries: Sequence[Summary]) -> None:
    for number, summary in enumerate(summaries):
        context = headline(summary)
        if context is None or context.kind == "unresolved" or context.epsilon is None:
            continue
        colour = "black" if len(summaries) == 1 else style.look(number)["color"]
        _interval(axes, context, context.epsilon, colour)


def _interval(axes: Axes, context: EffectiveContext, height: float, colour: str) -> None:
    """Diamond and bar of one answer, on the line of its tolerance."""
    start = context.reach if context.lower is None else context.lower
    end = context.reach if context.upper is None else context.upper
    axes.plot([start, end], [height, height], color=colour, linewidth=2.2, alpha=0.75, zorder=4)
    place = context.reach if context.estimate is None else context.estimate
    if context.upper is None:
        axes.plot(
            [context.reach],
            [height],
            marker=">",
            color=colour,
            markersize=5,
            zorder=5,
            clip_on=False,
        )
    if context.estimate is not None:
        axes.plot(
            [place],
            [height],
            marker="D",
            markersize=5,
            color=colour,
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=6,
        )


def _answer(summaries: Sequence[Summary]) -> list[Line2D]:
    """What the legend says of the diamond, where one is drawn."""
    marked = headline(summaries[0])
    if marked is None or marked.kind == "unresolved" or marked.epsilon is None:
        return []
    answer = f"{marked.condition}, {spaced(marked.tolerance)}: {short(marked)}"
    alone = len(summaries) == 1
    label = style.short(answer) if alone else f"effective context, {marked.tolerance}, by run"
    colour = "black" if alone else style.GREY
    return [Line2D([], [], color=colour, marker="D", linewidth=2.2, markersize=4, label=label)]


def _titles(summaries: Sequence[Summary], names: Sequence[str]) -> list[str]:
    """Model, data and counts; what several runs have in common stands in the first lines."""
    told = ("model", "data")
    shared = [name for name in told if len({getattr(each, name) for each in summaries}) == 1]
    lines = [str(getattr(summaries[0], name)) for name in shared]
    if len(summaries) == 1:
        lines.append(", ".join(counts(summaries[0])))
    else:
        for name, each in zip(names, summaries, strict=True):
            own = [str(getattr(each, what)) for what in told if what not in shared]
            lines.append(f"{name}: {', '.join([counts(each)[0], *own])}")
    return [style.short(line, 56) for line in lines]
