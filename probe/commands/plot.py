"""`probe plot`: one figure of a run, or of several, for a paper."""

from collections.abc import Callable
from pathlib import Path

import click
from click.core import ParameterSource

from probe.commands import _dense, _figures
from probe.commands._target import FIGURES, Target, parted
from probe.commands._visible import say
from probe.commands._without_curve import draw as without_curve
from probe.commands._without_curve import name as named
from probe.errors import ProbeError, UsageError

KINDS = (
    "curve",
    "classes",
    "information",
    "tolerance",
    "heatmap",
    "compare",
    "importance",
    "tradeoff",
    "beside",
    "heads",
)
OF_KIND = {
    "condition": (
        "--condition",
        tuple(kind for kind in KINDS if kind not in ("importance", "tradeoff", "beside", "heads")),
    ),
    "name": ("--class", ("classes",)),
    "by": ("--by", ("heatmap",)),
    "document": ("--document", ("importance",)),
    "window": ("--window", ("importance",)),
    "measure": ("--measure", ("importance",)),
    "unit": ("--unit", ("compare",)),
}
"""The options that not every kind has, and the kinds that have them."""


@click.command("plot", short_help="A figure of runs for a paper: PNG, SVG, PDF.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="curve",
    show_default=True,
    help="What to draw: curve takes any number of runs, compare two, the others one.",
)
@click.option(
    "--output",
    type=Target(*FIGURES),
    help="File to write, ending in .png, .svg or .pdf; default: PNG and SVG in the first run's"
    " figures, named by the kind and what else is asked for.",
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
    runs: tuple[Path, ...],
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
    asked = _asked(kind)
    several = "curves" if kind == "curve" and len(runs) > 1 else kind
    base = runs[0] / "figures" / "-".join([several, *map(_figures.slug, asked)])
    formats: tuple[str, ...] = ("png", "svg")
    if output is not None:
        base, formats = parted(output)
    from probe.plots.save import save
    from probe.plots.style import EmptyFigureError
    from probe.results.folder import read_folder

    opened = [read_folder(folder, checked=False) for folder in runs]
    kinds: dict[str, Callable[[], _figures.Named]] = {
        "curve": lambda: _figures.curve(runs, condition),
        "classes": lambda: _figures.classes(runs[0], condition, name),
        "information": lambda: _figures.information(runs[0], condition),
        "tolerance": lambda: _figures.tolerance(runs[0], condition),
        "heatmap": lambda: _figures.heatmap(runs[0], condition, by),
        "compare": lambda: _figures.compare(runs[0], runs[1], condition, unit),
        "importance": lambda: _dense.draw(runs[0], document, window, measure),
        "tradeoff": lambda: _figures.tradeoff(runs[0]),
        "beside": lambda: _figures.beside(runs[0]),
        "heads": lambda: _figures.heads(runs[0]),
    }
    try:
        own = without_curve(opened, kind, condition)
        for ending, axes in kinds[kind]() if own is None else own:
            if kind != "curve":
                named(axes, opened, kind)
            for file in save(axes, base.with_name(base.name + ending), formats):
                say(f"Figure: {file}")
    except EmptyFigureError as error:
        raise ProbeError(f"--kind {kind} of '{runs[0]}': {error}") from error


def _asked(kind: str) -> list[str]:
    """The values of options that make another figure of the kind than the one without them.

    Raises:
        UsageError: If one is given that the kind has not.
    """
    context = click.get_current_context()
    defaults = {parameter.name: parameter.default for parameter in context.command.params}
    values = []
    for name, (option, kinds) in OF_KIND.items():
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        if kind not in kinds:
            raise UsageError(f"{option} belongs to --kind {', '.join(kinds)}; got --kind {kind}")
        if context.params[name] != defaults[name]:
            values.append(str(context.params[name]))
    return values
