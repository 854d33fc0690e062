"""The figures that `probe plot` draws of runs with a curve of lengths, kind by kind."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from probe.commands._visible import note
from probe.commands._without_curve import only
from probe.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from probe.analysis.summary import Summary

Runs = tuple[Path, ...]
Named = Iterator[tuple[str, "Axes"]]
"""Figures, each with what its file's name has behind the kind: nothing, or the token class."""

MOST = 80
"""Bytes of a name inside a file's name; of a longer one the rest is a digest."""


def curve(runs: Runs, condition: str | None) -> Named:
    """Delta by distance of one run, or of several over one another."""
    from dataclasses import replace

    from probe.analysis.attended import has_patterns
    from probe.analysis.summary import summarise
    from probe.plots import curve as figure
    from probe.plots.style import EmptyFigureError

    summaries: list[Summary] = []
    for folder in runs:
        summary = summarise(folder, write=False)
        if condition is not None:
            rows = only(summary.curve, "condition", condition, "--condition")
            own = tuple(each for each in summary.contexts if each.condition == condition)
            summary = replace(summary, curve=rows, contexts=own)
        summaries.append(summary)
    if all(each.curve.empty and has_patterns(each.run.record) for each in summaries):
        raise EmptyFigureError("it limits attention alone; allowed: --kind tradeoff, heads")
    yield "", figure(summaries)


def classes(run: Path, condition: str | None, name: str | None) -> Named:
    """Delta by distance and token class: of one class, or of each in a figure of its own."""
    from probe.analysis.explain import explain
    from probe.plots import classes as figure
    from probe.plots.style import EmptyFigureError

    found = explain(run, classes=None if name is None else [name], write=False)
    curves = only(found.classes, "condition", condition, "--condition")
    if curves.empty:
        raise EmptyFigureError("no curve of a token class to draw")
    for each in dict.fromkeys(curves["class"].astype(str)):
        ending = "" if name else f"-{slug(each)}"
        yield ending, figure(curves, found.class_contexts, name=each, condition=condition)


def information(run: Path, condition: str | None) -> Named:
    """Contrasts and ablated information by octave; what is missing is noted."""
    from probe.analysis.explain import explain
    from probe.plots import contrasts, ratios
    from probe.plots import information as figure
    from probe.plots.style import EmptyFigureError

    found = explain(run, write=False)
    contrast, ratio = found.summary.contrasts, found.information
    if condition is not None:
        contrast = contrast[(contrast[["minuend", "subtrahend"]] == condition).any(axis=1)]
        ratio = ratio[ratio["condition"] == condition]
    if contrast.empty and ratio.empty:
        reasons = "; ".join(found.summary.warnings) or f"'{condition}' is in none"
        raise EmptyFigureError(f"no contrast and no ablated information to draw: {reasons}")
    missing = dict.fromkeys((*found.summary.warnings, *found.notes))
    for line in (line for line in missing if "not scored" in line):
        note(line)
    if contrast.empty or ratio.empty:
        yield "", contrasts(contrast) if ratio.empty else ratios(ratio)
    else:
        yield "", figure(contrast, ratio)[0]


def tolerance(run: Path, condition: str | None) -> Named:
    """Effective context by tolerance."""
    from probe.analysis.explain import explain
    from probe.plots import tolerance as figure

    found = explain(run, write=False)
    frame = only(found.tolerance_curve, "condition", condition, "--condition")
    yield "", figure(frame, reach=found.summary.reach)


def heatmap(run: Path, condition: str | None, by: str) -> Named:
    """Delta by distance and document, or by distance and position."""
    from probe.analysis.heatmap import delta_map
    from probe.plots import heatmap as figure

    yield "", figure(delta_map(run, condition, by="position" if by == "position" else "document"))


def compare(a: Path, b: Path, condition: str | None, unit: str | None) -> Named:
    """The difference of two runs by distance, in tokens where both have the same."""
    from probe.analysis.compare import compare as compared
    from probe.plots import compare as figure

    found = compared(a, b)
    rows = only(found.curve, "condition", condition, "--condition")
    if unit is None:
        unit = "tokens" if (rows["unit"] == "tokens").any() else "bytes"
    yield "", figure(rows, unit=unit, names=(found.a, found.b))


def tradeoff(run: Path) -> Named:
    """What attention patterns cost in loss against the share of the KV cache that they keep."""
    from probe.analysis.attended import attended, levels
    from probe.plots import tradeoff as figure

    found = attended(run, write=False)
    yield "", figure(found.table, tolerances=levels(found.summary))


def beside(run: Path) -> Named:
    """Windows of attention beside text that is cut off or hidden at the same distance."""
    from probe.analysis.attended import attended, levels
    from probe.plots import beside as figure

    found = attended(run, write=False)
    yield "", figure(found.beside, tolerances=levels(found.summary))


def heads(run: Path) -> Named:
    """What replacing single attention heads costs, a figure for each kind of replacement."""
    from probe.analysis.attended import attended
    from probe.plots import heads as figure
    from probe.plots.style import EmptyFigureError

    found = attended(run, write=False)
    alpha = 1 - found.summary.analysis.confidence
    if found.heads.empty:
        raise EmptyFigureError("no single head was replaced")
    for kind, rows in found.heads.groupby("kind", sort=False):
        yield f"-{slug(str(kind))}", figure(rows, alpha=alpha)


def slug(text: str) -> str:
    """What a condition, a class or another name is called in the name of a file."""
    short = re.sub(r"[^\w.-]+", "-", printable(text)).strip("-.") or "unnamed"
    cut = short.encode()[:MOST].decode(errors="ignore")
    if cut == short:
        return short
    return f"{cut}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"
