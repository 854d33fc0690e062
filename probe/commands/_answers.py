"""The answer of a run folder, printed and drawn: each protocol has its own."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.commands._visible import note, say
from probe.errors import UnwrittenWarning

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from probe.analysis.summary import Summary


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
            for line in lines:
                note(line)


def keep_figure(axes: "Axes", path: Path, told: str = "Figure") -> None:
    """Write a figure, and say where it is.

    Args:
        axes: The figure.
        path: Path without suffix.
        told: What to call it.
    """
    from probe.plots import save
    from probe.results.files import warn_unwritten

    try:
        png, _ = save(axes, path)
    except OSError as error:
        warn_unwritten(Path(error.filename or path), error)
    else:
        say(f"{told}: {png}")


def name_numbers(folder: Path, *names: str) -> None:
    """Say which files of a run folder hold the numbers: those of them that are there."""
    if there := [str(folder / name) for name in names if (folder / name).is_file()]:
        say(f"Numbers: {', '.join(there)}")


def tell(folder: Path) -> None:
    """Print the answer of a run folder, keep its numbers there, and draw its figure."""
    with noting_unwritten():
        show(folder)


def show(folder: Path) -> None:
    """The same inside a :func:`noting_unwritten`."""
    from probe.results.folder import read_folder

    record = read_folder(folder, checked=False).record
    kind = str(((record.get("config") or {}).get("protocol") or {}).get("kind"))
    _TELLERS.get(kind, _curve)(folder)


def _curve(folder: Path) -> None:
    from probe.analysis.answer import answer
    from probe.analysis.attended import has_patterns
    from probe.analysis.summary import summarise
    from probe.plots import curve

    summary = summarise(folder)
    patterns = has_patterns(summary.run.record)
    if summary.contexts or not patterns:
        say(f"{answer(summary)}\n")
    if patterns:
        _patterns(summary)
    if summary.contexts:  # a run of `noise` alone has none
        keep_figure(curve(summary), folder / "figures" / "curve")
    own = ("patterns.csv", "heads.csv", "beside.csv") if patterns else ()
    name_numbers(folder, "summary.json", "curve.csv", *own)


def _patterns(summary: "Summary") -> None:
    """What limiting attention costs, the trade-off as a figure, and windows beside text."""
    from probe.analysis.attended import attended, levels
    from probe.analysis.attended_answer import answer
    from probe.commands._figures import slug
    from probe.plots import beside, heads, tradeoff
    from probe.plots.marks import named

    folder = summary.run.path
    found = attended(folder, summary=summary)
    if len(found.table) or len(found.heads):
        say(f"{answer(found)}\n")
    if (found.table["kv_share"] > 0).any():
        axes = tradeoff(found.table, tolerances=levels(summary))
        keep_figure(named(axes, summary.model, summary.data), folder / "figures" / "tradeoff")
    for kind, rows in found.heads.groupby("kind", sort=False):
        axes = heads(rows, alpha=1 - summary.analysis.confidence)
        keep_figure(axes, folder / "figures" / f"heads-{slug(str(kind))}")
    if len(found.beside):
        axes = beside(found.beside, tolerances=levels(summary))
        keep_figure(named(axes, summary.model, summary.data), folder / "figures" / "beside")


def _bands(folder: Path) -> None:
    from probe.analysis.bands import answer, bands
    from probe.plots import bands as figure
    from probe.plots.marks import named

    found = bands(folder)
    say(f"{answer(found)}\n")
    if len(found.table):
        axes = named(figure(found.table), found.summary.model, found.summary.data)
        keep_figure(axes, folder / "figures" / "bands")
    name_numbers(folder, "bands.csv", "summary.json")


def _passages(folder: Path) -> None:
    from probe.analysis.passages import answer, passages
    from probe.plots import passages as figure
    from probe.plots.marks import named

    found = passages(folder)
    say(f"{answer(found)}\n")
    if len(found.by_name):
        axes = named(figure(found.by_name), found.summary.model, found.summary.data)
        keep_figure(axes, folder / "figures" / "passages")
    name_numbers(folder, "passages.csv", "passages_by_distance.csv")


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
