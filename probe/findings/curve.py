"""The answer: how far a run reads under each condition, and the curve of delta by distance."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from probe.analysis.bins import bin_index, coarser_edges
from probe.analysis.bootstrap import bootstrap
from probe.analysis.effective import EffectiveContext
from probe.analysis.fit import in_order
from probe.analysis.floor import NoiseFloor, without_noise
from probe.analysis.open_run import OpenRun
from probe.analysis.sums import in_words, intervals, pooled, stacked, to_sums
from probe.errors import UsageError
from probe.findings.answer import (
    answer_table,
    basis,
    caveats,
    counts,
    sentence,
    short,
    summary_record,
    usable,
)
from probe.findings.base import CONDITION, Drawn, Files, Finding, Option, Plot, only, register
from probe.findings.chart import (
    THRESHOLD,
    Chart,
    EmptyChartError,
    Floats,
    Interval,
    Rule,
    Series,
    Strip,
    delta_axis,
    distance_axis,
)
from probe.findings.table import (
    between,
    decimals,
    middles,
    percent,
    pivot,
    ranged,
    records,
)
from probe.results.folder import unique_labels
from probe.results.tolerance import spaced

BINS = Option(
    "--bins",
    "bins",
    "curve: points drawn per octave of distance; the fit and the answer stay those of all bins.",
    default=1,
    type=int,
    metavar="N",
)


def curve_plot(runs: Sequence[OpenRun], *, condition: str | None = None, bins: int = 1) -> Drawn:
    """Delta by distance of one run, or of several over one another, for `probe plot`.

    Args:
        runs: The runs.
        condition: Only this condition.
        bins: Points per octave.

    Raises:
        EmptyChartError: If none has a curve.
        UsageError: If the bins of a run cannot be pooled to so many.
    """
    yield "", overlay(runs, condition=condition, bins=bins)


@register(
    "curve", order=0, level="answer", plots=[Plot("curve", curve_plot, None, [CONDITION, BINS])]
)
def finding(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """The answer of a run with lengths, and the curve of one that another finding answers.

    Args:
        run: The open run.
        others: Not needed.
    """
    files: Files = {"summary.json": summary_record(run), "curve.csv": run.curve}
    names = run.curve_conditions if run.has_length else []
    charts = [chart(run)] if names else []
    nothing = Finding("curve", "Loss by distance", files=files)
    if not run.is_answered_by("curve"):
        return replace(
            nothing,
            sentence=_ends(run, run.main_condition or names[0]) if names else "",
            charts=[replace(each, file="") for each in charts],  # the answer has its own figure
            level="brief",
        )
    if not run.contexts and run.patterns:  # attention alone was limited
        return nothing
    return Finding(
        "answer",
        "The answer",
        sentence(run),
        basis(run),
        tables=[answer_table(run)] if run.contexts else [],
        charts=charts,
        caveats=caveats(run),
        files=files,
    )


def epsilons(run: OpenRun) -> dict[float, str]:
    """Tolerances (nats) that are the same for every curve, with their text."""
    return {
        context.epsilon: spaced(context.tolerance)
        for context in run.contexts
        if context.epsilon is not None and not context.tolerance.endswith("delta0")
    }


def threshold_of(run: OpenRun) -> float:
    """The smallest tolerance (nats), where axes of delta turn logarithmic."""
    return min(epsilons(run), default=THRESHOLD)


def chart(run: OpenRun) -> Chart:
    """Delta by distance under every condition, with the answer on the line of its tolerance."""
    names = run.curve_conditions
    usable = records(without_noise(run.curve[~run.curve["grey"].astype(bool)]))
    share = f"{run.analysis.confidence * 100:g} %"
    band = "simultaneous" if run.analysis.simultaneous else "pointwise"
    what = "text" if run.unit == "tokens" else "sound"
    how = (
        f"The loss added when the {what} further away than the distance is changed in"
        " that way: the higher, the more the model needs it. Lines: the non-increasing (isotonic)"
        f" fit of {run.analysis.bins_per_octave} bins per octave, which the answer is read from:"
        " the distance from which a line stays below a dotted tolerance. Points: means of whole"
        f" octaves, with their {share} {band} interval over documents."
    )
    if run.floor is not None and np.isfinite(run.floor.limit).any():
        how += f" Noise floor: at most {_brief_number(_largest(run.floor))} nats."
    tables = [
        pivot(
            f"Delta (nats per token) by distance ({run.unit}), with its {share} interval",
            usable,
            names,
            by="condition",
            cell=lambda row: ranged(row, "delta"),
        ),
        pivot(
            "Targets behind each bin, and the share that the far text helped",
            usable,
            names,
            by="condition",
            cell=lambda row: f"{int(row['targets']):,} ({percent(row['helped'])})",
        ),
    ]
    return replace(overlay([run]), how=how, tables=tables)


def overlay(
    runs: Sequence[OpenRun],
    *,
    condition: str | None = None,
    answered: bool = False,
    bins: int = 1,
) -> Chart:
    """Delta by distance of one run, one line a condition, or of several over one another.

    A line is the fit of all bins, points are means of wider ones. Of several runs the colour tells
    the run, dash and mark the condition.

    Args:
        runs: The runs.
        condition: Only this condition.
        answered: Whether each run is drawn under the condition of its answer alone.
        bins: Points per octave.

    Raises:
        EmptyChartError: If none has a curve.
        UsageError: If the bins of a run cannot be pooled to so many.
    """
    labels = unique_labels([run.folder for run in runs])
    headlines = [run.headline() if answered else None for run in runs]
    of_each = [condition if found is None else found.condition for found in headlines]
    curves = [
        without_noise(only(run.curve, "condition", name, "condition"))
        for run, name in zip(runs, of_each, strict=True)
    ]
    points = [
        own[own["condition"].isin(rows["condition"])]
        for rows, own in zip(curves, (pooled_curve(run, bins) for run in runs), strict=True)
    ]
    names = in_order(str(name) for rows in curves for name in rows["condition"].unique())
    if not names:
        if runs and all(run.patterns for run in runs):
            raise EmptyChartError("it limits attention alone; allowed: --kind tradeoff, heads")
        raise EmptyChartError("no run with a curve to draw")
    looks = {name: runs[0].rank(name) if len(runs) == 1 else names.index(name) for name in names}
    series = [
        line
        for number, (label, rows, own) in enumerate(zip(labels, curves, points, strict=True))
        for line in _lines(rows, own, looks, label if len(runs) > 1 else None, number)
    ]
    series = _side_by_side(series, bins)
    shown = pd.concat(points)
    fits = np.concatenate([rows["fit"].to_numpy(np.float64) for rows in curves])
    rules = {value: text for run in runs for value, text in epsilons(run).items()}
    threshold = min(rules, default=THRESHOLD)
    floors = [floor for run in runs if (floor := run.floor) is not None]
    # A thinner strip could not be told from the line at 0.
    floors = [floor for floor in floors if _largest(floor) > threshold / 20]
    marked = [marked_answer(run, condition) for run in runs]
    # Where the first bins are far, as on a grid, the near ones are no empty half of the picture.
    nearest = float(shown["distance_from"].min())
    # A band that reaches far below 0 says no more than one that reaches below it: it is cut.
    lows = np.maximum(shown["low"].to_numpy(np.float64), -3 * threshold)
    return Chart(
        "Delta against distance" + ("" if len(runs) == 1 else ", by run"),
        distance_axis(
            float(shown["distance_to"].max()),
            low=nearest if nearest > 1 else 0,
            unit=" or ".join(dict.fromkeys(run.unit for run in runs)),
        ),
        delta_axis([*lows, *shown["delta"], *shown["high"], *fits], threshold),
        series,
        [Rule(value, text) for value, text in rules.items()],
        marks(marked),
        _strip(floors[0]) if floors else None,
        legend=_legend(marked, floors, bool(shown["grey"].any())),
        heading=_heading(runs, labels),
        file="curve" if len(runs) == 1 and runs[0].contexts else "",
    )


def pooled_curve(run: OpenRun, bins: int) -> pd.DataFrame:
    """Delta by condition and bin, counts and sums added up to wider bins than those of the curve.

    Args:
        run: The open run.
        bins: Bins per octave.

    Returns:
        ``condition, grey, distance_from, distance_to`` (tokens, as far as they were measured)``,
        delta, low, high`` (nats per token)``, targets, documents``; intervals are of the same
        resamples as those of the curve.

    Raises:
        UsageError: If they do not divide the run's bins per octave.
    """
    how = run.analysis
    if bins < 1 or how.bins_per_octave % bins:
        allowed = (n for n in range(1, how.bins_per_octave + 1) if how.bins_per_octave % n == 0)
        raise UsageError(
            f"--bins {bins}: '{run.name}' has {how.bins_per_octave} bins per octave; allowed:"
            f" {', '.join(map(str, allowed))}"
        )
    edges, frames = coarser_edges(run.edges, bins), []
    for (condition, grey), rows in run.sums.groupby(["condition", "grey"]):
        sums = to_sums(pooled(rows, edges), run.documents, run.texts(str(condition)))
        resampled = bootstrap(sums.sums, sums.targets, run.weights, how.confidence, sums.texts)
        frame = intervals(sums, resampled, how.confidence, simultaneous=how.simultaneous)
        # A curve may begin, and end, inside of an octave.
        wide = bin_index(rows["distance_from"], edges)
        first, end = (rows[f"distance_{name}"].groupby(wide) for name in ("from", "to"))
        frame = frame.assign(distance_from=first.min().array, distance_to=end.max().array)
        frames.append(frame.assign(condition=str(condition), grey=bool(grey)))
    return without_noise(stacked(frames, ["condition", "grey"]))


def curve_series(
    rows: pd.DataFrame, name: str, look: int, value: str = "delta", **more: Any
) -> Series:
    """A line of one value over distance, with its limits where it has them.

    Args:
        rows: ``distance_from, distance_to`` and the column *value*, with or without ``low`` and
            ``high``.
        name: Its name in the legend.
        look: Number of its look.
        value: The column that is drawn.
        more: Other fields of the series.
    """
    low, high = (
        rows[column].to_numpy(float) if column in rows else None for column in ("low", "high")
    )
    titles = [f"{name}, {between(row)}: {ranged(row, value)}" for row in records(rows)]
    fields: dict[str, Any] = {"low": low, "high": high, "titles": titles} | more
    return Series(name, middles(rows), rows[value].to_numpy(float), look, **fields)


def group_series(
    run: OpenRun, rows: pd.DataFrame, group: str, places: Sequence[str]
) -> list[Series]:
    """Marks with bars at the places of groups, those of several conditions side by side.

    Args:
        run: The run.
        rows: ``condition, delta, low, high`` (nats per token) and the column *group*.
        group: The column that says where a row stands, which its title names.
        places: Values of that column, in the order of the axis.
    """
    names = in_order(rows["condition"].astype(str))
    series = []
    for number, name in enumerate(names):
        own = rows[rows["condition"] == name]
        shift = (number - (len(names) - 1) / 2) * 0.7 / len(names)
        at = pd.Index(places).get_indexer(pd.Index(own[group])).astype(np.float64) + shift
        titles = [f"{name}, {row[group]}: {in_words(row)}" for _, row in own.iterrows()]
        delta, low, high = own[["delta", "low", "high"]].to_numpy(float).T
        series.append(
            Series(
                *(name, at, delta, run.rank(name), low, high),
                titles=titles,
                points=True,
                joined=False,
            )
        )
    return series


def marks(contexts: Sequence[EffectiveContext | None], looks: Sequence[int] = ()) -> list[Interval]:
    """The marks of answers on the lines of their tolerances; one that is none has no mark.

    Args:
        contexts: The answer of each run; of several, labels have no room.
        looks: Number of the look of each; by default colours of several go by the run.
    """
    drawn: list[Interval] = []
    for number, context in enumerate(contexts):
        if context is None or not _has_length(context):
            continue
        several = len(contexts) > 1 or bool(looks)
        look = looks[number] if looks else number
        drawn.append(
            Interval(
                context.epsilon or 0,
                float(context.reach if context.lower is None else context.lower),
                float(context.reach if context.upper is None else context.upper),
                None if context.estimate is None else float(context.estimate),
                context.upper is None,
                f"{context.condition}, {spaced(context.tolerance)}: {short(context)}",
                look if several else None,
                "" if several else _brief(context),
                sum(other.y == context.epsilon for other in drawn),
            )
        )
    return drawn


def _brief(context: EffectiveContext) -> str:
    """An answer without its interval, which is drawn."""
    return context.text().partition(" (")[0]


def _has_length(context: EffectiveContext) -> bool:
    """Whether an answer is a length, which can be marked."""
    resolved = context.kind != "unresolved" and context.epsilon is not None
    return resolved and not context.only_lowers


def _ends(run: OpenRun, name: str) -> str:
    """The first and the last delta of a curve in words."""
    rows = usable(run, name)
    if rows.empty:
        return f"{name}: every distance has less far than near text."
    first, last = records(rows.sort_values("distance_from").iloc[[0, -1]])
    return (
        f"Under {name} delta is {decimals(first['delta'])} nats per token at distance"
        f" {between(first)} and {ranged(last, 'delta')} at {between(last)}."
    )


def _lines(
    curve: pd.DataFrame,
    points: pd.DataFrame,
    looks: Mapping[str, int],
    run: str | None,
    number: int,
) -> list[Series]:
    """A series a condition, what never answers apart; of several runs the colour is the run's."""
    lines = []
    for name, look in looks.items():
        rows, own = (frame[frame["condition"] == name] for frame in (curve, points))
        if rows.empty:
            continue
        grey = own["grey"].astype(bool)
        label = name if run is None else f"{run}: {name}"
        how: dict[str, Any] = {"colour": None if run is None else number}
        how |= {"points": True, "joined": False}
        if grey.any():
            grey_points = curve_series(own[grey], label, look, role="grey", **how)
            lines.append(replace(grey_points, name=""))  # one entry of the legend stands for all
        if not grey.all():
            fit = _steps(rows[~rows["grey"].astype(bool)])
            lines.append(curve_series(own[~grey], label, look, fit=fit, **how))
    return lines


def _steps(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    """The fit of each bin, from half a token before its first distance to half behind its last."""
    ends = rows[["distance_from", "distance_to"]].to_numpy(np.float64) - 0.5
    return np.maximum(ends, 0).ravel(), np.repeat(rows["fit"].to_numpy(np.float64), 2)


def _side_by_side(series: Sequence[Series], bins: int) -> list[Series]:
    """Points of wide bins moved a little, so that bars of several series hide none of the others.

    None comes near the next bin; those of single distances are told apart by their values.
    """
    looks = list(dict.fromkeys((one.look, one.colour) for one in series))
    apart = min(0.1, 0.5 / len(looks)) / bins
    moved = []
    for one in series:
        place = looks.index((one.look, one.colour)) - (len(looks) - 1) / 2
        far = one.x > 1
        moved.append(replace(one, x=np.where(far, one.x * 2 ** (apart * place), one.x)))
    return moved


def marked_answer(run: OpenRun, condition: str | None) -> EffectiveContext | None:
    """The answer that is drawn: the headline, or that of the one condition that is."""
    found = run.headline(condition or "truncate")
    return found if found is None or condition in (None, found.condition) else None


def _brief_number(value: float) -> str:
    return f"{value:.1g}".replace("-", "−")


def _largest(floor: NoiseFloor) -> float:
    return float(np.nanmax(floor.limit, initial=0))


def _strip(floor: NoiseFloor) -> Strip:
    return Strip(np.append(floor.lower, floor.upper[-1]).astype(float), floor.limit)


def _legend(
    marked: Sequence[EffectiveContext | None], floors: Sequence[NoiseFloor], grey: bool
) -> list[tuple[str, str]]:
    """What the strip, what is grey and the diamond or the arrow are."""
    entries = []
    if floors:
        most = max(map(_largest, floors))
        entries.append(("floor", f"noise floor, at most {_brief_number(most)} nats"))
    if grey:
        entries.append(("grey", "less far than near text"))
    answers = [context for context in marked if context is not None and _has_length(context)]
    if answers:
        first = answers[0]
        at = f"{first.condition}, {spaced(first.tolerance)}: {_brief(first)}"
        tolerances = dict.fromkeys(spaced(one.tolerance) for one in answers)
        several = f"effective context, {' or '.join(tolerances)}, by run"
        drawn = any(one.estimate is not None for one in answers)  # else arrows alone
        entries.append(("answer" if drawn else "open answer", at if len(marked) == 1 else several))
    return entries


def _heading(runs: Sequence[OpenRun], labels: Sequence[str]) -> list[str]:
    """Model, data and counts; what several runs have in common stands in the first lines."""
    told = ("model", "data")
    shared = [name for name in told if len({getattr(run, name) for run in runs}) == 1]
    lines = [str(getattr(runs[0], name)) for name in shared]
    if len(runs) == 1:
        return [*lines, ", ".join(counts(runs[0]))]
    for label, run in zip(labels, runs, strict=True):
        own = [str(getattr(run, what)) for what in told if what not in shared]
        lines.append(f"{label}: {', '.join([counts(run)[0], *own])}")
    return lines
