"""`probe report`: the answer, the tables and the figures of one or several runs."""

from pathlib import Path

import click


@click.command("report", short_help="Answer and figures of runs.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where several runs are drawn over one another; default: the first run's figures.",
)
def command(runs: tuple[Path, ...], output: Path | None) -> None:
    """Summarise each of RUNS again and draw its curve; several are also drawn over one another."""
    from probe.analysis.summary import summarise
    from probe.analysis.tables import contrast_table, tail_table
    from probe.commands.run import tell
    from probe.plots import curve, save

    for number, folder in enumerate(runs):
        if number:
            click.echo()
        tell(folder)
        summary = summarise(folder, write=False)
        for table in filter(None, (contrast_table(summary), tail_table(summary))):
            click.echo(f"\n{table}")
    if len(runs) > 1:
        summaries = [summarise(folder, write=False) for folder in runs]
        if not any(summary.contexts for summary in summaries):
            return
        png, _ = save(curve(summaries), (output or runs[0] / "figures") / "curves")
        click.echo(f"\nAll runs: {png}")
