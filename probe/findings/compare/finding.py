"""Any number of runs side by side: a row a run, models × data, and all that is told of them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from probe.analysis.bins import SINGLE, octave_index
from probe.analysis.bootstrap import bootstrap, pointwise_band, too_few
from probe.analysis.fit import in_order
from probe.analysis.floor import is_noise
from probe.analysis.open_run import PATTERN, OpenRun
from probe.errors import UsageError
from probe.findings import contrasts
from probe.findings.answer import describe_tolerance
from probe.findings.base import Finding, only, register_of_all
from probe.findings.compare.charts import DIFFERENCE, PANELS, overlays
from probe.findings.compare.comparison import Comparison
from probe.findings.compare.conclusion import comparison_finding, conclusion, difference_record
from probe.findings.compare.differences import SHOWN
from probe.findings.compare.matched import (
    confounds,
    in_common,
    main_condition,
    matched,
    row_names,
    settings_apart,
    short_revision,
)
from probe.findings.compare.pair import create_token_bytes
from probe.findings.positions import losses
from probe.findings.table import Table, pivot, records
from probe.results.folder import unique_labels
from probe.results.tolerance import spaced
from probe.results.views import row
from probe.text import counted, difference, shown, wrapped

SCHEMA = 1
"""Version of the document of :func:`comparison_record`; a key that is there stays."""
COLUMNS = (
    *("run", "model", "revision", "dtype", "attention", "data", "documents", "windows", "targets"),
    *("loss", "perplexity", "bits_per_byte", "condition"),
)
"""Columns in front of the tolerances: loss is the intact one (nats per token)."""
ENDS = ("", " length", " low", " high")
"""What a tolerance has behind it in the names of its columns; the first is the answer in words."""
CELL_COLUMNS = (
    *("run", "row", "model", "data", "condition", "at", "kind"),
    *("value", "low", "high", "reach", "text"),
)
"""Columns of the cells. ``row`` names the line of the table. ``at`` is a tolerance or an octave,
``kind`` as in ``EffectiveContext``, or ``delta``. Lengths are in tokens, deltas in nats per token.
A missing length lies beyond the reach (tokens), or is unresolved."""


@register_of_all("runs", plots=[DIFFERENCE, PANELS])
def finding(
    runs: Sequence[OpenRun], findings_of_each: Sequence[Sequence[Finding]]
) -> Finding | None:
    """The runs as a table, their curves over one another, and the answer of each.

    Args:
        runs: The runs.
        findings_of_each: The findings of each.
    """
    labels = unique_labels([run.folder for run in runs])
    answers = [
        f"{label}: {sentence}"
        for label, findings in zip(labels, findings_of_each, strict=True)
        for sentence in [one.sentence for one in findings if one.sentence][:1]
    ]
    return replace(
        table_finding(runs),
        sentence=f"{len(runs)} runs, each in full below.",
        more=answers,
        charts=overlays(runs),
    )


def table_finding(runs: Sequence[OpenRun]) -> Finding:
    """The table of the runs alone, with the analysis settings that its rows do not share.

    Args:
        runs: The runs.
    """
    return Finding(
        "runs", "The runs", tables=[_table(run_table(runs))], caveats=list(settings_apart(runs))
    )


def run_table(runs: Sequence[OpenRun]) -> pd.DataFrame:
    """One row a run: what it is, its intact loss, its effective contexts.

    The lengths are those of ``truncate``; where no run has it, of the first condition that most
    runs have.

    Args:
        runs: The runs.

    Returns:
        The columns ``COLUMNS``, and for each tolerance ``1%`` (the answer in words) with
        ``1% length, 1% low, 1% high`` (tokens, missing beyond reach or where unresolved).
    """
    condition = main_condition(runs)
    labels = unique_labels([run.folder for run in runs])
    rows = []
    for run, label in zip(runs, labels, strict=True):
        with run.reading():
            rows.append({"run": label, **_about(run, condition), **_answers(run, condition)})
    tolerances = dict.fromkeys(
        tolerance.text for run in runs for tolerance in run.analysis.tolerances
    )
    columns = [*COLUMNS, *(f"{text}{end}" for text in tolerances for end in ENDS)]
    frame = pd.DataFrame(rows, columns=columns)
    whole = [f"{text}{end}" for text in tolerances for end in ENDS[1:]]
    frame = frame.astype(dict.fromkeys(whole, "Int64") | {"bits_per_byte": "float64"})
    frame[list(tolerances)] = frame[list(tolerances)].fillna("–")
    return frame


def _about(run: OpenRun, condition: str) -> dict[str, object]:
    """What a run is and how much it measured, the columns between its name and its answers."""
    model = run.facts.model
    by_condition = run.once(losses).by_condition
    intact = by_condition.loc[by_condition["condition"] == "intact", "loss"]
    loss = float(intact.iloc[0]) if len(intact) else np.nan
    return {
        "model": run.model,
        "revision": short_revision(model.revision),
        "dtype": str(model.dtype or "–"),
        "attention": str(run.facts.config.model.get("attention") or "–"),
        "data": run.data,
        "documents": len(run.documents),
        "windows": run.windows,
        "targets": run.targets,
        "loss": loss,
        "perplexity": math.exp(loss),
        "bits_per_byte": run.once(bits_per_byte),
        "condition": condition,
    }


def bits_per_byte(run: OpenRun) -> float | None:
    """Intact loss of a run in bits per byte of its targets; ``None`` for data without text."""
    connection = run.connection
    create_token_bytes(connection, "token_bytes", run.path / "windows.parquet")
    nats, size = row(
        connection,
        """SELECT sum(nll::DOUBLE), sum(bytes)
        FROM scores JOIN token_bytes USING (document, "window", position)
        WHERE condition = 'intact'""",
    )
    connection.execute("DROP TABLE token_bytes")
    return float(nats) / math.log(2) / float(size) if size else None


def _table(frame: pd.DataFrame) -> Table:
    """The runs in words and rounded numbers, lengths without columns of their limits.

    The attention has a column where the runs differ in it.
    """
    tolerances = [name for name in frame.columns if f"{name} length" in frame.columns]
    alike = frame["attention"].nunique() < 2
    names = [*(name for name in COLUMNS if name != "attention" or not alike), *tolerances]
    forms = dict.fromkeys(("documents", "windows", "targets"), ",")
    forms |= {"loss": ".4f", "perplexity": ".2f", "bits_per_byte": ".4f"}
    shown = frame[names].copy()
    for name, form in forms.items():
        shown[name] = [f"{value:{form}}" if value == value else "–" for value in frame[name]]
    return Table(
        "The runs",
        [name.replace("_", " ") if name in COLUMNS else spaced(name) for name in names],
        shown.astype(str).to_numpy().tolist(),
        shown="both",
        captioned=False,
        rule=True,
        blocks=True,
    )


def _answers(run: OpenRun, condition: str) -> dict[str, object]:
    """The effective context at each tolerance: in words, the length and its limits."""
    known: dict[str, object] = {one.text: "–" for one in run.analysis.tolerances}
    return known | {
        f"{cell['at']}{end}": cell[name]
        for cell in _lengths(run)
        if cell["condition"] == condition
        for name, end in zip(("text", "value", "low", "high"), ENDS, strict=True)
    }


@dataclass(frozen=True)
class Asked:
    """What is asked for of models × data.

    Args:
        octave: A distance (tokens) in the octave whose mean delta the cells hold; ``None`` puts
            effective contexts into them.
        condition: Only this condition; by default
            :func:`probe.findings.compare.matched.main_condition`.
        tolerance: Only this tolerance; by default the first of those that most runs have, whatever
            their answers are.
        every: Whether all are shown where none is asked for.
    """

    octave: int | None = None
    condition: str | None = None
    tolerance: str | None = None
    every: bool = False


def parse_value(text: str) -> int | None:
    """Read what cells hold: ``length``, or ``delta@512``, of which the distance is returned.

    Raises:
        UsageError: If it is neither.
    """
    name, _, distance = text.partition("@")
    if text == "length":
        return None
    if name == "delta" and distance.isdecimal() and len(distance) < 10:
        return int(distance)
    raise UsageError(f"--value {shown(text)}; allowed: length, delta@512 (any distance)")


def cells(runs: Sequence[OpenRun], octave: int | None = None) -> pd.DataFrame:
    """What every run says under each of its conditions, a row a cell.

    Args:
        runs: The runs; each is read with its own analysis settings.
        octave: See :class:`Asked`.

    Returns:
        Columns :data:`CELL_COLUMNS`.
    """
    labels, names = unique_labels([run.folder for run in runs]), row_names(runs)
    rows = []
    for run, label, name in zip(runs, labels, names, strict=True):
        about = {"run": label, "row": name, "model": run.model, "data": run.data}
        with run.reading():
            found = _lengths(run) if octave is None else _deltas(run, octave)
            rows += [about | cell for cell in found]
    frame = pd.DataFrame(rows, columns=list(CELL_COLUMNS))
    whole = ["reach"] if octave is not None else ["value", "low", "high", "reach"]
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


def chosen(frame: pd.DataFrame, runs: Sequence[OpenRun], asked: Asked) -> pd.DataFrame:
    """The cells that are shown.

    Args:
        frame: From :func:`cells`.
        runs: The runs.
        asked: What is asked for.

    Raises:
        UsageError: If no run has the condition or the tolerance.
    """
    frame = only(frame, "condition", asked.condition, "condition")
    frame = only(frame, "at", asked.tolerance, "tolerance")
    if frame.empty or asked.every:
        return frame
    if asked.condition is None:
        frame = frame[frame["condition"] == main_condition(runs)]
    if asked.tolerance is None and not (frame["kind"] == "delta").any():
        counts = frame.groupby("at", sort=False)["run"].nunique()
        frame = frame[frame["at"] == counts.idxmax()] if len(counts) else frame
    return frame


def together(runs: Sequence[OpenRun], asked: Asked = Asked()) -> Finding:
    """Any number of runs: how many there are, models × data, and once how they are matched.

    Args:
        runs: The runs.
        asked: What is asked for.
    """
    frame = chosen(cells(runs, asked.octave), runs, asked)
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
            for table in _pivots(frame, runs, asked.octave)
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


def _pivots(frame: pd.DataFrame, runs: Sequence[OpenRun], octave: int | None) -> Iterator[Table]:
    """A table for each condition, and each tolerance of a length; what has no cell has a dash."""
    sets, names = dict.fromkeys(run.data for run in runs), dict.fromkeys(row_names(runs))
    empty = [{"row": name, "data": next(iter(sets)), "text": "–"} for name in names]
    levels = dict.fromkeys(f"{run.analysis.confidence * 100:g} %" for run in runs)
    unit = " or ".join(dict.fromkeys(run.unit for run in runs))
    for condition in in_order(frame["condition"].astype(str)):
        own = frame[frame["condition"] == condition]
        parts = [(str(at), rows) for at, rows in own.groupby("at", sort=False)]
        if octave is not None:
            parts = [(" or ".join(at for at, _ in parts), own)]
        for at, rows in parts:
            what = f"Delta ({SHOWN['tokens']}) at {at} {unit}"
            if octave is None:
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


def told(
    runs: Sequence[OpenRun], comparison: Comparison | None, *, full: bool = False
) -> tuple[Finding, ...]:
    """What is said of runs side by side, the conclusion first.

    Args:
        runs: The runs.
        comparison: Of two, what :func:`probe.findings.compare.comparison.compare` gives.
        full: Whether the table of runs and all differences are told as well.

    Returns:
        Of one run its contrasts and its row, of two the difference, of more models × data.
    """
    if len(runs) == 1:
        known = contrasts.finding(runs[0], ())
        sentence = wrapped(known.sentence, "") if known else ""
        first = Finding("conditions", "How its conditions differ", sentence=sentence)
        return first, table_finding(runs)
    if comparison is None:
        whole = together(runs, Asked(every=full))
        return (whole, table_finding(runs)) if full else (whole,)
    first = conclusion(comparison)
    return (first, table_finding(runs), comparison_finding(comparison)) if full else (first,)


def comparison_record(
    runs: Sequence[OpenRun], octave: int | None = None, comparison: Comparison | None = None
) -> dict[str, Any]:
    """What `probe compare --json` prints; ``docs/schemas/compare.json`` describes it.

    Args:
        runs: The runs.
        octave: What the cells hold, see :class:`Asked`.
        comparison: The comparison of two runs.

    Returns:
        ``runs`` (one an entry, with its intact loss), ``cells`` (every condition and tolerance of
        every run, columns :data:`CELL_COLUMNS`), ``notes`` on how the runs are matched, and
        ``difference``, which is ``None`` but of two runs.
    """
    about = records(run_table(runs)[[name for name in COLUMNS if name != "condition"]])
    return {
        "schema": SCHEMA,
        "runs": [
            {**entry, "protocol": run.folder.kind, "confidence": run.analysis.confidence}
            for entry, run in zip(about, runs, strict=True)
        ],
        "value": "length" if octave is None else f"delta@{octave}",
        "cells": records(cells(runs, octave)),
        "notes": [*filter(None, [in_common(runs)]), *confounds(runs), *matched(runs)],
        "difference": None if comparison is None else difference_record(comparison),
    }
