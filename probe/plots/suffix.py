"""Suffix identification: accuracy against the length of the prefix, with chance."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from probe.analysis.suffix import SuffixAnswer
from probe.analysis.suffix_answer import name
from probe.plots import marks, scales, style
from probe.results.folder import unique_labels

PERCENT = (0, 20, 40, 60, 80, 100)


def accuracy(found: SuffixAnswer | Sequence[SuffixAnswer], ax: Axes | None = None) -> Axes:
    """Draw how often the gold continuation is chosen, one line a run, with its interval.

    Args:
        found: What :func:`probe.analysis.suffix.suffix` gives, once or for each run.
        ax: Axes to draw in; a new figure of column width without.

    Returns:
        The axes: the prefix (tokens) on an axis that is linear to 1 and then logarithmic to base
        2, and the accuracy (percent). Dashed lines are blind choice.

    Raises:
        EmptyFigureError: If no run has a choice to draw.
    """
    every = [found] if isinstance(found, SuffixAnswer) else list(found)
    drawn = [one for one in every if len(one.table)]
    if not drawn:
        raise style.EmptyFigureError("no choice among candidates to draw")
    with style.sheet():
        axes = style.column(2.6 + style.ENTRY * (len(drawn) + 1)) if ax is None else ax
        handles: list[Line2D] = []
        frames = []
        names = unique_labels([one.run for one in drawn])
        for number, one in enumerate(drawn):
            percent = one.table[["accuracy", "low", "high"]] * 100
            ends = {"distance_from": one.table["prefix"], "distance_to": one.table["prefix"] + 1}
            rows = percent.assign(**ends)
            marks.line(axes, rows, style.look(number), "accuracy")
            frames.append(rows)
            model = name(one, "model")
            label = f"{names[number]}: {model}" if len(drawn) > 1 else model
            handles.append(marks.handle(style.short(label), style.look(number)))
        _axes(axes, frames)
        for chance in sorted({one.chance for one in drawn}):
            axes.axhline(100 * chance, color=style.GREY, linestyle="--", linewidth=0.9, zorder=0.5)
            handles.append(
                Line2D(
                    [], [], color=style.GREY, linestyle="--", label=f"chance, {100 * chance:.1f} %"
                )
            )
        first = drawn[0]
        tokens, data = f"{first.tokens:,} tokens among {first.candidates}", name(first, "data")
        axes.set_title("\n".join([style.short(data, 56), f"continuations of {tokens}"]))
        marks.legend_below(axes, handles)
    return axes


def _axes(axes: Axes, frames: Sequence[pd.DataFrame]) -> None:
    scales.distances(axes, pd.concat(frames))
    axes.set_xlabel("prefix (tokens)")
    axes.set_ylim(0, 104)
    scales.ticks(axes.yaxis, PERCENT)
    axes.set_ylabel("gold continuation chosen (%)")
