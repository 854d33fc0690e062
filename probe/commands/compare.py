"""`probe compare`: runs in one table; of two runs the differences, paired where they can be."""

from contextlib import ExitStack
from pathlib import Path

import click

from probe.commands._visible import say
from probe.commands.options import (
    FIGURES,
    FOLDERS,
    Target,
    command_lines,
    labelled,
    parted,
    show_as,
)


@click.command(
    "compare",
    short_help="Runs in one table; differences of two.",
    epilog=command_lines(
        "probe compare results/a results/b  # the differences of two, paired where they can be",
        "probe compare results/* --csv runs.csv --figure curves.pdf",
    ),
)
@click.argument("runs", nargs=-1, required=True, type=FOLDERS)
@click.option(
    "--csv",
    type=Target(),
    help="Write the table of runs here, with the limits of every length.",
)
@click.option(
    "--figure",
    type=Target(*FIGURES),
    help="Draw the curves of all runs over one another into this file, ending in .png, .svg or"
    " .pdf.",
)
@labelled
def command(
    runs: tuple[Path, ...],
    csv: Path | None,
    figure: Path | None,
    model_labels: tuple[str, ...],
    data_labels: tuple[str, ...],
) -> None:
    """Put RUNS into one table; of two runs tell B − A with intervals.

    The differences are of the same targets where the runs have the same windows (another model with
    the same tokenizer, another dtype, another attention), else by document; by distance in tokens
    where the tokenizers are the same, and in bytes of text.
    """
    from probe.analysis.open_run import open_run
    from probe.findings.compare.comparison import compare
    from probe.findings.compare.comparison_finding import comparison_finding
    from probe.findings.compare.finding import curves_chart, run_table, table_finding
    from probe.render.terminal import text
    from probe.results.files import csv_text, write_bytes

    with ExitStack() as stack:
        opened = [stack.enter_context(open_run(folder, write=False)) for folder in runs]
        show_as(opened, model_labels, data_labels)
        say(text(table_finding(opened), wrap=True))
        if len(opened) == 2:
            say(f"\n{text(comparison_finding(compare(*opened)), wrap=True)}")
        if csv is not None:
            table = csv_text(run_table(opened), digits=None)
            write_bytes(csv, table.encode("utf-8", "backslashreplace"))
            say(f"\nTable: {csv}")
        if figure is not None and (chart := curves_chart(opened)) is not None:
            from probe.render.figures import save

            (file,) = save(chart, *parted(figure))
            say(f"\nAll runs: {file}")
