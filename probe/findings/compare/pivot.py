"""Any number of runs as tables of models × data: an effective context, or delta at an octave."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from probe.analysis.bins import SINGLE, octave_index
from probe.analysis.bootstrap import bootstrap, pointwise_band, too_few
from probe.analysis.fit import in_order
from probe.analysis.floor import is_noise
from probe.analysis.open_run import PATTERN, OpenRun
from probe.errors import UsageError
from probe.findings.answer import describe_tolerance
from probe.findings.base import Finding, only
from probe.findings.compare.comparison import settings_apart
from probe.findings.compare.lengths import SHOWN
from probe.findings.compare.matched import confounds, differing, in_common, matched
from probe.findings.table import Table, pivot, records
from probe.results.folder import unique_labels
from probe.text import counted, difference, shown

CELL_COLUMNS = (
    *("run", "row", "model", "data", "condition", "at", "kind"),
    *("value", "low", "high", "reach", "text"),
)
"""Columns of the cells. ``row`` names the line of the table. ``at`` is a tolerance or an octave,
``kind`` as in ``EffectiveContext``, or ``delta``. Lengths are in tokens, deltas in nats per token.
A missing length lies beyond the reach (tokens), or is unresolved."""
BARE = ("protocol", "model revision", "dtype")
"""Settings whose value says by itself what it is; they name a row before others do."""


@dataclass(frozen=True)
class Value:
    """What stands in the cells.

    Args:
        octave: A distance (tokens) in the octave whose mean delta is shown; ``None`` shows
            effective contexts.
    """

    octave: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Value":
        """Read ``length``, or ``delta@512``.

        Raises:
            UsageError: If it is neither.
        """
        name, _, distance = text.partition("@")
        if text == "length":
            return cls()
        if name == "delta" and distance.isdecimal() and len(distance) < 10:
            return cls(int(distance))
        raise UsageError(f"--value {shown(text)}; allowed: length, delta@512 (any distance)")


def cells(runs: Sequence[OpenRun], value: Value) -> pd.DataFrame:
    """What every run says under each of its conditions, a row a cell.

    Args:
        runs: The runs; each is read with its own analysis settings.
        value: What is shown.

    Returns:
        Columns :data:`CELL_COLUMNS`.
    """
    labels, names = unique_labels([run.folder for run in runs]), row_names(runs)
    rows = []
    for run, label, name in zip(runs, labels, names, strict=True):
        about = {"run": label, "row": name, "model": run.model, "data": run.data}
        with run.reading():
            found = _lengths(run) if value.octave is None else _deltas(run, value.octave)
            rows += [about | cell for cell in found]
    frame = pd.DataFrame(rows, columns=list(CELL_COLUMNS))
    whole = ["reach"] if value.octave is not None else ["value", "low", "high", "reach"]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def _lengths(run: OpenRun) -> Iterator[dict[str, object]]:
    for context in run.contexts:
        length, low, high = context.lengths
        yield {
            "condition": context.condition,
            "at": context.tolerance,
            "kind": context.kind,
            "value": length,
            "low": low,
            "high": high,
            "reach": context.reach,
            "text": context.text(),
        }


def _deltas(run: OpenRun, distance: int) -> Iterator[dict[str, object]]:
    """The mean delta of an octave under every condition that measured all or a part of it."""
    wanted = int(octave_index(distance))
    first, last = SINGLE << (wanted - 1) if wanted else 0, SINGLE << wanted
    for name, curve in run.fitted.items() if run.has_length else ():
        inside = octave_index(curve.sums.lower) == wanted
        if is_noise(name) or name.startswith(PATTERN) or not inside.any():
            continue
        sums, targets = (
            part[:, inside].sum(axis=1, keepdims=True)
            for part in (curve.sums.sums, curve.sums.targets)
        )
        found = bootstrap(sums, targets, run.weights, curve.confidence, curve.sums.texts)
        (low,), (high,) = pointwise_band(found, curve.confidence)
        few = too_few(found.documents)
        mean = float(found.mean[0])
        low, high = (np.nan, np.nan) if few else (float(low), float(high))
        yield {
            "condition": name,
            "at": f"{first:,}–{min(last, int(curve.sums.upper[inside][-1])) - 1:,}",
            "kind": "unresolved" if few else "delta",
            "value": mean,
            "low": low,
            "high": high,
            "reach": int(curve.sums.upper[-1]),
            "text": difference(mean, low, high, 3),
        }


def row_names(runs: Sequence[OpenRun]) -> list[str]:
    """The name of each run's row: its model, with what differs where that alone has two answers.

    A model that was run on one data set more than once has a row for each protocol, revision or
    other setting that tells its runs apart; where none does the run's name stands there.

    Args:
        runs: The runs.
    """
    names = [run.model for run in runs]
    for model in dict.fromkeys(names):
        own = [number for number, run in enumerate(runs) if run.model == model]
        told: list[tuple[str, ...]] = [(runs[number].data,) for number in own]
        apart = differing([runs[number] for number in own])
        more: list[list[str]] = [[] for _ in own]
        for name in sorted(apart, key=lambda name: name not in BARE):
            split = [(*one, value) for one, value in zip(told, apart[name], strict=True)]
            if len(set(told)) < len(own) and len(set(split)) > len(set(told)):
                told = split
                for words, value in zip(more, apart[name], strict=True):
                    words.append(_setting(name, value))
        for number, words in zip(own, more, strict=True):
            names[number] = f"{model} ({', '.join(words)})" if words else model
    labels = unique_labels([run.folder for run in runs])
    places = [(name, run.data) for name, run in zip(names, runs, strict=True)]
    count = Counter(places)
    return [
        f"{name}: {label}" if count[place] > 1 else name
        for name, place, label in zip(names, places, labels, strict=True)
    ]


def _setting(name: str, value: str) -> str:
    if name not in BARE:
        return f"{name} {value}"
    return value[:8] if name == "model revision" and len(value) > 12 else value


def main_condition(runs: Sequence[OpenRun]) -> str:
    """The condition that is told first: truncate, else the first that most runs have."""
    conditions = [{context.condition for context in run.contexts} for run in runs]
    ordered = in_order(name for names in conditions for name in names)
    if not ordered or "truncate" in ordered:
        return "truncate"
    return max(ordered, key=lambda name: sum(name in names for names in conditions))


def chosen(
    frame: pd.DataFrame,
    runs: Sequence[OpenRun],
    *,
    condition: str | None = None,
    tolerance: str | None = None,
    every: bool = False,
) -> pd.DataFrame:
    """The cells that are shown.

    Args:
        frame: From :func:`cells`.
        runs: The runs.
        condition: Only this condition; by default :func:`main_condition`.
        tolerance: Only this tolerance; by default the first of those that most runs have, whatever
            their answers are.
        every: Whether all are shown where none is asked for.

    Raises:
        UsageError: If no run has the condition or the tolerance.
    """
    frame = only(frame, "condition", condition, "condition")
    frame = only(frame, "at", tolerance, "tolerance")
    if frame.empty or every:
        return frame
    if condition is None:
        frame = frame[frame["condition"] == main_condition(runs)]
    if tolerance is None and not (frame["kind"] == "delta").any():
        counts = frame.groupby("at", sort=False)["run"].nunique()
        frame = frame[frame["at"] == counts.idxmax()] if len(counts) else frame
    return frame


def pivots(frame: pd.DataFrame, runs: Sequence[OpenRun], value: Value) -> Iterator[Table]:
    """A table of models × data for each condition, and each tolerance of a length.

    Args:
        frame: The cells that are shown.
        runs: The runs; what has no cell has a dash.
        value: What the cells hold.
    """
    sets, names = dict.fromkeys(run.data for run in runs), dict.fromkeys(row_names(runs))
    empty = [{"row": name, "data": next(iter(sets)), "text": "–"} for name in names]
    levels = dict.fromkeys(f"{run.analysis.confidence * 100:g} %" for run in runs)
    unit = " or ".join(dict.fromkeys(run.unit for run in runs))
    for condition in in_order(frame["condition"].astype(str)):
        own = frame[frame["condition"] == condition]
        parts = [(str(at), rows) for at, rows in own.groupby("at", sort=False)]
        if value.octave is not None:
            parts = [(" or ".join(at for at, _ in parts), own)]
        for at, rows in parts:
            what = f"Delta ({SHOWN['tokens']}) at {at} {unit}"
            if value.octave is None:
                what = f"Effective context ({unit}) at {describe_tolerance(at)}"
            caption = f"{what} under {condition}, with its {' or '.join(levels)} interval"
            yield pivot(
                caption,
                [*empty, *records(rows)],
                sets,
                by="data",
                cell=lambda row: str(row["text"]),
                head={"model": lambda row: str(row["row"])},
            )


def together(
    runs: Sequence[OpenRun],
    value: Value,
    *,
    condition: str | None = None,
    tolerance: str | None = None,
    every: bool = False,
) -> Finding:
    """Any number of runs: how many there are, their tables, and once how they are matched.

    Args:
        runs: The runs.
        value: What the cells hold.
        condition: See :func:`chosen`.
        tolerance: See :func:`chosen`.
        every: See :func:`chosen`.
    """
    frame = chosen(cells(runs, value), runs, condition=condition, tolerance=tolerance, every=every)
    models, sets = (
        counted(len({getattr(run, name) for run in runs}), word)
        for name, word in (("model", "model"), ("data", "data set"))
    )
    few = ["none of them has a value to show"] if frame.empty else []
    labels = unique_labels([run.folder for run in runs])
    return Finding(
        "pivot",
        "Models by data",
        sentence=f"{counted(len(runs), 'run')}: {models} on {sets}.",
        tables=[
            replace(table, shown="both", rule=True, blocks=True)
            for table in pivots(frame, runs, value)
        ],
        caveats=[
            *few,
            *filter(None, [in_common(runs)]),
            *confounds(runs),
            *matched(runs),
            *settings_apart(runs),
            *(
                f"{label}: {line}"
                for label, run in zip(labels, runs, strict=True)
                for line in run.warnings
            ),
        ],
    )
