"""`probe compare`: the difference of two runs in a sentence; any number as models × data."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from probe.commands._visible import print_json, say
from probe.commands.options import (
    FIGURES,
    FOLDERS,
    Choice,
    Target,
    command_lines,
    labelled,
    parted,
    show_as,
    with_json,
)
from probe.errors import UsageError
from probe.text import printable

if TYPE_CHECKING:
    from probe.analysis.open_run import OpenRun
    from probe.findings.compare.finding import Asked

FORMATS = ("text", "md", "latex", "csv", "json")
MORE = "every condition, tolerance and unit, and all that the runs differ in: --full"


@click.command(
    "compare",
    short_help="The difference of two runs; many as models × data.",
    epilog=command_lines(
        "probe compare results/a results/b  # what B loses more than A, and what follows from it",
        "probe compare results/* --value delta@512 --format latex",
        "probe compare results/* --csv runs.csv --figure curves.pdf",
    ),
)
@click.argument("runs", nargs=-1, required=True, type=FOLDERS)
@click.option("--full", is_flag=True, help="Everything: all conditions, tolerances and units.")
@click.option(
    "--value",
    default="length",
    show_default=True,
    metavar="length|delta@D",
    help="What the cells of models × data hold: effective contexts, or the mean delta of the octave"
    " with this distance, such as delta@512.",
)
@click.option("--condition", metavar="C", help="The condition of the cells; default: truncate.")
@click.option("--tolerance", metavar="T", help="The tolerance of the cells, such as 5%.")
@click.option(
    "--format",
    "form",
    type=Choice(FORMATS),
    help="Print models × data alone, like this; latex needs the package booktabs.",
)
@with_json("compare")
@click.option(
    "--csv",
    type=Target(),
    help="Write the table of runs here, with the limits of every length.",
)
@click.option(
    "--figure",
    type=Target(*FIGURES),
    help="Draw the curves into this file, ending in .png, .svg or .pdf: all over one another, of"
    " several data sets a panel each.",
)
@labelled
def command(
    runs: tuple[Path, ...],
    full: bool,
    value: str,
    condition: str | None,
    tolerance: str | None,
    form: str | None,
    as_json: bool,
    csv: Path | None,
    figure: Path | None,
    model_labels: tuple[str, ...],
    data_labels: tuple[str, ...],
) -> None:
    """Compare RUNS: of two tell B − A with its interval, put any number into models × data.

    The differences are of the same targets where the runs have the same windows (another model with
    the same tokenizer, another dtype, another attention), else by document; by distance in tokens
    where the tokenizers are the same, and in bytes of text.
    """
    from probe.analysis.open_run import open_run
    from probe.findings.base import refuse_without_losses
    from probe.findings.compare.finding import Asked, parse_value

    picked = {"--full": full, "--condition": condition, "--tolerance": tolerance}
    form = _form(
        form, as_json, [option for option, given in picked.items() if given not in (None, False)]
    )
    asked = Asked(parse_value(value), condition, tolerance, every=full)
    if tolerance is not None and asked.octave is not None:
        raise UsageError(f"--tolerance '{tolerance}' belongs to --value length; got {value}")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_run(folder, write=False)) for folder in runs]
        show_as(opened, model_labels, data_labels)
        refuse_without_losses(opened)
        if form is not None or asked != Asked(every=full):
            _say_cells(opened, asked, form or "text")
        else:
            _say_findings(opened, full)
        alone = form is not None  # what a program reads has no line of ours in it
        if csv is not None:
            say(f"\nTable: {_write_table(opened, csv)}", err=alone)
        if figure is not None and (file := _draw(opened, figure)):
            say(f"\nAll runs: {file}", err=alone)


def _form(form: str | None, as_json: bool, picked: Sequence[str]) -> str | None:
    """The form of the cells that is asked for, if one is; JSON has no part to be picked."""
    if as_json and form not in (None, "json"):
        raise UsageError(f"--json is --format json; got --format {form} too")
    form = "json" if as_json else form
    if form == "json" and picked:
        raise UsageError(f"{picked[0]}: JSON holds everything; allowed: --json alone")
    return form


def _say_findings(runs: Sequence["OpenRun"], full: bool) -> None:
    """Of one run its contrasts, of two the sentence and a screen, of more models × data.

    Args:
        runs: The runs.
        full: Whether the table of runs and all differences are told as well.
    """
    from probe.findings.compare.comparison import compare
    from probe.findings.compare.finding import told
    from probe.render.terminal import text

    two = compare(*runs) if len(runs) == 2 else None
    findings = told(runs, two, full=full)
    if two is not None and full:  # whose tables hold all of the first one's
        findings = (replace(findings[0], basis="", tables=[], caveats=[]), *findings[1:])
    notes = [MORE] if two is not None and not full else []
    texts = [text(one, notes, wrap=True) for one in findings]
    say("\n\n".join(filter(None, texts)))


def _say_cells(runs: Sequence["OpenRun"], asked: "Asked", form: str) -> None:
    """Models × data in the form that is asked for."""
    from probe.findings.compare.comparison import compare
    from probe.findings.compare.finding import cells, chosen, comparison_record, together
    from probe.render.table_formats import latex, markdown
    from probe.render.terminal import text
    from probe.results.files import csv_text

    if form == "json":
        both = compare(*runs) if len(runs) == 2 else None
        print_json(comparison_record(runs, asked.octave, both))
        return
    if form == "csv":
        rows = chosen(cells(runs, asked.octave), runs, asked)
        say(csv_text(rows.map(_visible), digits=None).rstrip("\n"))
        return
    whole = together(runs, asked)
    if form == "text":
        say(text(whole, wrap=True))
        return
    write = {"md": markdown, "latex": latex}[form]
    say("\n\n".join(map(write, whole.tables)))


def _visible(cell: object) -> object:
    return printable(cell) if isinstance(cell, str) else cell


def _write_table(runs: Sequence["OpenRun"], path: Path) -> Path:
    from probe.findings.compare.finding import run_table
    from probe.results.files import csv_text, write_bytes

    table = csv_text(run_table(runs), digits=None)
    write_bytes(path, table.encode("utf-8", "backslashreplace"))
    return path


def _draw(runs: Sequence["OpenRun"], path: Path) -> Path | None:
    """The curves of all runs; there is no figure where no run has a length."""
    from probe.findings.compare.charts import curves_chart, panels
    from probe.render.figures import save

    drawing = curves_chart(runs)
    if drawing is None:
        return None
    several = len({run.data for run in runs if run.contexts}) > 1
    (file,) = save(panels(runs) if several else drawing, *parted(path))
    return file
