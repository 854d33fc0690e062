"""`probe plot`: one figure of a run, or of several, for a paper."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from probe.commands._visible import note, say
from probe.commands.options import FIGURES, Target, parted
from probe.errors import ProbeError, UsageError
from probe.text import slug

if TYPE_CHECKING:
    from probe.analysis.open_run import OpenRun
    from probe.findings.base import Option, Plot


class PlotCommand(click.Command):
    """A command whose kinds, and the options that belong to them, are those of the findings."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Options of its own, then those of the findings, which are imported for that."""
        from probe.findings.base import plots

        *params, last = super().get_params(ctx)  # the last is --help
        kinds = list(dict.fromkeys(plot.kind for plot in plots()))
        kind = click.Option(
            ["--kind"],
            type=click.Choice(kinds),
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
        type=click.Choice(option.choices) if option.choices else option.type,
        default=option.default,
        show_default=option.default is not None,
        metavar=option.metavar,
        help=option.help,
    )


@click.command("plot", cls=PlotCommand, short_help="A figure of runs for a paper: PNG, SVG, PDF.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=Target(*FIGURES),
    help="File to write, ending in .png, .svg or .pdf; default: PNG and SVG in the first run's"
    " figures, named by the kind and what else is asked for.",
)
def command(runs: tuple[Path, ...], output: Path | None, kind: str, **asked: Any) -> None:
    """Draw RUNS, one column of a paper wide, and say where the figure is."""
    from probe.findings.base import plots
    from probe.findings.chart import Chart, EmptyChartError

    known = [plot for plot in plots() if plot.kind == kind]
    wanted = {plot.runs for plot in known}
    if None not in wanted and len(runs) not in wanted:
        (most,) = wanted
        allowed = "one run" if most == 1 else "two runs"
        raise UsageError(f"--kind {kind} takes {allowed}; got {len(runs)}")
    given = _given(known, kind)
    several = "curves" if kind == "curve" and len(runs) > 1 else kind
    base = runs[0] / "figures" / "-".join([several, *map(slug, given)])
    formats: tuple[str, ...] = ("png", "svg")
    if output is not None:
        base, formats = parted(output)
    from probe.analysis.open_run import open_run
    from probe.render.figures import save

    with ExitStack() as stack:
        opened = [stack.enter_context(open_run(folder, write=False)) for folder in runs]
        plot = choose(known, opened, kind)
        own = {option.name: asked[option.name] for option in plot.options}
        try:
            for ending, drawing in plot.charts(opened, **own):
                for line in drawing.notes if isinstance(drawing, Chart) else drawing[0].notes:
                    note(line)
                for file in save(drawing, base.with_name(base.name + ending), formats):
                    say(f"Figure: {file}")
        except EmptyChartError as error:
            raise ProbeError(f"--kind {kind} of '{runs[0]}': {error}") from error


def choose(known: Sequence["Plot"], runs: Sequence["OpenRun"], kind: str) -> "Plot":
    """What draws a kind of figure of these runs: where it has one, the finding that answers them.

    Args:
        known: All that draw the kind.
        runs: The runs.
        kind: The kind.

    Raises:
        UsageError: If the runs have no such figure, or too many runs are given.
    """
    answers = {
        run.folder.kind: plot for run in runs for plot in known if run.is_answered_by(plot.finding)
    }
    without = [run for run in runs if not run.has_length]
    protocol = without[0].folder.kind if without else None
    if without and protocol not in answers:
        raise UsageError(
            f"--kind {kind}: a run with protocol {protocol} has no lengths; allowed: --kind curve"
        )
    if without and any(run.folder.kind != protocol for run in runs):
        raise UsageError(
            f"--kind {kind}: some of the runs have protocol {protocol}; allowed: all or none"
        )
    plot = answers[protocol] if without else next(iter(known))
    if plot.runs is not None and len(runs) > plot.runs:
        raise UsageError(f"--kind {kind}: of protocol {protocol} one run is drawn; got {len(runs)}")
    return plot


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
