"""`probe plot`: one figure of a run, or of several, for a paper."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from probe.commands._visible import note, say
from probe.commands.options import (
    FIGURES,
    FOLDERS,
    Choice,
    Target,
    command_lines,
    labelled,
    parted,
    show_as,
)
from probe.errors import ProbeError, UsageError
from probe.text import shown, slug

if TYPE_CHECKING:
    from probe.analysis.open_run import OpenRun
    from probe.findings.base import Drawing, Option, Plot
    from probe.findings.chart import Chart
    from probe.render.figures import Size

WIDEST, HIGHEST = 40, 60
"""Sizes of a figure at most, in inches."""


class PlotCommand(click.Command):
    """A command whose kinds, and the options that belong to them, are those of the findings."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Options of its own, then those of the findings, which are imported for that."""
        from probe.findings.base import plots

        *params, last = super().get_params(ctx)  # the last is --help
        kinds = list(dict.fromkeys(plot.kind for plot in plots()))
        kind = click.Option(
            ["--kind"],
            type=Choice(kinds),
            default="curve",
            show_default=True,
            help="What to draw: curve and matrix take any number of runs, compare two, the others"
            " one.",
        )
        options = {option.flag: option for plot in plots() for option in plot.options}
        return [*params[:1], kind, *params[1:], *map(_click_option, options.values()), last]


def _click_option(option: "Option") -> click.Option:
    return click.Option(
        [option.flag, option.name],
        type=Choice(option.choices) if option.choices else option.type,
        default=option.default,
        show_default=option.default is not None,
        metavar=option.metavar,
        help=option.help,
    )


@click.command(
    "plot",
    cls=PlotCommand,
    short_help="A figure of runs for a paper: PNG, SVG, PDF.",
    epilog=command_lines(
        "probe plot results/a results/b --output curves.pdf",
        "probe plot results/a --kind classes --class last_occurrence",
        "probe plot results/a --kind heatmap --by position",
    ),
)
@click.argument("runs", nargs=-1, required=True, type=FOLDERS)
@click.option(
    "--output",
    type=Target(*FIGURES),
    help="File to write, ending in .png, .svg or .pdf; default: PNG and SVG in the first run's"
    " figures, named by the kind and what else is asked for.",
)
@click.option(
    "--size",
    default="single",
    show_default=True,
    metavar="single|double|WxH",
    help="One or both columns of a paper wide, or width and height in inches: 5x3.",
)
@click.option(
    "--title",
    metavar="none|TEXT",
    help="Above the figure: nothing, or a text; default: model, data and counts.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=TEXT",
    help="Another name for a condition, run, class or group: --label truncate='no far text'.",
)
@labelled
def command(
    runs: tuple[Path, ...],
    output: Path | None,
    kind: str,
    size: str,
    title: str | None,
    labels: tuple[str, ...],
    model_labels: tuple[str, ...],
    data_labels: tuple[str, ...],
    **asked: Any,
) -> None:
    """Draw RUNS and say where the figure is."""
    from probe.findings.base import choose, plots
    from probe.findings.chart import EmptyChartError

    known = [plot for plot in plots() if plot.kind == kind]
    wanted = {plot.runs for plot in known}
    if None not in wanted and len(runs) not in wanted:
        (most,) = wanted
        allowed = "one run" if most == 1 else "two runs"
        raise UsageError(f"--kind {kind} takes {allowed}; got {len(runs)}")
    given, inches = _given(known, kind), _inches(size)
    several = "curves" if kind == "curve" and len(runs) > 1 else kind
    base = runs[0] / "figures" / "-".join([several, *map(slug, given)])
    formats: tuple[str, ...] = ("png", "svg")
    if output is not None:
        base, formats = parted(output)
    from probe.analysis.open_run import open_run
    from probe.render.figures import save

    with ExitStack() as stack:
        opened = [stack.enter_context(open_run(folder, write=False)) for folder in runs]
        show_as(opened, model_labels, data_labels)
        plot = choose(known, opened, kind)
        _refuse_others(known, plot, opened, kind)
        own = {option.name: asked[option.name] for option in plot.options}
        try:
            figures = [(end, _charts(drawn)) for end, drawn in plot.charts(opened, **own)]
            every = _dressed([charts for _, charts in figures], title, labels)
            for (ending, _), charts in zip(figures, every, strict=True):
                for line in charts[0].notes:
                    note(line)
                file = base.with_name(base.name + ending)
                for written in save(charts, file, formats, size=inches):
                    say(f"Figure: {written}")
        except EmptyChartError as error:
            raise ProbeError(f"--kind {kind} of '{runs[0]}': {error}") from error


def _charts(drawing: "Drawing") -> "list[Chart]":
    from probe.findings.chart import Chart

    return [drawing] if isinstance(drawing, Chart) else list(drawing)


def _dressed(
    figures: "Sequence[Sequence[Chart]]", title: str | None, labels: Sequence[str]
) -> "list[list[Chart]]":
    """The charts with the title and the names that are asked for.

    Raises:
        UsageError: If no figure has a name that is to be another.
    """
    from probe.findings.chart import relabelled, shown_names, shows

    every = [chart for charts in figures for chart in charts]
    names: dict[str, str] = {}
    for label in labels:
        # A name may hold equals signs, and a text may.
        parts = label.split("=")
        splits = [("=".join(parts[:at]), "=".join(parts[at:])) for at in range(1, len(parts))]
        splits = [(name, text) for name, text in splits if text.strip()]
        known = [split for split in splits if any(shows(chart, split[0]) for chart in every)]
        if not splits:
            raise UsageError(f"--label {shown(label)}: allowed: NAME=TEXT")
        if not known:
            allowed = dict.fromkeys(name for chart in every for name in shown_names(chart))
            raise UsageError(
                f"--label {shown(splits[-1][0])}: the figure has no such name; allowed:"
                f" {', '.join(allowed)}"
            )
        name, text = known[-1]
        names[name] = text
    if names:
        figures = [[relabelled(chart, names) for chart in charts] for charts in figures]
    if title is None:
        return [list(charts) for charts in figures]
    if title == "none":
        return [[replace(chart, title="", heading=[]) for chart in charts] for charts in figures]
    return [[replace(chart, heading=[title]) for chart in charts] for charts in figures]


def _inches(size: str) -> "Size":
    """Width and height of a figure, the latter as it comes but where it is given.

    Raises:
        UsageError: If the text is no size.
    """
    from probe.render.style import DOUBLE, WIDTH

    columns = {"single": WIDTH, "double": DOUBLE}
    if size in columns:
        return columns[size], None
    match = re.fullmatch(r"(\d+\.?\d*)x(\d+\.?\d*)", size)
    width, height = map(float, match.groups()) if match else (0.0, 0.0)
    if not (2 <= width <= WIDEST and 1 <= height <= HIGHEST):
        raise UsageError(
            f"--size {shown(size)}: allowed: single, double, or width x height in inches,"
            f" such as 5x3 (2 to {WIDEST} and 1 to {HIGHEST})"
        )
    return width, height


def _refuse_others(
    known: Sequence["Plot"], plot: "Plot", runs: Sequence["OpenRun"], kind: str
) -> None:
    """See that no option is given that the kind has for runs of other protocols alone.

    Raises:
        UsageError: If one is.
    """
    context = click.get_current_context()
    for option in {option.name: option for other in known for option in other.options}.values():
        given = context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
        if given and option not in plot.options:
            raise UsageError(
                f"{option.flag}: --kind {kind} of protocol {runs[0].folder.kind} has none"
            )


def _given(known: Sequence["Plot"], kind: str) -> list[str]:
    """The values of options that make another figure of the kind than the one without them.

    Raises:
        UsageError: If one is given that the kind has not.
    """
    from probe.findings.base import plots

    context = click.get_current_context()
    mine = {option.name for plot in known for option in plot.options}
    values = []
    for option in {option.flag: option for plot in plots() for option in plot.options}.values():
        if context.get_parameter_source(option.name) is not ParameterSource.COMMANDLINE:
            continue
        if option.name not in mine:
            kinds = dict.fromkeys(plot.kind for plot in plots() if option in plot.options)
            raise UsageError(
                f"{option.flag} belongs to --kind {', '.join(kinds)}; got --kind {kind}"
            )
        if context.params[option.name] != option.default:
            values.append(str(context.params[option.name]))
    return values
