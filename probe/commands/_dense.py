"""The answer of a run with protocol dense, printed and drawn."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from probe.commands._visible import say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from probe.results.folder import RunFolder


def tell(folder: Path) -> None:
    """Print loss and KL of a run folder by context length, keep them in ``contexts.csv``."""
    from probe.analysis.lengths import lengths
    from probe.analysis.lengths_answer import answer
    from probe.commands._answers import keep_figure, name_numbers
    from probe.plots import curve

    found = lengths(folder)
    say(f"{answer(found)}\n")
    if found.summary.contexts:
        keep_figure(curve(found.summary), folder / "figures" / "curve")
    name_numbers(folder, "contexts.csv", "summary.json", "curve.csv")


def draw(
    folder: Path, document: str | None, window: int | None, measure: str
) -> Iterator[tuple[str, "Axes"]]:
    """The importance of a window's tokens; of the run's first window, if none is named."""
    from probe.analysis.dense import importance
    from probe.plots import importance as figure
    from probe.results.folder import read_folder

    run = read_folder(folder, checked=False)
    name, number = _window(run, document, window)
    frame = importance(folder, name, number, measure="kl" if measure == "kl" else "nll")
    texts = _texts(run, name, number, int(frame["context"].min()), int(frame["position"].max()))
    yield "", figure(frame, texts=texts)


def _window(run: "RunFolder", document: str | None, window: int | None) -> tuple[str, int]:
    """The first window that fits what was asked for."""
    import pyarrow.parquet as pq

    from probe.errors import UsageError

    rows = pq.read_table(run.path / "windows.parquet", columns=["document", "window"]).to_pylist()
    for row in rows:
        if document in (None, row["document"]) and window in (None, row["window"]):
            return str(row["document"]), int(row["window"])
    asked = f"--document {document!r} --window {window}"
    known = ", ".join(list(dict.fromkeys(repr(row["document"]) for row in rows))[:3])
    raise UsageError(f"{asked}: run '{run.path}' has no such window; its documents are {known}, …")


def _texts(run: "RunFolder", document: str, window: int, first: int, last: int) -> list[str] | None:
    """The texts of the tokens *first* to *last* of a document, ``None`` for data without text."""
    from probe.results.views import connect

    with connect(run.path / "windows.parquet", run.parts, checked=False) as connection:
        start, starts, ends, text = connection.execute(
            """SELECT start, char_start, char_end, text FROM windows
            WHERE document = $document AND "window" = $number""",
            {"document": document, "number": window},
        ).fetchall()[0]
    if text is None or starts is None or ends is None:
        return None
    return [text[starts[at] : ends[at]] for at in range(first - start, last + 1 - start)]
