"""`probe report`: the answer, the tables, the figures and the page of one or several runs."""

from pathlib import Path

import click

from probe.errors import UsageError


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
    type=click.Path(path_type=Path),
    help="Folder, or file ending in .html, for the page and the curves of several runs over one"
    " another, or for the page of a single run; default: reports.html in the first run's folder,"
    " report.html in a single run's.",
)
def command(runs: tuple[Path, ...], classes: tuple[str, ...], output: Path | None) -> None:
    """Explain each of RUNS again: print its answer, draw its curve, write its report.html.

    Several runs are also drawn over one another, on a page of their own.
    """
    page = _page(runs, output)
    from probe.analysis.explain import explain
    from probe.analysis.tables import contrast_table, tail_table
    from probe.commands._answers import tell
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
        own = page if len(runs) == 1 else folder / "report.html"
        click.echo(f"Page: {write_page(found, own)}")
    if len(runs) > 1:
        from probe.analysis.compare import run_table

        summaries = [found.summary for found in explained]
        if any(summary.contexts for summary in summaries):
            png, _ = save(
                curve(summaries), (page.parent if output else runs[0] / "figures") / "curves"
            )
            click.echo(f"\nAll runs: {png}")
        click.echo(f"All runs: {write_page(explained, page, runs=run_table(list(runs)))}")


def _page(runs: tuple[Path, ...], output: Path | None) -> Path:
    """Where the page goes that is asked for; that of several runs replaces no run's own."""
    if output is None:
        return runs[0] / ("report.html" if len(runs) == 1 else "reports.html")
    if output.suffix.lower() in (".html", ".htm") and not output.is_dir():
        if len(runs) > 1 and output.resolve() in [(run / "report.html").resolve() for run in runs]:
            raise UsageError(
                f"--output '{output}' is the page of one of the runs; allowed: another file"
            )
        return output
    if output.is_file():
        raise UsageError(f"--output '{output}': allowed: a folder, or a file that ends in .html")
    in_a_run = len(runs) > 1 and (output / "run.json").exists()
    return output / ("reports.html" if in_a_run else "report.html")
