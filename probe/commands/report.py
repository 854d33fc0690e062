"""`probe report`: the answer, the tables, the figures and the page of one or several runs."""

from pathlib import Path

import click


@click.command("report", short_help="Answer, figures and page of runs.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="CLASS",
    help="Token classes instead of the configured ones: --class frequency --class my.py:rare.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where several runs are drawn over one another; default: the first run's folder.",
)
def command(runs: tuple[Path, ...], classes: tuple[str, ...], output: Path | None) -> None:
    """Explain each of RUNS again: print its answer, draw its curve, write its report.html.

    Several runs are also drawn over one another, on a page of their own.
    """
    from probe.analysis.explain import explain
    from probe.analysis.tables import contrast_table, tail_table
    from probe.commands.run import tell
    from probe.plots import curve, save
    from probe.report.page import write_page

    explained = []
    for number, folder in enumerate(runs):
        if number:
            click.echo()
        tell(folder)
        found = explain(folder, classes=classes or None)
        explained.append(found)
        for table in filter(None, (contrast_table(found.summary), tail_table(found.summary))):
            click.echo(f"\n{table}")
        click.echo("".join(f"\n- {note}" for note in found.notes))
        click.echo(f"Page: {write_page(found, folder / 'report.html')}")
    if len(runs) > 1:
        from probe.analysis.compare import run_table

        summaries = [found.summary for found in explained]
        if any(summary.contexts for summary in summaries):
            png, _ = save(curve(summaries), (output or runs[0] / "figures") / "curves")
            click.echo(f"\nAll runs: {png}")
        together = (output or runs[0]) / "reports.html"
        click.echo(f"All runs: {write_page(explained, together, runs=run_table(list(runs)))}")
