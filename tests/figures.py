"""What every figure has to hold: nothing in it hides or cuts anything else."""

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox


def assert_readable(*every: Axes) -> None:
    """Titles, axes, labels and legends are apart and inside the figure, so are tick labels.

    A legend inside its axes lies wholly in them, and on nothing but rules.
    """
    figure = every[0].get_figure(root=True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    parts = []
    for axes in every:
        texts = [axes.xaxis.label, axes.yaxis.label, axes._left_title]
        shown = [text.get_window_extent(renderer) for text in texts if text.get_text()]
        legend = axes.get_legend()
        if legend is not None and inside_axes(axes):
            assert_hides_nothing(axes, legend.get_window_extent(renderer))
        elif legend is not None:
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


def inside_axes(axes: Axes) -> bool:
    """Whether the legend stands inside the axes."""
    box = axes.get_legend().get_window_extent()
    return box.y1 > axes.get_window_extent().y0


def assert_hides_nothing(axes: Axes, box: Bbox) -> None:
    """No line, bar, band, mark or text lies under a legend, but for rules across the axes."""
    whole = axes.get_window_extent()
    assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
    assert whole.y0 <= box.y0 <= box.y1 <= whole.y1
    rules = [line for line in axes.lines if line.get_linestyle() in (":", "--") and is_rule(line)]
    for line in axes.lines:
        if line not in rules:
            path = line.get_transform().transform_path(line.get_path())
            drawn = path if line.get_linestyle() == "None" else path.interpolated(200)
            assert not box.count_contains(drawn.vertices)
    for collection in axes.collections:
        for path in collection.get_paths():
            drawn = collection.get_transform().transform_path(path.interpolated(200))
            assert not box.count_contains(drawn.vertices)
    for text in axes.texts:
        assert not box.overlaps(text.get_window_extent())


def is_rule(line: Line2D) -> bool:
    """Whether a line goes across all of the axes, as ``axhline`` and ``axvline`` draw it."""
    return any(list(ends) == [0, 1] for ends in (line.get_xdata(), line.get_ydata()))


def overlapping(boxes):
    return [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)]


def labels(axes: Axes) -> list[str]:
    """The texts of the legend."""
    return [text.get_text() for text in axes.get_legend().get_texts()]
