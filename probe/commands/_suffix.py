"""The answer of a run with protocol suffix, printed and drawn."""

from pathlib import Path

import click


def tell(folder: Path) -> None:
    """Print the accuracy of a run folder by prefix, keep it in ``suffix.csv``, and draw it."""
    from probe.analysis.suffix import suffix
    from probe.analysis.suffix_answer import answer
    from probe.plots import accuracy, save

    found = suffix(folder)
    click.echo(f"{answer(found)}\n")
    if len(found.table):
        png, _ = save(accuracy(found), folder / "figures" / "curve")
        click.echo(f"Figure: {png}")
    click.echo(f"Numbers: {folder / 'suffix.csv'}, {folder / 'summary.json'}")
