"""`probe compare`: runs in one table; of two runs the differences, paired where they can be."""

from pathlib import Path

import click


@click.command("compare", short_help="Runs in one table; differences of two.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--csv",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the table of runs here, with the limits of every length.",
)
@click.option(
    "--figure",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the curves of all runs over one another here (PNG and SVG).",
)
def command(runs: tuple[Path, ...], csv: Path | None, figure: Path | None) -> None:
    """Put RUNS into one table; of two runs tell B − A with intervals.

    The differences are of the same targets where the runs have the same windows (another model with
    the same tokenizer, another dtype, another attention), else by document; by distance in tokens
    where the tokenizers are the same, and in bytes of text.
    """
    from probe.analysis.compare import compare, summary_table
    from probe.analysis.compare.table import shown
    from probe.analysis.compare.words import comparison_text, table_text
    from probe.analysis.summary import summarise

    summaries = [summarise(folder, write=False) for folder in runs]
    table = summary_table(summaries)
    _say(table_text(shown(table)))
    if len(runs) == 2:
        _say("\n" + comparison_text(compare(*runs)))
    if csv is not None:
        csv.write_text(table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
        _say(f"\nTable: {csv}")
    if figure is not None and any(summary.contexts for summary in summaries):
        from probe.plots import curve, save

        base = figure.with_suffix("") if figure.suffix in (".png", ".svg") else figure
        png, _ = save(curve(summaries), base)
        _say(f"\nAll runs: {png}")


def _say(text: str) -> None:
    """Print text whose names come from a run: what cannot be shown is escaped."""
    from probe.commands._visible import glyphs, say

    for line in text.split("\n"):
        say("".join(glyph.shown for glyph in glyphs([(line, False)])))
