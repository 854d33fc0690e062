"""The answer of a run folder, printed and drawn: each protocol has its own."""

from collections.abc import Callable
from pathlib import Path

import click


def tell(folder: Path) -> None:
    """Print the answer of a run folder, keep its numbers there, and draw its figure."""
    from probe.analysis.runs import open_run

    record = open_run(folder, checked=False).record
    kind = str(((record.get("config") or {}).get("protocol") or {}).get("kind"))
    _TELLERS.get(kind, _curve)(folder)


def _curve(folder: Path) -> None:
    from probe.analysis.answer import answer
    from probe.analysis.summary import summarise
    from probe.plots import curve, save

    summary = summarise(folder)
    click.echo(f"{answer(summary)}\n")
    if summary.contexts:  # a run of `noise` alone has none
        png, _ = save(curve(summary), folder / "figures" / "curve")
        click.echo(f"Figure: {png}")
    click.echo(f"Numbers: {folder / 'summary.json'}, {folder / 'curve.csv'}")


def _bands(folder: Path) -> None:
    from probe.analysis.bands import answer, bands
    from probe.plots import bands as draw
    from probe.plots import save
    from probe.plots.marks import named

    found = bands(folder)
    click.echo(f"{answer(found)}\n")
    if len(found.table):
        axes = named(draw(found.table), found.summary.model, found.summary.data)
        png, _ = save(axes, folder / "figures" / "bands")
        click.echo(f"Figure: {png}")
    click.echo(f"Numbers: {folder / 'bands.csv'}, {folder / 'summary.json'}")


def _passages(folder: Path) -> None:
    from probe.analysis.passages import answer, passages
    from probe.plots import passages as draw
    from probe.plots import save
    from probe.plots.marks import named

    found = passages(folder)
    click.echo(f"{answer(found)}\n")
    if len(found.by_name):
        axes = named(draw(found.by_name), found.summary.model, found.summary.data)
        png, _ = save(axes, folder / "figures" / "passages")
        click.echo(f"Figure: {png}")
    click.echo(f"Numbers: {folder / 'passages.csv'}, {folder / 'passages_by_distance.csv'}")


def _keys(folder: Path) -> None:
    from probe.commands import keys

    keys.tell(folder)


def _suffix(folder: Path) -> None:
    from probe.commands import _suffix as own

    own.tell(folder)


def _dense(folder: Path) -> None:
    from probe.commands import _dense as own

    own.tell(folder)


_TELLERS: dict[str, Callable[[Path], None]] = {
    "band": _bands,
    "passages": _passages,
    "longppl": _keys,
    "suffix": _suffix,
    "dense": _dense,
}
