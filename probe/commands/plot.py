"""`probe plot`: one figure of a run, or of several, for a paper."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from probe.commands import _dense
from probe.commands._without_curve import draw as without_curve
from probe.commands._without_curve import name as named
from probe.commands._without_curve import only
from probe.errors import ProbeError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from probe.analysis.summary import Summary

Runs = tuple[Path, ...]
Named = Iterator[tuple[str, "Axes"]]
"""Figures, each with what its file's name has behind the kind: nothing, or the token class."""


@click.command("plot", short_help="A figure of runs for a paper: PNG, SVG, PDF.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(
        ["curve", "classes", "information", "tolerance", "heatmap", "compare", "importance"]
    ),
    default="curve",
    show_default=True,
    help="What to draw: curve takes any number of runs, compare two, the others one.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, ending in .png, .svg or .pdf; default: PNG and SVG in the first run's"
    " figures.",
)
@click.option("--condition", metavar="C", help="Only this condition, such as 'shuffle(span=20)'.")
@click.option(
    "--class",
    "name",
    metavar="CLASS",
    help="classes: this one alone, such as copy or my.py:rare; default: each of the run's, a file"
    " each.",
)
@click.option(
    "--by",
    type=click.Choice(["document", "position"]),
    default="document",
    show_default=True,
    help="heatmap: what its rows are.",
)
@click.option(
    "--document", help="importance: the document's id; default: that of the first window."
)
@click.option("--window", type=int, help="importance: the window's number; default: the first.")
@click.option(
    "--measure",
    type=click.Choice(["nll", "kl"]),
    default="nll",
    show_default=True,
    help="importance: of the loss, or of KL to the longest context.",
)
@click.option(
    "--unit",
    type=click.Choice(["tokens", "bytes"]),
    help="compare: what distances are counted in; default: tokens, if both runs have the same.",
)
def command(
    runs: Runs,
    kind: str,
    output: Path | None,
    condition: str | None,
    name: str | None,
    by: str,
    document: str | None,
    window: int | None,
    measure: str,
    unit: str | None,
) -> None:
    """Draw RUNS, one column of a paper wide, and say where the figure is."""
    wanted = {"curve": len(runs), "compare": 2}.get(kind, 1)
    if len(runs) != wanted:
        runs_allowed = "one run" if wanted == 1 else "two runs"
        raise UsageError(f"--kind {kind} takes {runs_allowed}; got {len(runs)}")
    several = "curves" if kind == "curve" and len(runs) > 1 else kind
    base, formats = _target(output, runs[0] / "figures" / several)
    from probe.analysis.runs import open_run
    from probe.plots.save import save
    from probe.plots.style import EmptyFigureError

    opened = [open_run(folder, checked=False) for folder in runs]
    kinds: dict[str, Callable[[], Named]] = {
        "curve": lambda: _curve(runs, condition),
        "classes": lambda: _classes(runs[0], condition, name),
        "information": lambda: _information(runs[0], condition),
        "tolerance": lambda: _tolerance(runs[0], condition),
        "heatmap": lambda: _heatmap(runs[0], condition, by),
        "compare": lambda: _compare(runs[0], runs[1], condition, unit),
        "importance": lambda: _dense.draw(runs[0], document, window, measure),
    }
    try:
        own = without_curve(opened, kind, condition)
        for ending, axes in kinds[kind]() if own is None else own:
            if kind != "curve":
                named(axes, opened, kind)
            for file in save(axes, base.with_name(base.name + ending), formats):
                click.echo(f"Figure: {file}")
    except EmptyFigureError as error:
        raise ProbeError(f"--kind {kind} of '{runs[0]}': {error}") from error


def _target(output: Path | None, default: Path) -> tuple[Path, tuple[str, ...]]:
    """Path without suffix, and the formats to write."""
    if output is None:
        return default, ("png", "svg")
    suffix = output.suffix.removeprefix(".").lower()
    if suffix not in ("png", "svg", "pdf"):
        raise UsageError(f"--output '{output}': allowed: a file that ends in .png, .svg or .pdf")
    return output.with_suffix(""), (suffix,)


def _curve(runs: Runs, condition: str | None) -> Named:
    from dataclasses import replace

    from probe.analysis.summary import summarise
    from probe.plots import curve

    summaries: list[Summary] = []
    for folder in runs:
        summary = summarise(folder, write=False)
        if condition is not None:
            rows = only(summary.curve, "condition", condition, "--condition")
            own = tuple(each for each in summary.contexts if each.condition == condition)
            summary = replace(summary, curve=rows, contexts=own)
        summaries.append(summary)
    yield "", curve(summaries)


def _classes(run: Path, condition: str | None, name: str | None) -> Named:
    from probe.analysis.explain import explain
    from probe.plots import classes
    from probe.plots.style import EmptyFigureError

    found = explain(run, classes=None if name is None else [name], write=False)
    curves = only(found.classes, "condition", condition, "--condition")
    if curves.empty:
        raise EmptyFigureError("no curve of a token class to draw")
    for each in dict.fromkeys(curves["class"].astype(str)):
        ending = "" if name else "-" + (re.sub(r"[^\w.-]+", "-", each).strip("-.") or "class")
        yield ending, classes(curves, found.class_contexts, name=each, condition=condition)


def _information(run: Path, condition: str | None) -> Named:
    from probe.analysis.explain import explain
    from probe.plots import contrasts, information, ratios
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
        click.echo(f"note: {line}", err=True)
    if contrast.empty or ratio.empty:
        yield "", contrasts(contrast) if ratio.empty else ratios(ratio)
    else:
        yield "", information(contrast, ratio)[0]


def _tolerance(run: Path, condition: str | None) -> Named:
    from probe.analysis.explain import explain
    from probe.plots import tolerance

    found = explain(run, write=False)
    frame = only(found.tolerance_curve, "condition", condition, "--condition")
    yield "", tolerance(frame, reach=found.summary.reach)


def _heatmap(run: Path, condition: str | None, by: str) -> Named:
    from probe.analysis.heatmap import delta_map
    from probe.plots import heatmap

    yield "", heatmap(delta_map(run, condition, by="position" if by == "position" else "document"))


def _compare(a: Path, b: Path, condition: str | None, unit: str | None) -> Named:
    from probe.analysis.compare import compare as compared
    from probe.plots import compare

    found = compared(a, b)
    rows = only(found.curve, "condition", condition, "--condition")
    if unit is None:
        unit = "tokens" if (rows["unit"] == "tokens").any() else "bytes"
    yield "", compare(rows, unit=unit, names=(found.a, found.b))
