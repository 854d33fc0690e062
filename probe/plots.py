"""Figures of a run: a summary in, matplotlib axes out; nothing global is changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from probe.analysis.answer import counts, headline, in_order, short
from probe.analysis.effective import EffectiveContext
from probe.analysis.floor import is_noise
from probe.analysis.summary import Summary
from probe.plot_style import (
    COLOURS,
    FLOOR,
    GREY,
    LINES,
    MARKERS,
    STYLE,
    WIDTH,
    scales,
    tolerances,
)


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
        ValueError: If no summary is given, or none has a curve.
    """
    drawn = [summaries] if isinstance(summaries, Summary) else list(summaries)
    conditions = _conditions(drawn)
    if not conditions:
        raise ValueError("no summary with a curve to draw")
    with mpl.rc_context(STYLE):
        axes = Figure(figsize=(WIDTH, 3.3), layout="constrained").subplots() if ax is None else ax
        handles: list[Line2D | Patch] = []
        for number, summary in enumerate(drawn):
            for condition in conditions:
                look = _look(number if len(drawn) > 1 else None, conditions.index(condition))
                rows = summary.curve[summary.curve["condition"] == condition]
                if rows.empty:
                    continue
                _line(axes, rows, look)
                named = f"{summary.run.name}: {condition}" if len(drawn) > 1 else condition
                handles.append(Line2D([], [], label=_short(named), **look))
        scales(axes, drawn)
        handles += _noise_and_grey(axes, drawn)
        tolerances(axes, drawn)
        _contexts(axes, drawn)
        _words(axes, drawn, handles)
    return axes


def save(figure: Axes | Figure, path: str | Path) -> tuple[Path, Path]:
    """Write a figure as PNG (300 dots an inch) and SVG; equal figures give equal bytes.

    Args:
        figure: The figure, or axes in it.
        path: Path without suffix; the folder is made if need be.

    Returns:
        The two files, PNG and SVG.
    """
    whole = figure.get_figure(root=True) if isinstance(figure, Axes) else figure
    if whole is None:
        raise ValueError("these axes belong to no figure")
    base = Path(path)
    base.parent.mkdir(parents=True, exist_ok=True)
    files = base.with_name(base.name + ".png"), base.with_name(base.name + ".svg")
    with mpl.rc_context(STYLE):
        whole.savefig(files[0], dpi=300, metadata={"Software": None})
        whole.savefig(files[1], metadata={"Date": None, "Creator": None})
    return files


def _conditions(summaries: Sequence[Summary]) -> list[str]:
    """Conditions to draw, noise left out."""
    names = {name for summary in summaries for name in summary.curve["condition"].unique()}
    return in_order(str(name) for name in names if not is_noise(str(name)))


def _look(run: int | None, condition: int) -> dict[str, Any]:
    """Colour, line and marker: all three differ between conditions of one run."""
    return {
        "color": COLOURS[(condition if run is None else run) % len(COLOURS)],
        "linestyle": LINES[condition % len(LINES)],
        "marker": MARKERS[condition % len(MARKERS)],
    }


def _line(axes: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
    for grey, part in rows.groupby("grey"):
        middle = (part["distance_from"] + part["distance_to"] - 1) / 2
        own = {**look, "color": GREY} if grey else look
        axes.fill_between(
            middle, part["low"], part["high"], color=own["color"], alpha=0.18, linewidth=0
        )
        axes.plot(middle, part["delta"], markevery=max(1, len(part) // 12), **own)
        if not grey:
            axes.plot(middle, part["fit"], color=own["color"], linewidth=0.5, zorder=1.9)


def _noise_and_grey(axes: Axes, summaries: Sequence[Summary]) -> list[Line2D | Patch]:
    """Shade the floors, and give the legend what was shaded or drawn grey."""
    handles: list[Line2D | Patch] = []
    for summary in summaries:
        if summary.floor is not None:
            limit = np.append(summary.floor.limit, summary.floor.limit[-1])
            edges = np.append(summary.floor.lower, summary.floor.upper[-1])
            axes.fill_between(edges, -limit, limit, step="post", zorder=0, **FLOOR)
    floors = [summary.floor.limit for summary in summaries if summary.floor is not None]
    if floors:
        highest = np.nanmax(np.concatenate(floors))
        handles.append(Patch(label=f"noise floor, at most {highest:.1g} nats", **FLOOR))
    if any(summary.curve["grey"].any() for summary in summaries):
        handles.append(Line2D([], [], color=GREY, label="less far than near text"))
    axes.axhline(0, color="black", linewidth=0.5, zorder=0.4)
    return handles


def _contexts(axes: Axes, summaries: Sequence[Summary]) -> None:
    for number, summary in enumerate(summaries):
        context = headline(summary)
        if context is None or context.kind == "unresolved" or context.epsilon is None:
            continue
        colour = "black" if len(summaries) == 1 else COLOURS[number % len(COLOURS)]
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


def _words(axes: Axes, summaries: Sequence[Summary], handles: Sequence[Line2D | Patch]) -> None:
    axes.set_xlabel("distance (tokens)")
    axes.set_ylabel("delta (nats a token)")
    axes.set_title("\n".join(_titles(summaries)))
    marked = headline(summaries[0])
    shown = list(handles)
    if marked is not None and marked.kind != "unresolved" and marked.epsilon is not None:
        answer = f"{marked.condition}, {marked.tolerance.replace('%', ' %')}: {short(marked)}"
        alone = len(summaries) == 1
        label = _short(answer) if alone else f"effective context, {marked.tolerance}, by run"
        colour = "black" if alone else GREY
        shown.append(
            Line2D([], [], color=colour, marker="D", linewidth=2.2, markersize=4, label=label)
        )
    # Below the axis label whatever the height of the axes, hence points and no share of it.
    figure = axes.get_figure(root=True)
    below = ScaledTranslation(-26 / 72, -32 / 72, figure.dpi_scale_trans) if figure else None
    axes.legend(
        handles=shown,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=axes.transAxes if below is None else axes.transAxes + below,
        ncols=1,
        borderaxespad=0,
        handlelength=2.8,
    )


def _titles(summaries: Sequence[Summary]) -> list[str]:
    """Model, data and counts; what several runs have in common stands in the first lines."""
    told = ("model", "data")
    shared = [name for name in told if len({getattr(each, name) for each in summaries}) == 1]
    lines = [str(getattr(summaries[0], name)) for name in shared]
    if len(summaries) == 1:
        lines.append(", ".join(counts(summaries[0])))
    else:
        for each in summaries:
            own = [str(getattr(each, name)) for name in told if name not in shared]
            lines.append(f"{each.run.name}: {', '.join([counts(each)[0], *own])}")
    return [_short(line, 56) for line in lines]


def _short(text: str, most: int = 44) -> str:
    """One line of at most this many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
