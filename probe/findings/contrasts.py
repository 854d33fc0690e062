"""Contrasts between conditions on common targets: what deletion, replacement and order add."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pandas as pd

from probe.analysis.bootstrap import bootstrap, too_few
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import binned, by_octave, intervals, located, stacked, to_sums
from probe.findings.base import Finding, register
from probe.findings.chart import (
    LOOKS,
    Chart,
    EmptyChartError,
    Floats,
    Series,
    delta_axis,
    distance_axis,
)
from probe.findings.curve import curve_series, threshold_of
from probe.findings.table import between, pivot, ranged, records
from probe.perturbations.steps import part_of
from probe.text import difference

COLUMNS = (
    *("contrast", "minuend", "subtrahend", "scale", "distance_from", "distance_to"),
    *("delta", "low", "high", "targets", "documents"),
)

_KINDS = ("truncate", "replace", "shuffle")
"""Each but the first is contrasted with the one before it."""


@register("contrasts", order=110, level="brief")
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """Deletion, content and order by octave.

    Args:
        run: The open run.
        others: Not needed.
    """
    table, missing = run.once(contrasts)
    rows = table[table["scale"] == "octave"]
    files = {
        "summary.json": {
            "contrasts": records(rows.drop(columns="scale")),
            "warnings": missing,
        }
    }
    # Of one condition alone, or where attention was limited, nobody asks for contrasts of texts.
    kinds = {name.partition("(")[0] for name in run.conditions}
    of_texts = run.contexts or not run.patterns
    asked = len(kinds.intersection(_KINDS)) > 1 and run.is_answered_by("curve") and of_texts
    notes = missing if asked else ()
    nothing = Finding("contrasts", "Deletion, content and order", notes=notes, files=files)
    if rows.empty or not run.has_length:
        return nothing
    names = dict.fromkeys(rows["contrast"].astype(str))
    sentence = "At the farthest distances: " + "; ".join(_farthest(rows, name) for name in names)
    drawn = chart(run, rows)
    return replace(nothing, sentence=f"{sentence}.", tables=drawn.tables, charts=[drawn])


def pairs(conditions: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The contrasts that a run's conditions allow, and those that they do not.

    Args:
        conditions: Canonical texts of the run's conditions.

    Returns:
        Pairs ``(minuend, subtrahend)`` of ``truncate − intact``, ``replace − truncate`` and
        ``shuffle − replace``, each with every parameter that was scored; and a line for each of
        the three that lacks a condition.
    """
    by_kind: dict[str, list[str]] = {}
    for condition in conditions:
        by_kind.setdefault(condition.partition("(")[0], []).append(condition)
    by_kind["intact"] = ["intact"]
    found: list[tuple[str, str]] = []
    missing = []
    for subtrahend, minuend in pairwise(("intact", *_KINDS)):
        lacking = [f"'{kind}'" for kind in (minuend, subtrahend) if kind not in by_kind]
        if lacking:
            names = " and ".join(lacking)
            missing.append(f"no contrast {minuend} − {subtrahend}: not scored: {names}")
        else:
            every = product(by_kind[minuend], by_kind[subtrahend])
            # Of a source and its target each has contrasts of its own.
            found += [
                pair for pair in every if pair[1] == "intact" or len(set(map(part_of, pair))) == 1
            ]
    return found, missing


def contrasts(run: OpenRun) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """All contrasts of a run with intervals, by bin and by octave.

    Each may be negative, and they are no shares of a whole. Intervals are pointwise.

    Args:
        run: The open run.

    Returns:
        A frame with the columns ``COLUMNS`` (delta and limits in nats, distances in tokens,
        scale ``bin`` or ``octave``), and a line for each contrast that lacks a condition.
    """
    scored, missing = pairs(run.conditions)
    confidence = run.analysis.confidence
    frames = []
    for minuend, subtrahend in scored:
        rows = contrast_sums(run, minuend, subtrahend)
        if rows.empty:
            continue
        for scale, part in (("bin", rows), ("octave", by_octave(rows, run.last_edge))):
            sums = to_sums(part, run.documents, run.texts(minuend, subtrahend))
            sums = run.adjusted(sums, minuend, subtrahend)
            resampled = bootstrap(sums.sums, sums.targets, run.weights, confidence, sums.texts)
            frame = intervals(sums, resampled, confidence)
            frame = frame.assign(minuend=minuend, subtrahend=subtrahend, scale=scale)
            frames.append(frame.assign(contrast=f"{minuend} − {subtrahend}"))
    return stacked(frames, COLUMNS)[[*COLUMNS]], tuple(missing)


def contrast_sums(run: OpenRun, minuend: str, subtrahend: str) -> pd.DataFrame:
    """Sums of nll(minuend) − nll(subtrahend) by bin and document, on common targets.

    Targets are common where document, window, position and boundary agree. Grey rows, and bins
    before the start of either curve, are left out.

    Args:
        run: The open run.
        minuend: Canonical text of the first condition.
        subtrahend: Canonical text of the second; ``intact`` is the target's own intact loss.

    Returns:
        ``distance_from, distance_to, document, targets, delta_sum`` (nats).
    """
    if subtrahend == "intact":
        frame = run.plain_sums
        frame = frame[(frame["condition"] == minuend) & ~frame["grey"].astype(bool)]
    else:
        frame = common_sums(run, subtrahend, [minuend])
        frame = frame.assign(delta_sum=frame["numerator"] - frame["denominator"])
    frame = frame[["distance_from", "distance_to", "document", "targets", "delta_sum"]]
    start = max(run.starts.get(name, 0) for name in (minuend, subtrahend))
    return frame[frame["distance_from"] >= start].reset_index(drop=True)


def common_sums(run: OpenRun, reference: str, others: Sequence[str]) -> pd.DataFrame:
    """Sums of the deltas of some conditions and of another, on targets that both scored.

    Where two cells hold the same targets their sums are those of the common ones; only where they
    do not, rows are joined. Grey rows are left out.

    Args:
        run: The open run.
        reference: Canonical text of the condition that all others are held against.
        others: Canonical texts of the others.

    Returns:
        One row for each of the others, bin and document: ``condition, distance_from, distance_to``
        (tokens)``, document, targets, numerator, denominator`` (sums of delta under the condition
        and under the reference, nats).
    """
    names = {"reference": reference, "others": list(others)}
    connection, table = run.connection, run.cells
    frame = connection.execute(
        f"""SELECT a.condition, a.bin, a.document, sum(a.targets)::BIGINT AS targets,
            sum(a.delta_sum) AS numerator, sum(b.delta_sum) AS denominator,
            bool_and(a.signature = b.signature AND a.targets = b.targets) AS same
        FROM {table} a JOIN {table} b
            ON a.bin = b.bin AND a.document = b.document AND a.shared = b.shared
        WHERE b.condition = $reference AND a.condition IN $others
            AND a.bin >= 0 AND NOT a.grey AND NOT b.grey
        GROUP BY a.condition, a.bin, a.document ORDER BY a.condition, a.bin, a.document""",
        names,
    ).df()
    same = frame.pop("same").to_numpy(dtype=bool)
    if not same.all():
        connection.register("apart", frame.loc[~same, ["condition", "bin", "document"]])
        with binned(connection, run.edges):
            joined = connection.execute(
                """SELECT a.condition, bin, a.document, count(*) AS targets,
                    sum(a.delta) AS numerator, sum(b.delta) AS denominator
                FROM targets a JOIN bins USING (distance)
                    SEMI JOIN apart USING (condition, bin, document)
                    JOIN targets b ON a.document = b.document AND a."window" = b."window"
                        AND a.position = b.position AND a.boundary = b.boundary
                WHERE b.condition = $reference AND a.condition IN $others AND NOT a.grey
                GROUP BY a.condition, bin, a.document""",
                names,
            ).df()
        connection.unregister("apart")
        frame = pd.concat([part for part in (frame[same], joined) if len(part)] or [joined])
        frame = frame.sort_values(["condition", "bin", "document"], ignore_index=True)
    return located(frame, run.edges)


def chart(run: OpenRun, rows: pd.DataFrame) -> Chart:
    """The contrasts by octave of distance, with their pointwise intervals.

    Args:
        run: The run.
        rows: Rows of :func:`contrasts` by octave.

    Raises:
        EmptyChartError: If there is no contrast.
    """
    if rows.empty:
        raise EmptyChartError("no contrast to draw")
    names = list(dict.fromkeys(rows["contrast"].astype(str)))
    values = rows[["delta", "low", "high"]].to_numpy(float)
    label = "difference of losses (nats per token)"
    few = too_few(len(run.documents)) if rows["low"].isna().any() else ""
    few = f"; no interval: {few}" if few else ""
    everywhere = len(rows) == len(names) * rows["distance_from"].nunique()
    few += "" if everywhere else "; –: not measured there"
    table = pivot(
        f"Contrasts (nats per token{few}) by distance ({run.unit})",
        rows.to_dict("records"),
        names,
        by="contrast",
        cell=lambda row: difference(row["delta"], row["low"], row["high"]),
    )
    return Chart(
        "Contrasts by distance",
        distance_axis(float(rows["distance_to"].max()), low=1, unit=run.unit),
        delta_axis(values, threshold_of(run), label),
        [
            octave_series(rows[rows["contrast"] == name], name, look, (place, len(names)), "delta")
            for place, (name, look) in enumerate(_looks(run, names).items())
        ],
        how=(
            "Each mark is the difference of two losses on the same targets of an octave, its bar"
            " the interval over documents: truncate − intact is the value of the far text, replace"
            " − truncate the effect of wrong text as against none, shuffle − replace that of the"
            " right words in the wrong order as against wrong text. Below 0 the first of the two"
            " has the lower loss. The differences are no shares of a whole."
        ),
        tables=[replace(table, shown="terminal")],  # the page has it below the chart
        heading=[run.model, run.data],
    )


def _looks(run: OpenRun, names: Sequence[str]) -> dict[str, int]:
    """The look of each contrast: the colour is that of its first condition."""
    minuends = [name.partition(" − ")[0] for name in names]
    return {
        name: run.rank(minuend) + LOOKS * minuends[:place].count(minuend)
        for place, (name, minuend) in enumerate(zip(names, minuends, strict=True))
    }


def octave_series(
    rows: pd.DataFrame, name: str, look: int, place: tuple[int, int], value: str
) -> Series:
    """Points with bars at the octaves of distance, beside those of the other series.

    Args:
        rows: ``distance_from, distance_to, low, high`` and the column *value*, a row an octave.
        name: Its name in the legend.
        look: Number of its look.
        place: Which of the series it is, and how many there are.
        value: The column that is drawn.
    """
    rows = rows.sort_values("distance_from")
    x = octave_middles(rows, *place)
    return replace(curve_series(rows, name, look, value, bars=True), x=x)


def octave_middles(rows: pd.DataFrame, place: int, count: int) -> Floats:
    """Geometric middles of octaves, moved so that bars of several series hide none of the others.

    The first octave is taken to begin at 1: its middle has no place nearer to 0.

    Args:
        rows: ``distance_from, distance_to``.
        place: Which of the series it is.
        count: How many series there are; none comes near the next octave.
    """
    first, end = (rows[f"distance_{name}"].to_numpy(np.float64) for name in ("from", "to"))
    apart = min(0.18, 0.8 / count)
    moved = 2 ** (apart * (place - (count - 1) / 2))
    return np.asarray(np.sqrt(np.maximum(first, 1) * end) * moved, dtype=np.float64)


def _farthest(rows: pd.DataFrame, name: str) -> str:
    last = records(rows[rows["contrast"] == name].sort_values("distance_from").iloc[[-1]])[0]
    return f"{name} is {ranged(last, 'delta')} nats at {between(last)}"
