"""Figures of runs whose protocol leaves what lies further intact: they have no curve of lengths."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from probe.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from probe.results.folder import RunFolder


def draw(
    runs: Sequence["RunFolder"], kind: str, condition: str | None
) -> Iterator[tuple[str, "Axes"]] | None:
    """The figure of runs with protocol suffix, band or passages, ``None`` for all other runs.

    Args:
        runs: The runs, opened.
        kind: The kind of figure that is asked for.
        condition: Only this condition, if any.

    Raises:
        UsageError: If the protocol has no such figure, or the runs have different protocols.
    """
    from probe.results.folder import protocol_kind

    kinds = [str(protocol_kind(run.record)) for run in runs]
    found = next((protocol for protocol in kinds if protocol in _FIGURES), None)
    if found is None:
        return None
    if kind != "curve":
        raise UsageError(
            f"--kind {kind}: a run with protocol {found} has no lengths; allowed: --kind curve"
        )
    if any(protocol != found for protocol in kinds):
        raise UsageError(
            f"--kind curve: some of the runs have protocol {found}; allowed: all or none"
        )
    if found != "suffix" and len(runs) > 1:
        raise UsageError(f"--kind curve: of protocol {found} one run is drawn; got {len(runs)}")
    return _FIGURES[found](runs, condition)


def only(frame: "pd.DataFrame", column: str, value: str | None, option: str) -> "pd.DataFrame":
    """The rows with a value, all where none is asked for."""
    if value is None:
        return frame
    rows = frame[frame[column] == value]
    if rows.empty:
        known = ", ".join(dict.fromkeys(frame[column].astype(str))) or "none"
        raise UsageError(f"{option} '{value}' was not found; allowed: {known}")
    return rows


def name(axes: "Axes", runs: Sequence["RunFolder"], kind: str = "curve") -> "Axes":
    """Axes that name the model and the data of the runs that they show."""
    from probe.plots.marks import named
    from probe.results.folder import unique_labels

    told = [run.model for run in runs] + [run.data for run in runs]
    if len(runs) > 1:
        names = zip(unique_labels(runs), runs, strict=True)
        told = [f"{label}: {run.model} on {run.data}" for label, run in names]
    return named(axes, *told, most=_NARROWER.get(kind, 56))


def _accuracy(runs: Sequence["RunFolder"], condition: str | None) -> Iterator[tuple[str, "Axes"]]:
    from probe.analysis.suffix import suffix
    from probe.plots import accuracy

    if condition is not None:
        raise UsageError(f"--condition '{condition}': protocol suffix has none; allowed: no option")
    yield "", accuracy([suffix(run.path, write=False) for run in runs])


def _bands(runs: Sequence["RunFolder"], condition: str | None) -> Iterator[tuple[str, "Axes"]]:
    from probe.analysis.bands import bands
    from probe.plots import bands as figure

    table = only(bands(runs[0].path, write=False).table, "condition", condition, "--condition")
    yield "", name(figure(table), runs)


def _passages(runs: Sequence["RunFolder"], condition: str | None) -> Iterator[tuple[str, "Axes"]]:
    from probe.analysis.passages import passages
    from probe.plots import passages as figure

    found = passages(runs[0].path, write=False)
    table = only(found.by_name, "condition", condition, "--condition")
    yield "", name(figure(table), runs)


_NARROWER = {"heatmap": 42, "importance": 42}
"""Characters of a title where the names of rows stand at the left."""

_FIGURES: dict[str, Callable[..., Iterator[tuple[str, "Axes"]]]] = {
    "suffix": _accuracy,
    "band": _bands,
    "passages": _passages,
}
