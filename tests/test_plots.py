"""Figures: what they show, and that they leave nothing behind."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from simulated import Simulation, write_run

from probe import plots
from probe.analysis.summary import summarise

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "shuffle": lambda d: 0.5 / (1 + d),
}


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    path = tmp_path_factory.mktemp("plots") / "run"
    simulation = Simulation(
        CURVES, data="prices_in_$ and $x^2$", boundaries=(100, 256), curve_starts={"shuffle": 64}
    )
    return summarise(write_run(path, simulation), write=False)


def overlapping(boxes):
    return [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_a_curve_has_units_and_a_place_for_zero(summary):
    """Both axes have their unit, distance 0 a tick, every condition a legend entry."""
    axes = plots.curve(summary)
    assert axes.get_xlabel() == "distance (tokens)"
    assert axes.get_ylabel() == "delta (nats a token)"
    assert axes.get_xticks()[0] == 0
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[:2] == ["truncate", "shuffle"]
    assert "less far than near text" in labels
    assert labels[-1] == "truncate, 1 %: 32 (30–36)"


def test_names_are_no_mathematics(summary):
    """A dollar sign in a name is drawn as it is."""
    axes = plots.curve(summary)
    assert "prices_in_$ and $x^2$" in axes.get_title(loc="left")
    assert not axes._left_title.get_parse_math()
    FigureCanvasAgg(axes.figure).draw()


def test_nothing_overlaps_at_column_width(summary):
    """Title, axes, axis label and legend are apart, tick and tolerance labels among themselves."""
    axes = plots.curve(summary)
    figure = axes.figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    legend = axes.get_legend().get_window_extent(renderer)
    parts = [legend, axes.get_window_extent(renderer), axes.xaxis.label.get_window_extent(renderer)]
    parts.append(axes._left_title.get_window_extent(renderer))
    assert not overlapping(parts)
    assert not overlapping([text.get_window_extent(renderer) for text in axes.texts])
    for axis in (axes.xaxis, axes.yaxis):
        labels = [label.get_window_extent(renderer) for label in axis.get_ticklabels()]
        assert not overlapping([box for box in labels if box.width > 0])
    assert legend.x0 >= 0
    assert legend.y0 >= 0
    assert legend.x1 <= figure.bbox.width


def test_no_global_state_is_changed(summary):
    """RcParams are what they were, and pyplot knows of no figure."""
    before = dict(mpl.rcParams)
    plots.curve([summary, summary])
    assert dict(mpl.rcParams) == before


def test_several_runs_are_drawn_over_one_another_in_given_axes(summary):
    """Two runs of two conditions have four lines in the legend; the axes are the caller's."""
    own = Figure().subplots()
    axes = plots.curve([summary, summary], own)
    assert axes is own
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels.count("simulated: truncate") == 2


def test_files_are_the_same_each_time(summary, tmp_path):
    """PNG and SVG, equal bytes for equal figures."""
    first = plots.save(plots.curve(summary), tmp_path / "a" / "curve.v1")
    second = plots.save(plots.curve(summary), tmp_path / "b" / "curve.v1")
    assert [path.name for path in first] == ["curve.v1.png", "curve.v1.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_no_curve_is_an_error():
    """There is nothing to draw."""
    with pytest.raises(ValueError, match="no summary with a curve"):
        plots.curve([])
