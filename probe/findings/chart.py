"""A chart as plain data: axes, series, rules and cells; two back ends in ``render/`` draw it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.findings.table import Table

Floats = NDArray[np.float64]

LOOKS = 6
"""Looks that tell series apart, each a colour, a dash and a mark; behind them the colours come
again with other dashes and marks."""
THRESHOLD = 0.01
"""Where axes of delta turn logarithmic when no tolerance says better (nats)."""

Role = Literal[
    "series", "grey", "reference", "full", "unresolved", "beyond", "fan0", "fan1", "fan2"
]
"""What a series stands for where that is not one of several to be told apart: values that never
answer, a line that others are held against, full attention, no answer, an answer beyond the reach,
the shares of a fan of quantiles from the widest to the narrowest. What has no answer is drawn at
the start of the axis of values, what lies beyond at its end, wherever the value is NaN."""


@dataclass(frozen=True)
class Axis:
    """How values become places on an axis.

    Args:
        label: What stands beside the axis, with its unit.
        low: Value at its start: at the left, or at the bottom.
        high: Value at its end.
        kind: ``distance`` is linear to 1 and then logarithmic to base 2, ``delta`` linear to the
            threshold and then logarithmic to base 10, both ways from 0.
        ticks: Values with a tick.
        names: Texts of the ticks, where they are no numbers.
        threshold: Where ``delta`` turns logarithmic.
        percent: Whether ticks are shares to be shown in percent.
    """

    label: str
    low: float
    high: float
    kind: Literal["distance", "delta", "log", "linear"] = "linear"
    ticks: Sequence[float] = ()
    names: Sequence[str] = ()
    threshold: float = THRESHOLD
    percent: bool = False

    def tick_names(self) -> list[str]:
        """The text of each tick: its name, or its number with a real minus sign."""
        return list(self.names) or [self._number(tick) for tick in self.ticks]

    def at(self, values: ArrayLike) -> Floats:
        """Shares of the axis, 0 to 1; what lies outside is drawn at the edge, NaN stays NaN."""
        ends = self._bent(np.array([self.low, self.high]))
        places = (self._bent(np.asarray(values, dtype=np.float64)) - ends[0]) / (ends[1] - ends[0])
        return np.asarray(np.clip(places, 0, 1), dtype=np.float64)

    def _number(self, tick: float) -> str:
        value = round(tick * 100 if self.percent else tick, 10) + 0.0  # no negative zero
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return text.replace("-", "−") + (" %" if self.percent else "")

    def _bent(self, values: Floats) -> Floats:
        if self.kind == "linear":
            return values
        if self.kind == "log":
            return np.log(np.maximum(values, np.finfo(float).tiny))
        if self.kind == "distance":
            return np.where(values < 1, values, 1 + np.log2(np.maximum(values, 1)))
        size = np.abs(values) / self.threshold
        bent = np.where(size < 1, size / 2, 0.5 + np.log10(np.maximum(size, 1)))
        return np.asarray(np.sign(values) * bent, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Series:
    """One series of a chart.

    Args:
        name: What the legend calls it; empty keeps it out of the legend.
        x: Places along the axis, shape ``(n,)``.
        y: Values, same shape; NaN breaks the line.
        look: Number of its colour, dashes and marks.
        low: Lower limits: of *y*, or of *x* in a horizontal chart.
        high: Upper limits.
        fit: Places and values of the fitted curve, both of any one shape; it is the line, and the
            points are light.
        titles: What each point says when it is pointed at.
        role: What it stands for; ``series`` is one of several that look apart.
        points: Whether points are marked; ``None`` marks some of many.
        joined: Whether a line joins the points; else each point stands for itself.
        colour: Number of its colour, where that is not the one of *look*.
        bars: Whether limits are a bar at each point and not a band; ``None`` says so of points that
            no line joins.
    """

    name: str
    x: Floats
    y: Floats
    look: int = 0
    low: Floats | None = None
    high: Floats | None = None
    fit: tuple[Floats, Floats] | None = None
    titles: Sequence[str] = ()
    role: Role = "series"
    points: bool | None = None
    joined: bool = True
    colour: int | None = None
    bars: bool | None = None

    @property
    def barred(self) -> bool:
        """Whether limits are bars."""
        return not self.joined if self.bars is None else self.bars

    @property
    def appearance(self) -> tuple[int, int, int]:
        """Numbers of its colour, its dashes and its mark; no two of the first 18 are equal."""
        again = self.look // LOOKS
        colour = self.look if self.colour is None else self.colour
        return colour % LOOKS, (self.look + again) % LOOKS, (self.look + 2 * again) % LOOKS


@dataclass(frozen=True)
class Rule:
    """A thin line across a chart at a value of y (of x in a horizontal chart), with its label.

    Args:
        at: The value.
        label: What stands at its end, or in the legend where *named*.
        named: Whether the legend has it, with a dashed sample, in place of a label at its end.
    """

    at: float
    label: str = ""
    named: bool = False


@dataclass(frozen=True)
class Interval:
    """An answer on the rule of its tolerance: a diamond with a bar.

    Args:
        y: Height.
        low: Where the bar begins.
        high: Where it ends.
        at: Where the diamond stands, ``None`` without an estimate.
        beyond: Whether the bar ends in an arrow: it goes on beyond the axis.
        title: What it says when it is pointed at.
        look: Number of its colour; ``None`` is black.
        label: A few characters that stand beside it.
        lane: How many bars stand below it on the same rule: it is moved up, and hides none.
    """

    y: float
    low: float
    high: float
    at: float | None
    beyond: bool
    title: str
    look: int | None = None
    label: str = ""
    lane: int = 0


@dataclass(frozen=True, eq=False)
class Strip:
    """The noise floor: a strip around 0, stepwise.

    Args:
        edges: Where the steps begin and end, shape ``(n + 1,)``.
        limits: Half the height of each, shape ``(n,)``; NaN where it is not known.
    """

    edges: Floats
    limits: Floats


@dataclass(frozen=True, eq=False)
class Cells:
    """A heat map of values around 0; the axes of the chart are its sides.

    Args:
        x: Edges of the columns, shape ``(columns + 1,)``.
        y: Edges of the rows, shape ``(rows + 1,)``; rows stand from the top down where the axis's
            *low* is above its *high*.
        values: Shape ``(rows, columns)``; NaN is grey.
        label: What the colours are, with their unit.
        dots: Places (x, y) of single cells that are marked.
        threshold: Size of the values up to which colours are linear, and logarithmic from there.
    """

    x: Floats
    y: Floats
    values: Floats
    label: str
    dots: Sequence[tuple[float, float]] = ()
    threshold: float = THRESHOLD


@dataclass(frozen=True, eq=False)
class Chart:
    """What is drawn, how to read it, and the numbers behind it.

    Args:
        title: What it shows.
        x: The axis to the right.
        y: The axis upwards.
        series: In the order of drawing and of the legend.
        rules: Lines across.
        intervals: Answers on their rules.
        floor: The noise floor.
        cells: A heat map in place of series.
        legend: More entries of the legend: what is sampled (``floor``, ``grey``, ``answer``,
            ``open answer``, ``dot``, ``unresolved``, ``beyond``, or nothing) and its text.
        horizontal: Whether limits and rules are of x, and rows are named along y.
        how: How to read it, in plain words.
        tables: The numbers behind it, folded below it on the page.
        heading: Lines above it where it stands alone: model, data, counts.
        file: Name in ``figures/`` of the files that `run` and `report` draw it into; without one
            they do not.
        on_page: Whether the page has it.
        notes: What it lacks, one line each, told where it is drawn on request.
    """

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series] = ()
    rules: Sequence[Rule] = ()
    intervals: Sequence[Interval] = ()
    floor: Strip | None = None
    cells: Cells | None = None
    legend: Sequence[tuple[str, str]] = ()
    horizontal: bool = False
    how: str = ""
    tables: Sequence[Table] = ()
    heading: Sequence[str] = ()
    file: str = ""
    on_page: bool = True
    notes: Sequence[str] = ()


def relabelled(chart: Chart, labels: Mapping[str, str]) -> Chart:
    """The chart with other names for conditions, runs, classes or groups.

    Args:
        chart: The chart.
        labels: The new name of each old one. A name is replaced where it stands for itself: that of
            ``shuffle`` not in ``shuffle(span=5)``, nor in a chain of conditions.
    """
    pattern = _naming(labels)

    def new(text: str) -> str:
        return pattern.sub(lambda match: labels[match[0]], text)

    return replace(
        chart,
        title=new(chart.title),
        x=replace(chart.x, names=[new(name) for name in chart.x.names]),
        y=replace(chart.y, names=[new(name) for name in chart.y.names]),
        series=[
            replace(one, name=new(one.name), titles=[new(title) for title in one.titles])
            for one in chart.series
        ],
        rules=[replace(rule, label=new(rule.label)) for rule in chart.rules],
        intervals=[replace(one, title=new(one.title)) for one in chart.intervals],
        legend=[(what, new(text)) for what, text in chart.legend],
        heading=[new(line) for line in chart.heading],
    )


def shows(chart: Chart, name: str) -> bool:
    """Whether any text in a figure of the chart has this name, which can then be another."""
    texts = [*shown_names(chart), *(text for _, text in chart.legend), *chart.heading, chart.title]
    texts += [rule.label for rule in chart.rules]
    return bool(name) and any(_naming([name]).search(text) for text in texts)


def shown_names(chart: Chart) -> list[str]:
    """Names of the series and at the axes."""
    series = [series.name for series in chart.series if series.name]
    return [*series, *chart.x.names, *chart.y.names]


def _naming(names: Iterable[str]) -> re.Pattern[str]:
    """Where names stand for themselves, the longest first."""
    known = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.compile(rf"(?<![\w'(\[=])(?:{known})(?![\w'(\]=])")


class EmptyChartError(ValueError):
    """There is nothing to draw."""


def distance_axis(
    high: float, *, label: str = "distance (tokens)", low: float = 0, unit: str = ""
) -> Axis:
    """The axis of distances, with a place for 0 and powers of 2 as ticks; of time round numbers.

    Args:
        high: Largest distance (tokens).
        label: Label of the axis.
        low: Smallest distance.
        unit: What distances are counted in, where that is no label.
    """
    label = f"distance ({unit})" if unit else label
    powers = [2.0**power for power in range(int(max(high, 2)).bit_length())]
    step = 1 if len(powers) <= 6 else 2
    every = [0.0, *powers[::step]]
    if unit == "ms":
        digits = (1, 2, 5) if high < 100 * max(low, 1) else (1,)
        every = [0.0, *(digit * 10.0**power for power in range(7) for digit in digits)]
    ticks = [tick for tick in every if low <= tick <= max(high, 2)]
    return Axis(label, low, max(high, 2), "distance", ticks)


def position_axis(low: float, high: float, label: str) -> Axis:
    """The axis of positions: logarithmic over several octaves, else plain."""
    if high < 8 * max(low, 1):
        return linear_axis([low, high], label)
    return distance_axis(high, label=label, low=low)


def delta_axis(
    values: ArrayLike, threshold: float = THRESHOLD, label: str = "delta (nats per token)"
) -> Axis:
    """The axis of deltas; small ones around 0 keep a place of their own.

    Args:
        values: All that is to be seen; NaN counts for nothing.
        threshold: The smallest size that matters, such as the smallest tolerance (nats).
        label: Label of the axis.
    """
    seen = np.asarray(values, dtype=np.float64)
    seen = seen[np.isfinite(seen)]
    high = max(float(seen.max(initial=0)), 3 * threshold) * 1.25
    low = 1.25 * min(float(seen.min(initial=0)), 0) - threshold / 4
    sizes = [digit * 10.0**power for power in range(-6, 4) for digit in (1, 3)]
    sizes = [size for size in sizes if size > threshold * 0.999]
    signed = [-size for size in reversed(sizes)] + [0.0, *sizes]
    return Axis(
        label, low, high, "delta", [s for s in signed if low <= s <= high], threshold=threshold
    )


def linear_axis(values: ArrayLike, label: str, *, include: Sequence[float] = ()) -> Axis:
    """A plain axis around the values, about five ticks at round numbers."""
    seen = np.asarray(values, dtype=np.float64)
    seen = np.append(seen[np.isfinite(seen)], include)
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    margin = (high - low or abs(high) or 1.0) * 0.06
    low, high = low - margin, high + margin
    step = 10 ** np.floor(np.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    ticks = np.arange(np.ceil(low / step), high / step) * step
    return Axis(label, low, high, "linear", list(ticks))


def names_axis(names: Sequence[str], label: str = "", *, down: bool = False) -> Axis:
    """An axis of names, one at each whole number from 0 on; downwards where asked for."""
    ends = (-0.6, len(names) - 0.4)
    low, high = ends[::-1] if down else ends
    return Axis(label, low, high, "linear", list(range(len(names))), names=list(names))
