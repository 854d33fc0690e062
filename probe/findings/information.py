"""Ablated information: a condition's loss as a ratio to the loss of all far context."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from probe.analysis.bootstrap import Floats, bootstrap, too_few
from probe.analysis.fit import in_order
from probe.analysis.floor import is_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import by_octave, intervals, stacked, to_sums
from probe.findings import contrasts
from probe.findings.base import CONDITION, Drawn, Finding, Plot, register
from probe.findings.chart import Chart, EmptyChartError, Rule, Series, distance_axis, linear_axis
from probe.findings.table import between, by_condition, pivot, ranged, records
from probe.perturbations.steps import part_of

COLUMNS = (
    *("condition", "distance_from", "distance_to", "ratio", "low", "high"),
    *("resolved", "reason", "targets", "documents"),
)


def plot(runs: Sequence[OpenRun], *, condition: str | None = None) -> Drawn:
    """Contrasts above ablated information, for `probe plot`.

    Args:
        runs: One run.
        condition: Only what it has a part in.

    Raises:
        EmptyChartError: If there is neither.
    """
    (run,) = runs
    differences, missing = run.once(contrasts.contrasts)
    differences = differences[differences["scale"] == "octave"]
    shares, more = run.once(ablated_information)
    if condition is not None:
        differences = differences[(differences[["minuend", "subtrahend"]] == condition).any(axis=1)]
        shares = shares[shares["condition"] == condition]
    if differences.empty and shares.empty:
        reasons = "; ".join((*run.warnings, *missing)) or f"'{condition}' is in none"
        raise EmptyChartError(f"no contrast and no ablated information to draw: {reasons}")
    drawn = [] if differences.empty else [contrasts.chart(run, differences)]
    drawn += [] if shares.empty else [chart(run, shares)]
    notes = [line for line in (*missing, *more) if "not scored" in line]
    drawn[0] = replace(drawn[0], notes=notes)
    yield "", drawn if len(drawn) > 1 else drawn[0]


@register("information", order=120, plots=[Plot("information", plot, options=[CONDITION])])
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """Each condition's loss over that of truncation.

    Args:
        run: The open run.
        others: Not needed.
    """
    rows, notes = run.once(ablated_information)
    files = {"findings.json": {"notes": notes, "information": records(rows)}}
    nothing = Finding("information", "Ablated information", notes=notes, files=files)
    if rows.empty or not run.has_length:
        return nothing
    sentence = _sentence(rows[rows["resolved"].astype(bool)])
    return replace(nothing, sentence=sentence, charts=[chart(run, rows)])


def ablated_information(run: OpenRun) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """What share of the loss of truncation a condition costs, by octave of distance.

    The ratio is ``(nll_c − nll_intact) / (nll_truncate − nll_intact)``, of the means over common
    targets (document, window, position and boundary agree). It has no bound: a condition that
    distracts costs more than truncation, and its ratio exceeds 1; one that helps has a ratio below
    0. Both means are drawn together with the run's documents. Where the denominator's interval
    contains 0 the ratio is unresolved: it could be any number.

    Args:
        run: The open run; a denominator must also lie above its noise floor.

    Returns:
        A frame with the columns ``COLUMNS`` (distances in tokens; ``ratio, low, high`` NaN and
        ``reason`` filled where ``resolved`` is false), the noise control and truncation itself
        left out; and a line where a condition that it needs was not scored.

    Source: O'Connor and Andreas 2021, "What Context Features Can Transformer Language Models
        Use?", section 3, there between models trained with and without the information; here one
        model at evaluation time, with truncation for the lack of all of it.
    """
    truncations = [name for name in run.conditions if name.partition("(")[0] == "truncate"]
    others = [name for name in run.conditions if name not in truncations and not is_noise(name)]
    empty = stacked([], COLUMNS)
    if not truncations:
        return empty, ("no ablated information: not scored: 'truncate'",)
    if not others:
        return empty, ("no ablated information: nothing was scored besides 'truncate'",)
    frames = []
    # Of a source and its target each is held against its own truncation.
    for truncation in {part_of(name): name for name in reversed(truncations)}.values():
        own = [name for name in others if part_of(name) == part_of(truncation)]
        rows = by_octave(contrasts.common_sums(run, truncation, own), run.last_edge)
        first = rows["condition"].map(run.starts).fillna(0)
        first = first.clip(lower=run.starts.get(truncation, 0))
        frames += [
            _ratios(run, str(condition), part)
            for condition, part in rows[rows["distance_from"] >= first].groupby("condition")
        ]
    return stacked(frames, COLUMNS), ()


def ratio_limits(
    numerators: Floats, denominators: Floats, confidence: float
) -> tuple[float, float]:
    """Limits of a ratio from paired draws of its numerator and its denominator.

    They hold every ratio ρ for which the interval of ``numerator − ρ · denominator`` contains 0.
    Where all denominators are above 0 these are the quantiles of the draws' ratios; the few draws
    that a denominator significantly above 0 may have on the other side are counted rightly.

    Args:
        numerators: Draws, shape ``(resamples,)``.
        denominators: Draws, same shape, their own interval above 0.
        confidence: Confidence of the interval.

    Returns:
        Lower and upper limit.

    Source: Fieller 1954, with bootstrap quantiles in place of normal ones.
    """
    ratios = numerators / denominators
    order = np.argsort(ratios)
    # Draws with numerator ≤ ρ · denominator: those above 0 join as ρ passes them, others leave.
    above = (denominators < 0).sum() + np.cumsum(np.sign(denominators[order]))
    tail = (1 - confidence) / 2 * len(ratios) - 1e-9
    low = int(np.argmax(above >= tail))
    inside = np.flatnonzero(above <= len(ratios) - tail)
    high = min(int(inside.max(initial=-1)) + 1, len(ratios) - 1)
    return float(ratios[order[low]]), float(ratios[order[high]])


def chart(run: OpenRun, rows: pd.DataFrame) -> Chart:
    """The ratios by octave of distance; a cross on the axis where one is unresolved.

    Args:
        run: The run.
        rows: Rows of :func:`ablated_information`.
    """
    names = in_order(rows["condition"].astype(str))
    known = rows["resolved"].fillna(False).astype(bool)
    series, crosses = [], []
    for place, name in enumerate(names):
        own = rows["condition"] == name
        if (own & known).any():
            at = place, len(names)
            line = contrasts.octave_series(rows[own & known], name, run.rank(name), at, "ratio")
            series.append(line)
        crosses.append(contrasts.octave_middles(rows[own & ~known], place, len(names)))
    x = np.concatenate(crosses)
    if len(x):
        nothing = np.full(len(x), np.nan)
        series.append(Series("unresolved", x, nothing, role="unresolved", joined=False))
    cells = pivot(
        f"Ablated information by octave of distance ({run.unit})",
        records(rows),
        names,
        by="condition",
        cell=lambda row: (
            ranged(row, "ratio", 2)
            if row.get("resolved")
            else f"unresolved ({row.get('reason') or 'the interval of truncation contains 0'})"
        ),
    )
    return Chart(
        "Ablated information by distance",
        distance_axis(float(rows["distance_to"].max()), low=1, unit=run.unit),
        linear_axis(_limits(rows[known]), "ablated information", include=(0, 1)),
        series,
        [Rule(1.0, "truncate")],
        how=(
            "Delta under the condition as a share of delta under truncation: at 0 nothing is lost,"
            " at 1 as much as when the text is cut off, above 1 the condition is worse than no far"
            " text at all; the ratio has no upper bound. Crosses: the interval of truncation"
            " contains 0, so that there is no ratio."
        ),
        tables=[cells],
        heading=[run.model, run.data],
    )


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Ends of the axis: a bar that is longer than all ratios together is cut."""
    ratio = rows["ratio"].to_numpy(dtype=np.float64)
    lowest, highest = min(ratio.min(initial=0), 0), max(ratio.max(initial=1), 1)
    low = max(float(np.nanmin(np.append(rows["low"], lowest))), 2 * lowest - highest)
    high = min(float(np.nanmax(np.append(rows["high"], highest))), 2 * highest - lowest)
    return low, high


def _ratios(run: OpenRun, condition: str, rows: pd.DataFrame) -> pd.DataFrame:
    """One condition's rows, octave by octave."""
    floor, confidence = run.floor, run.analysis.confidence
    above = to_sums(rows.rename(columns={"numerator": "delta_sum"}), run.documents)
    below = to_sums(rows.rename(columns={"denominator": "delta_sum"}), run.documents)
    texts = run.texts(condition)
    numerator = bootstrap(above.sums, above.targets, run.weights, confidence, texts)
    denominator = bootstrap(below.sums, below.targets, run.weights, confidence, texts)
    frame = intervals(below, denominator, confidence)
    noise = np.zeros(len(frame)) if floor is None else np.nan_to_num(floor.at(below.lower))
    found = []
    for octave, row in enumerate(frame.to_dict("records")):
        reason = _reason(row["documents"], row["low"], row["high"], noise[octave])
        limits = np.nan, np.nan
        if not reason:
            drawn = numerator.draws[:, octave], denominator.draws[:, octave]
            known = np.isfinite(drawn[0])
            limits = ratio_limits(drawn[0][known], drawn[1][known], confidence)
        point = np.nan if reason else numerator.mean[octave] / row["delta"]
        found.append((point, *limits, not reason, reason))
    names = ["ratio", "low", "high", "resolved", "reason"]
    frame[names] = pd.DataFrame(found, columns=names)
    return frame.assign(condition=condition)[list(COLUMNS)]


def _reason(documents: int, low: float, high: float, noise: float) -> str:
    """Why a ratio with such a denominator says nothing; empty where it does."""
    if few := too_few(documents):
        return few
    limits = f"{low:+.2g} to {high:+.2g}".replace("-", "−")
    interval = f"the interval of truncate − intact, {limits} nats,"
    if high < 0:
        return f"{interval} lies below 0: there is no loss to take a share of"
    if not low > 0:
        return f"{interval} contains 0"
    if low <= noise:
        return f"{interval} reaches down to the noise floor {noise:.2g}"
    return ""


def _sentence(rows: pd.DataFrame) -> str:
    """The farthest ratio of each condition, the highest first, and on which side of 1 it lies."""
    ordered = rows.sort_values("distance_from")
    last = by_condition(ordered.drop_duplicates("condition", keep="last"))
    if not last:
        return "No ratio is resolved: the interval of truncation contains 0 everywhere."
    parts = []
    for row in sorted(last, key=lambda row: -row["ratio"]):
        low, high = (row[name] for name in ("low", "high"))
        side = "not significantly different from 1"
        if low is not None and low > 1:
            side = "worse than no far text at all"
        elif high is not None and high < 1:
            side = "less than what deletion costs"
        parts.append(
            f"{row['condition']} loses {ranged(row, 'ratio', 2)} times what truncation does at"
            f" {between(row)}, {side}"
        )
    return "At the farthest distances: " + "; ".join(parts) + "."
