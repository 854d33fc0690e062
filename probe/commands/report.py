"""`probe report`: the answer, the tables, the figures and the page of one or several runs."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from probe.commands._visible import alert, print_json, say
from probe.commands.options import (
    FOLDERS,
    Target,
    command_lines,
    labelled,
    names_of,
    show_as,
    with_json,
)
from probe.errors import ProbeError, UnwrittenWarning, UsageError

if TYPE_CHECKING:
    from probe.analysis.open_run import OpenRun
    from probe.findings.base import Finding


@click.command(
    "report",
    short_help="Answer, figures and page of runs.",
    epilog=command_lines(
        "probe report results/a",
        "probe report results/a results/b --output pages/",
        "probe report results/a --class frequency --class my.py:rare",
        "probe report results/big --proxy results/small  # a small model on more documents",
    ),
)
@click.argument("runs", nargs=-1, required=True, type=FOLDERS)
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="CLASS",
    shell_complete=names_of("probe.classes.registry"),
    help="Token classes instead of the configured ones: --class frequency --class my.py:rare.",
)
@click.option(
    "--output",
    type=Target(folders=True),
    help="Folder, or file ending in .html, for the page and the curves of several runs over one"
    " another, or for the page of a single run; default: reports.html in the first run's folder,"
    " report.html in a single run's. Numbers and figures of each run, and of several the page of"
    " each, go into its folder in any case.",
)
@click.option(
    "--proxy",
    type=FOLDERS,
    metavar="RUN",
    help="A cheaper model's run on more documents of the same data and windows, which narrows the"
    " intervals of the one run that is explained.",
)
@labelled
@with_json("report")
def command(
    runs: tuple[Path, ...],
    classes: tuple[str, ...],
    output: Path | None,
    proxy: Path | None,
    as_json: bool,
    model_labels: tuple[str, ...],
    data_labels: tuple[str, ...],
) -> None:
    """Explain each of RUNS again: print its answer, draw its curve, write its report.html.

    Several runs are also drawn over one another, on a page of their own.
    """
    if proxy is not None and len(runs) > 1:
        raise UsageError(f"--proxy is of one run; got {len(runs)}")
    page = _page(runs, output)
    from probe.analysis.open_run import open_run
    from probe.findings.base import counters, findings, findings_of_all
    from probe.render.page import write_page
    from probe.render.terminal import details
    from probe.render.values import finding_values, run_values

    values: dict[str, Any] = {"schema": 1, "runs": [], "together": None}
    with noting_unwritten(), ExitStack() as stack:
        opened = [
            stack.enter_context(open_run(folder, classes=classes, along=counters))
            for folder in runs
        ]
        if proxy is not None:
            from probe.analysis.proxy import use_proxy

            use_proxy(opened[0], stack.enter_context(open_run(proxy, write=False)))
        show_as(opened, model_labels, data_labels)
        found = [findings(run, [other for other in opened if other is not run]) for run in opened]
        for number, (run, own) in enumerate(zip(opened, found, strict=True)):
            if number:
                say()
            files = tell(run, own)
            for text in details(own):
                say(f"\n{text}")
            alone = len(runs) == 1
            written = write_page([run], [own], page) if alone else _own_page(run, own)
            if written is not None:
                say(f"Page: {written}")
            values["runs"].append(run_values(run, own, files, written))
        if len(runs) > 1:
            together = findings_of_all(opened, found)
            say()
            folder = page.parent if output else runs[0] / "figures"
            drawn = [file for one in together for file in draw(one, folder, "All runs")]
            say(f"All runs: {write_page(opened, found, page, together)}")
            values["together"] = {
                "findings": [finding_values(one) for one in together],
                "files": [str(file) for file in drawn],
                "page": str(page),
            }
    if as_json:
        print_json(values)


def tell(run: "OpenRun", found: Sequence["Finding"]) -> list[Path]:
    """Print the answers of a run, keep the numbers of its findings, and draw its figures.

    Args:
        run: The run.
        found: Its findings.

    Returns:
        The files that are there now.
    """
    from probe.findings.base import write_files
    from probe.render.terminal import answers

    for text in answers(found):
        say(f"{text}\n")
    figures = [file for finding in found for file in draw(finding, run.path / "figures")]
    written = {file.name: file for file in write_files(run, found)}
    numbers = dict.fromkeys(name for one in found if one.level == "answer" for name in one.files)
    if there := [str(written[name]) for name in numbers if name in written]:
        say(f"Numbers: {', '.join(there)}")
    return [*figures, *written.values()]


def draw(finding: "Finding", folder: Path, title: str = "Figure") -> list[Path]:
    """Draw what a finding keeps as files, and say where it is; a failing disk costs it alone.

    Args:
        finding: The finding.
        folder: Where to.
        title: What to call it.

    Returns:
        The files that are there now.
    """
    from probe.render.figures import save
    from probe.results.files import warn_unwritten

    drawn: list[Path] = []
    for chart in finding.charts:
        if not chart.file:
            continue
        try:
            files = save(chart, folder / chart.file)
        except OSError as error:
            warn_unwritten(Path(error.filename or folder / chart.file), error)
        else:
            drawn += files
            say(f"{title}: {files[0]}")
    return drawn


@contextmanager
def noting_unwritten() -> Iterator[None]:
    """Note at the end each file of a run folder that could not be written, once."""
    lines: dict[str, None] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("always", UnwrittenWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, UnwrittenWarning):
                lines[str(message)] = None
            else:
                others(message, category, *where, **more)

        warnings.showwarning = show
        try:
            yield
        finally:
            for line in lines:  # a file that is missing is told, be it quiet or not
                alert(f"note: {line}")


def _own_page(run: "OpenRun", found: Sequence["Finding"]) -> Path | None:
    """Write the page of one of several runs, which is not the page that was asked for."""
    from probe.render.page import write_page

    try:
        return write_page([run], [found], run.path / "report.html")
    except ProbeError as error:
        warnings.warn(str(error), UnwrittenWarning, stacklevel=2)
        return None


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
