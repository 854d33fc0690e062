"""`probe report`: the answer, the tables, the figures and the page of one or several runs."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from probe.commands._answers import keep_figure, noting_unwritten, show
from probe.commands._target import Target
from probe.commands._visible import say
from probe.errors import ProbeError, UnwrittenWarning, UsageError
from probe.text import printable

if TYPE_CHECKING:
    from probe.analysis.explain import Explanation
    from probe.report.explained import Explained


WITHOUT_CONTRASTS = ("band", "passages", "suffix")
"""Protocols that leave what lies further intact: their conditions have tables of their own."""


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
    type=Target(folders=True),
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
    from probe.plots import curve
    from probe.report.page import write_page

    explained = []
    with noting_unwritten():
        for number, folder in enumerate(runs):
            if number:
                say()
            show(folder)
            found = explain(folder, classes=classes or None)
            explained.append(found)
            for text in _told(found):
                say(f"\n{text}")
            if len(runs) > 1:
                _own_page(found, folder / "report.html")
            else:
                say(f"Page: {write_page(found, page)}")
        if len(runs) > 1:
            from probe.analysis.compare import run_table

            summaries = [found.summary for found in explained]
            if any(summary.contexts for summary in summaries):
                place = page.parent if output else runs[0] / "figures"
                say()
                keep_figure(curve(summaries), place / "curves", "All runs")
            say(f"All runs: {write_page(explained, page, runs=run_table(list(runs)))}")


def _told(found: "Explanation") -> Iterator[str]:
    """What else a run says: which tokens need far text, contrasts, who is helped, notes."""
    from probe.analysis.tables import contrast_table, tail_table
    from probe.report.which import which
    from probe.results.folder import protocol_kind

    if protocol_kind(found.summary.run.record) not in WITHOUT_CONTRASTS:
        if lines := which(found):
            yield "\n".join(map(printable, lines))
        yield from filter(None, (contrast_table(found.summary), tail_table(found.summary)))
    if found.notes:
        yield "\n".join(f"- {printable(note)}" for note in found.notes)


def _own_page(found: "Explained", page: Path) -> None:
    """Write the page of one of several runs, which is not the page that was asked for."""
    from probe.report.page import write_page

    try:
        say(f"Page: {write_page(found, page)}")
    except ProbeError as error:
        warnings.warn(str(error), UnwrittenWarning, stacklevel=2)


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
