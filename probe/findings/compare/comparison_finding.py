"""The comparison of two runs as a finding, and its chart."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from probe.analysis.fit import in_order
from probe.analysis.open_run import OpenRun
from probe.findings.base import CONDITION, Drawn, Finding, Option, Plot, only
from probe.findings.chart import (
    THRESHOLD,
    Chart,
    EmptyChartError,
    delta_axis,
    distance_axis,
    linear_axis,
)
from probe.findings.compare.accuracy import accuracy_table
from probe.findings.compare.comparison import Comparison, compare
from probe.findings.compare.lengths import SHOWN
from probe.findings.curve import curve_series
from probe.findings.table import Table, between, pivot, records
from probe.results.tolerance import spaced
from probe.text import difference, printable, signed

LINEAR = 10 * THRESHOLD
"""Differences that are all smaller than this are drawn to a linear scale."""
UNIT = Option(
    "--unit",
    "unit",
    "compare: what distances are counted in; default: tokens, if both runs have the same.",
    choices=list(SHOWN),
)


def comparison_finding(comparison: Comparison) -> Finding:
    """The whole comparison: losses, differences by octave, effective contexts, then the notes.

    Args:
        comparison: What :func:`probe.findings.compare.comparison.compare` gives.
    """
    share = f"{comparison.confidence * 100:g} % intervals over documents"
    how = "paired" if comparison.paired else "unpaired"
    losses = _means(comparison.losses, "intact loss", "unit", "{:.4f}".format, "Intact loss")
    tables = [replace(losses, captioned=False), accuracy_table(comparison.accuracy)]
    for unit in dict.fromkeys(map(str, comparison.octaves["unit"])):
        tables += [_octaves(comparison, unit), *_contexts(comparison, unit)]
    caption = "Delta of attention patterns, B − A (nats per token)"
    tables.append(_means(comparison.patterns, "pattern", "condition", signed, caption))
    return Finding(
        "comparison",
        "The difference of two runs",
        basis=(
            f"B − A, {how} ({share})\nA: {printable(comparison.a)}\nB: {printable(comparison.b)}"
        ),
        tables=[table for table in tables if table.rows],
        caveats=comparison.notes,
    )


def difference_plot(
    runs: Sequence[OpenRun], *, condition: str | None = None, unit: str | None = None
) -> Drawn:
    """The difference of delta between two runs by distance, for `probe plot`.

    Args:
        runs: Both runs.
        condition: Only this condition.
        unit: What distances are counted in, ``tokens`` or ``bytes``; without, tokens where both
            runs have the same.

    Raises:
        EmptyChartError: If there is no difference in this unit.
        UsageError: If not both runs have the condition.
    """
    comparison = compare(*runs)
    rows = only(comparison.curve, "condition", condition, "condition")
    if unit is None:
        unit = "tokens" if (rows["unit"] == "tokens").any() else "bytes"
    labels = comparison.a, comparison.b
    heading = [
        f"{label}: {run.model} on {run.data}" for label, run in zip(labels, runs, strict=True)
    ]
    yield "", chart(rows, labels, unit, heading, comparison.told_in(unit))


PLOT = Plot("compare", difference_plot, 2, [CONDITION, UNIT])


def chart(
    rows: pd.DataFrame,
    labels: tuple[str, str] = ("A", "B"),
    unit: str = "tokens",
    heading: Sequence[str] = (),
    told_in: str = "",
) -> Chart:
    """The difference of delta between two runs, one line a condition, with pointwise bands.

    Args:
        rows: The difference of the second run and the first, columns ``condition, unit,
            distance_from, distance_to, difference, low, high``.
        labels: The names of the first run and of the second.
        unit: What distances are counted in, ``tokens`` or ``bytes``.
        heading: Lines above it that say what the runs are.
        told_in: The unit in the words of a reader, by default the unit.

    Raises:
        EmptyChartError: If no row has this unit.
        ValueError: If *unit* is neither.
    """
    if unit not in SHOWN:
        raise ValueError(f"unit is {unit!r}; allowed: {', '.join(SHOWN)}")
    rows = rows[rows["unit"] == unit].sort_values("distance_from", kind="stable")
    if rows.empty:
        raise EmptyChartError(f"no difference by distance in {unit} to draw")
    title = f"{labels[1]} − {labels[0]}"
    values = rows[["difference", "low", "high"]].to_numpy(float)
    label = f"difference of delta ({SHOWN[unit]})"
    small = not (abs(values) > LINEAR).any()  # NaN where there is no interval
    return Chart(
        title,
        distance_axis(
            float(rows["distance_to"].max()),
            label=f"distance ({told_in or unit})",
            low=float(rows["distance_from"].min()),
        ),
        linear_axis(values, label, include=[0]) if small else delta_axis(values, label=label),
        [
            curve_series(rows[rows["condition"] == name], name, look, "difference")
            for look, name in enumerate(in_order(rows["condition"].astype(str)))
        ],
        how=(
            "Each line is the delta of the second run less that of the first: above 0 the second"
            " run needs the text further back more."
        ),
        heading=[*heading, title],
    )


def _means(
    rows: pd.DataFrame, header: str, name: str, form: Callable[[float], str], caption: str
) -> Table:
    """The means of both runs and their difference, each row named by one of its columns."""
    cells = [
        [row[name], form(row["a"]), form(row["b"]), row["text"]] for row in records(_in_words(rows))
    ]
    return Table(
        caption,
        [header, "A", "B", "B − A"],
        cells,
        shown="terminal",
        blocks=True,
    )


def _octaves(comparison: Comparison, unit: str) -> Table:
    rows = comparison.octaves[comparison.octaves["unit"] == unit]
    table = pivot(
        f"Delta, B − A ({SHOWN[unit]})",
        records(_in_words(rows.sort_values("distance_from", kind="stable"))),
        in_order(rows["condition"].astype(str)),
        by="condition",
        cell=lambda row: str(row["text"]),
        head={f"distance ({comparison.told_in(unit)})": between},
    )
    return replace(table, shown="terminal", blocks=True)


def _contexts(comparison: Comparison, unit: str) -> Iterator[Table]:
    """Two tables a condition: the lengths of both runs, then their differences."""
    rows = comparison.contexts[comparison.contexts["unit"] == unit]
    names = in_order(rows["condition"].astype(str))
    of_each = [(name, rows[rows["condition"] == name]) for name in names]
    last = [
        f"{printable(name)}: {_last_delta(own.iloc[0], unit)}"
        for name, own in of_each
        if (own["kind"] != "number").any()
    ]
    if last:
        last.insert(0, "where a length has no difference, that of delta at the longest distances:")
    for name, own in of_each:
        heading = (
            f"Effective context, B − A ({comparison.told_in(unit)})\n" if name == names[0] else ""
        )
        sides = {"a_text": "A", "b_text": "B"}
        yield _by_tolerance(own, sides, f"{heading}{printable(name)}")
        yield _by_tolerance(own, {"text": "B − A"}, below=last if name == names[-1] else ())


def _by_tolerance(
    rows: pd.DataFrame,
    columns: Mapping[str, str],
    caption: str = "",
    below: Sequence[str] = (),
) -> Table:
    """Some columns of one condition, the tolerances that agree in all of them in one row."""
    shown = rows.assign(tolerance=rows["tolerance"].astype(str).map(spaced))
    alike = shown.groupby([*columns], sort=False, as_index=False)["tolerance"].agg(", ".join)
    return Table(
        caption,
        ["tolerance", *columns.values()],
        alike[["tolerance", *columns]].to_numpy().tolist(),
        shown="terminal",
        captioned=bool(caption),
        blocks=True,
        indent=2,
        below=below,
    )


def _last_delta(row: "pd.Series[Any]", unit: str) -> str:
    """The difference of delta at the longest distances that both runs measured."""
    at = f"{int(row['delta_from']):,}–{int(row['delta_to']) - 1:,}"
    value, low, high = (float(row[f"delta_{name}"]) for name in ("difference", "low", "high"))
    return f"{difference(value, low, high)} {SHOWN[unit]} at {at}"


def _in_words(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with ``text``, each difference with its interval."""
    values = rows[["difference", "low", "high"]].to_numpy(dtype=float)
    return rows.assign(text=[difference(*row) for row in values.tolist()])
