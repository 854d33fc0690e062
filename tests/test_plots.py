"""The curve of a run, the style sheet, and figures as files: that they leave nothing behind."""

import matplotlib as mpl
import numpy as np
import pytest
from figures import assert_readable, labels
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from simulated import Simulation, write_run

from probe import plots
from probe.analysis.summary import summarise
from probe.plots import style

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


def test_a_curve_has_units_and_a_place_for_zero(summary):
    """Both axes have their unit, distance 0 a tick, every condition a legend entry."""
    axes = plots.curve(summary)
    assert axes.get_xlabel() == "distance (tokens)"
    assert axes.get_ylabel() == "delta (nats a token)"
    assert axes.get_xticks()[0] == 0
    told = labels(axes)
    assert told[:2] == ["truncate", "shuffle"]
    assert "less far than near text" in told
    assert told[-1] == "truncate, 1 %: 32 (30–36)"


def test_names_are_no_mathematics(summary):
    """A dollar sign in a name is drawn as it is."""
    axes = plots.curve(summary)
    assert "prices_in_$ and $x^2$" in axes.get_title(loc="left")
    assert not axes._left_title.get_parse_math()
    FigureCanvasAgg(axes.figure).draw()


def test_nothing_overlaps_at_column_width(summary):
    """Title, axes, axis label and legend are apart, tick and tolerance labels among themselves."""
    assert_readable(plots.curve(summary))


def test_no_global_state_is_changed(summary):
    """RcParams are what they were, and pyplot knows of no figure."""
    before = dict(mpl.rcParams)
    plots.curve([summary, summary])
    assert dict(mpl.rcParams) == before
    assert not plt.get_fignums()


def test_several_runs_are_drawn_over_one_another_in_given_axes(summary):
    """Two runs of two conditions have four lines in the legend; the axes are the caller's."""
    own = Figure().subplots()
    axes = plots.curve([summary, summary], own)
    assert axes is own
    assert {"simulated (1): truncate", "simulated (2): truncate"} < set(labels(axes))


def test_no_curve_is_an_error():
    """There is nothing to draw."""
    with pytest.raises(ValueError, match="no summary with a curve"):
        plots.curve([])


def test_the_sheet_is_a_style_of_matplotlib():
    """Anyone can use it; its colours are those of our lines, its width that of a column."""
    with mpl.style.context(style.SHEET):
        cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
        assert [to_hex(colour).upper() for colour in cycle] == list(style.COLOURS)
        assert mpl.rcParams["figure.figsize"][0] == style.WIDTH
        assert not mpl.rcParams["text.parse_math"]


def test_series_differ():
    """Three times as many series as colours, and no two look the same."""
    looks = [style.look(number) for number in range(18)]
    assert len({str(look) for look in looks}) == len(looks)
    for key in ("color", "linestyle", "marker"):
        assert len({str(look[key]) for look in looks[:6]}) == 6


FORMATS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def test_files_are_the_same_each_time(summary, tmp_path):
    """PNG, SVG and PDF: equal bytes for equal figures, in the order that was asked for."""
    first = plots.save(plots.curve(summary), tmp_path / "a" / "curve.v1", tuple(FORMATS))
    second = plots.save(plots.curve(summary), tmp_path / "b" / "curve.v1", tuple(FORMATS))
    assert [path.name for path in first] == ["curve.v1.png", "curve.v1.svg", "curve.v1.pdf"]
    for one, other, start in zip(first, second, FORMATS.values(), strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert one.read_bytes().startswith(start)


def test_png_and_svg_unless_told(summary, tmp_path):
    """Two files without a word on formats; one that matplotlib knows and we do not is refused."""
    axes = plots.curve(summary)
    png, svg = plots.save(axes, tmp_path / "curve")
    assert (png.suffix, svg.suffix) == (".png", ".svg")
    with pytest.raises(ValueError, match=r"format 'tiff' is unknown; allowed: png, svg, pdf"):
        plots.save(axes, tmp_path / "curve", ["tiff"])


def test_a_pdf_holds_its_letters(summary, tmp_path):
    """Text stays text: the font is embedded as TrueType, no picture of it."""
    (pdf,) = plots.save(plots.curve(summary), tmp_path / "curve", ["pdf"])
    assert b"/FontFile2" in pdf.read_bytes()
