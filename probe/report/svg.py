"""SVG as escaped text: elements, scales, and marks that tell lines apart without colour."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray

from probe.render.markup import visible

Floats = NDArray[np.float64]

LOOKS = 6
"""Looks of lines: the style sheet has as many colours and dashes, :func:`marker` as many shapes."""

_SHAPES = (
    "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0Z",
    "M-2.7 -2.7H2.7V2.7H-2.7Z",
    "M0 -3.4L3.3 2.6H-3.3Z",
    "M0 -3.7L3.7 0L0 3.7L-3.7 0Z",
    "M0 3.4L3.3 -2.6H-3.3Z",
    "M-1.2 -3.4H1.2V-1.2H3.4V1.2H1.2V3.4H-1.2V1.2H-3.4V-1.2H-1.2Z",
)


def element(name: str, *children: str, **attributes: object) -> Markup:
    """An SVG element; names are ours, everything else is escaped.

    Args:
        name: Name of the element.
        children: Text, or markup of other elements.
        attributes: Attributes; ``class_`` is ``class``, other underscores are hyphens, numbers
            are rounded, ``None`` is left out.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(value))
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(
        child if isinstance(child, Markup) else visible(child) for child in children
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inside)


def marker(look: int, x: float, y: float, *, title: str | None = None, class_: str = "") -> Markup:
    """The mark of a line at a place, with what is told when it is pointed at."""
    told = [] if title is None else [element("title", title)]
    return element(
        "path",
        *told,
        d=_SHAPES[look % LOOKS],
        transform=f"translate({x:.1f} {y:.1f})",
        class_=f"point s{look % LOOKS} {class_}".strip(),
    )


def polyline(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """A line through points of the drawing."""
    return element("polyline", points=_joined(points), class_=class_)


def polygon(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """A filled shape through points of the drawing."""
    return element("polygon", points=_joined(points), class_=class_)


@dataclass(frozen=True)
class Scale:
    """How values become places on an axis.

    Args:
        label: What stands beside the axis, with its unit.
        low: Value at its start.
        high: Value at its end.
        kind: ``distance`` is linear to 1 and then logarithmic to base 2, ``delta`` linear to the
            threshold and then logarithmic to base 10, both ways from 0.
        ticks: Values with a tick.
        threshold: Where ``delta`` turns logarithmic.
        percent: Whether ticks are shares to be shown in percent.
    """

    label: str
    low: float
    high: float
    kind: Literal["distance", "delta", "log", "linear"]
    ticks: Sequence[float]
    threshold: float = 0.01
    percent: bool = False

    def name(self, tick: float) -> str:
        """A tick's label: short, with a real minus sign."""
        value = round(tick * 100 if self.percent else tick, 10) + 0.0  # no negative zero
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return text.replace("-", "−") + (" %" if self.percent else "")

    def at(self, values: ArrayLike) -> Floats:
        """Shares of the axis, 0 to 1; what lies outside is drawn at the edge, NaN stays NaN."""
        ends = self._bent(np.array([self.low, self.high]))
        places = (self._bent(np.asarray(values, dtype=np.float64)) - ends[0]) / (ends[1] - ends[0])
        return np.asarray(np.clip(places, 0, 1), dtype=np.float64)

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


def distance_scale(high: float, *, label: str = "distance (tokens)", low: float = 0) -> Scale:
    """The axis of distances, with a place for 0 and powers of 2 as ticks."""
    powers = [2.0**power for power in range(int(max(high, 2)).bit_length())]
    step = 1 if len(powers) <= 6 else 2
    return Scale(label, low, max(high, 2), "distance", [0.0, *powers[::step]])


def position_scale(low: float, high: float, label: str) -> Scale:
    """The axis of positions: logarithmic over several octaves, else plain."""
    if high < 8 * max(low, 1):
        return linear_scale([low, high], label)
    whole = distance_scale(high, label=label, low=low)
    return Scale(label, low, high, "distance", [tick for tick in whole.ticks if tick >= low])


def delta_scale(values: ArrayLike, threshold: float, label: str = "delta (nats a token)") -> Scale:
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
    return Scale(label, low, high, "delta", [s for s in signed if low <= s <= high], threshold)


def linear_scale(values: ArrayLike, label: str, *, include: Sequence[float] = ()) -> Scale:
    """A plain axis around the values, about five ticks at round numbers."""
    seen = np.asarray(values, dtype=np.float64)
    seen = np.append(seen[np.isfinite(seen)], include)
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    margin = (high - low or abs(high) or 1.0) * 0.06
    low, high = low - margin, high + margin
    step = 10 ** np.floor(np.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    return Scale(
        label, low, high, "linear", list(np.arange(np.ceil(low / step), high / step) * step)
    )


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _value(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
