"""What every figure has to hold: nothing in it hides or cuts anything else."""

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg


def assert_readable(*every: Axes) -> None:
    """Titles, axes, labels and legends are apart and inside the figure, so are tick labels."""
    figure = every[0].get_figure(root=True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    parts = []
    for axes in every:
        texts = [axes.xaxis.label, axes.yaxis.label, axes._left_title]
        shown = [text.get_window_extent(renderer) for text in texts if text.get_text()]
        legend = axes.get_legend()
        if legend is not None:
            shown.append(legend.get_window_extent(renderer))
        assert not overlapping([text.get_window_extent(renderer) for text in axes.texts])
        for axis in (axes.xaxis, axes.yaxis):
            labels = [label.get_window_extent(renderer) for label in axis.get_ticklabels()]
            assert not overlapping([box for box in labels if box.width > 0])
        parts += [axes.get_window_extent(renderer), *shown]
    assert not overlapping(parts)
    for box in parts:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height


def overlapping(boxes):
    return [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)]


def labels(axes: Axes) -> list[str]:
    """The texts of the legend."""
    return [text.get_text() for text in axes.get_legend().get_texts()]
