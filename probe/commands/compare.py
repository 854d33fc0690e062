"""`probe compare`: runs in one table; of two runs the differences, paired where they can be."""

from pathlib import Path

import click

from probe.commands._target import FIGURES, Target, parted
from probe.commands._visible import say


@click.command("compare", short_help="Runs in one table; differences of two.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
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
def command(runs: tuple[Path, ...], csv: Path | None, figure: Path | None) -> None:
    """Put RUNS into one table; of two runs tell B − A with intervals.

    The differences are of the same targets where the runs have the same windows (another model with
    the same tokenizer, another dtype, another attention), else by document; by distance in tokens
    where the tokenizers are the same, and in bytes of text.
    """
    from probe.analysis.compare import compare, summary_table
    from probe.analysis.compare.notes import settings_apart
    from probe.analysis.compare.table import shown
    from probe.analysis.compare.words import comparison_text, note_lines, table_text
    from probe.analysis.summary import summarise
    from probe.results.csv_files import csv_text
    from probe.results.files import write_bytes

    summaries = [summarise(folder, write=False) for folder in runs]
    table = summary_table(summaries)
    say(table_text(shown(table)))
    if own := list(settings_apart(summaries)):
        say(f"\n{note_lines(own)}")
    if len(runs) == 2:
        say("\n" + comparison_text(compare(*runs)))
    if csv is not None:
        text = csv_text(table, digits=None)
        write_bytes(csv, text.encode("utf-8", "backslashreplace"))
        say(f"\nTable: {csv}")
    if figure is not None and any(summary.contexts for summary in summaries):
        from probe.plots import curve, save

        (file,) = save(curve(summaries), *parted(figure))
        say(f"\nAll runs: {file}")
