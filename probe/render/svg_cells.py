"""Heat maps in SVG: cells in nine steps of colour that the style sheet has, and their scale."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from probe.findings.chart import Axis, Cells, Floats
from probe.render.markup import element, shortened
from probe.render.svg_frame import LABEL, LINE, TOP, WIDTH, Frame

TITLED = 2000
"""Cells of a heat map up to which each says its value when it is pointed at."""
SIZES = tuple(digit * 10.0**power for power in range(-9, 7) for digit in (1, 3))
"""Where steps of colour may begin; the style sheet has four of each sign around the middle."""


def steps(cells: Cells) -> Floats:
    """Sizes from which the four steps of colour begin, each about three times the one before.

    The last is at most the largest value, but never so small that noise is coloured.
    """
    finite = np.abs(cells.values[np.isfinite(cells.values)])
    largest = max(float(finite.max(initial=0)), 3 * cells.threshold) * 1.0001
    last = int(np.searchsorted(SIZES, largest, side="right"))
    return np.array(SIZES[max(0, last - 4) : last])


def levels(values: Floats, sizes: Floats) -> NDArray[np.int64]:
    """Steps of colour, 0 to 8 and 4 in the middle; −1 without a value."""
    size = np.searchsorted(sizes * (1 - 1e-9), np.abs(np.nan_to_num(values)), side="right")
    return np.where(np.isfinite(values), 4 + np.sign(np.nan_to_num(values)) * size, -1).astype(int)


def cells_parts(frame: Frame) -> list[Markup]:
    """The cells, their dots and the scale of their colours."""
    cells = frame.chart.cells
    if cells is None:
        return []
    colours = levels(cells.values, steps(cells))
    parts = (
        _titled(frame, cells, colours) if colours.size <= TITLED else _merged(frame, cells, colours)
    )
    parts += [
        element("circle", cx=float(frame.x(x)), cy=float(frame.y(y)), r=2, class_="dot")
        for x, y in cells.dots
    ]
    return [*parts, *_scale(frame, cells)]


def _class(level: int) -> str:
    return "cell none" if level < 0 else f"cell c{level}"


def _edges(frame: Frame, cells: Cells) -> tuple[Floats, Floats]:
    """Edges of columns and rows, rounded as they are written: neighbours leave no gap."""
    return np.round(frame.x(cells.x), 1), np.round(frame.y(cells.y), 1)


def _titled(frame: Frame, cells: Cells, colours: NDArray[np.int64]) -> list[Markup]:
    """A rectangle a cell, which says where it is and its value."""
    x, y = _edges(frame, cells)
    columns = [between(frame.chart.x, *ends) for ends in pairwise(cells.x)]
    rows = [between(frame.chart.y, *ends) for ends in pairwise(cells.y)]
    parts = []
    for (row, column), level in np.ndenumerate(colours):
        value = cells.values[row, column]
        said = f"{value:.3g}".replace("-", "−") if np.isfinite(value) else "–"
        size = {
            "x": float(x[column]),
            "y": float(min(y[row], y[row + 1])),
            "width": float(x[column + 1] - x[column]),
            "height": float(abs(y[row + 1] - y[row])),
        }
        title = element("title", f"{columns[column]}; {rows[row]}: {said}")
        parts.append(element("rect", title, **size, class_=_class(int(level))))
    return parts


def _merged(frame: Frame, cells: Cells, colours: NDArray[np.int64]) -> list[Markup]:
    """A path a colour, in which neighbours of a row are one rectangle: a map of many cells."""
    x, y = _edges(frame, cells)
    shapes: dict[int, list[str]] = {}
    for row, line in enumerate(colours):
        edges = [0, *(np.flatnonzero(np.diff(line)) + 1), len(line)]
        for start, end in pairwise(edges):
            width, height = x[end] - x[start], y[row + 1] - y[row]
            shape = f"M{x[start]:.1f} {y[row]:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}Z"
            shapes.setdefault(int(line[start]), []).append(shape)
    return [
        element("path", d="".join(shapes[level]), class_=_class(level)) for level in sorted(shapes)
    ]


def between(axis: Axis, start: float, end: float) -> str:
    """What a column or row is called: its tick's name, else the whole numbers that it holds."""
    low, high = min(start, end), max(start, end)
    for tick, name in zip(axis.ticks, axis.names, strict=False):
        if low <= tick < high:
            return f"{axis.label} {name}".strip()
    first, last = int(np.ceil(low)), int(np.ceil(high)) - 1
    numbers = [f"{number:,}" for number in dict.fromkeys((first, last))]
    inside = "–".join(numbers) if last >= first else f"{(low + high) / 2:g}"
    return f"{axis.label} {inside}".strip()


def _scale(frame: Frame, cells: Cells) -> list[Markup]:
    """The steps of colour from the lowest at the bottom, each edge with its number."""
    sizes = steps(cells)
    edges: Sequence[float] = [*(-sizes[::-1]), *sizes]
    left, bottom = WIDTH - frame.right + 12, frame.height - frame.bottom
    height = min(bottom - TOP, 250.0) / 9
    parts = []
    for level in range(9):
        place = {"x": left, "y": bottom - (level + 1) * height, "width": 10.0, "height": height}
        parts.append(element("rect", **place, class_=f"cell edged c{level}"))
    for index, edge in enumerate(edges, start=1):
        said = f"{edge:g}".replace("-", "−")
        if height >= LINE or index % 2:
            parts.append(element("text", said, x=left + 14, y=bottom - index * height + 3.5))
    turned = f"translate({WIDTH - 5:g} {bottom - 4.5 * height:.1f}) rotate(-90)"
    label = {"transform": turned, "text_anchor": "middle", "class_": "label"}
    return [*parts, element("text", shortened(cells.label, LABEL), **label)]
