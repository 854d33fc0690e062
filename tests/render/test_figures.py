"""Charts as figures: what is drawn is what the chart says, and every part can be read."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from charts import HOSTILE, MIDDLES, OCTAVES, SAMPLES, contrasts, curve, documents, heads, ratios
from figures import assert_readable, inside_axes
from figures import labels as legend_texts
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from probe.errors import UsageError
from probe.findings.chart import Axis, Chart, EmptyChartError, Interval, Rule, Series
from probe.render import figures, style, svg
from probe.render.layout import free_place
from probe.render.markup import shortened
from probe.text import printable

FORMATS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.fixture(params=SAMPLES)
def sample(request):
    return SAMPLES[request.param]()


def texts(axes):
    """All texts of a figure."""
    return [text for text in axes.figure.findobj(mpl.text.Text) if text.get_text()]


def line_of(axes, colour):
    """The points of the first line in a colour."""
    return next(line.get_xydata() for line in axes.lines if line.get_color() == colour)


def test_every_chart_is_drawn(sample):
    """With as many entries of the legend as on the page, and no text that is mathematics."""
    axes = figures.draw(sample)
    FigureCanvasAgg(axes.figure).draw()
    assert axes.figure.get_figwidth() == style.WIDTH
    entries = legend_texts(axes) if axes.get_legend() else []
    assert len(entries) == len(svg.legend(sample))
    shown = [text for text in texts(axes) if not text.get_text().replace("−", "").isalnum()]
    assert not any(text.get_parse_math() for text in shown if "$" in text.get_text())
    assert all(text.get_text() == printable(text.get_text(), "\n") for text in texts(axes))


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "hostile"])
def test_nothing_overlaps_at_column_width(name):
    """Title, axes, axis label and legend are apart, tick and rule labels among themselves."""
    assert_readable(figures.draw(SAMPLES[name]()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["documents", "importance", "passages", "heads", "curve"])
def test_a_long_heading_stays_inside(name):
    """It goes on in a second line where names at the left leave less room; a word is cut."""
    long = "SmolLM2-135M-Instruct (4-bit weights dequantised)"
    axes = figures.draw(replace(SAMPLES[name](), heading=[long, "stdlib"]))
    *lines, last = axes.get_title(loc="left").splitlines()
    assert " ".join(lines) == long
    assert last == "stdlib"
    assert_readable(axes)
    axes = figures.draw(replace(SAMPLES[name](), heading=["x" * 90]))
    (line,) = axes.get_title(loc="left").splitlines()
    assert line.endswith("x…")
    assert_readable(axes)


@pytest.mark.parametrize("kind", ["distance", "delta", "log", "linear"])
def test_places_are_those_of_the_page(kind):
    """Matplotlib's own scales are the oracle of `Axis.at`, also for an axis that goes down."""
    values = np.array([0.001, 0.004, 0.02, 0.3, 0.9, 1, 1.5, 7, 200, 1000])
    for low, high in ((0.001, 1000), (1000, 0.001)):
        axis = Axis("", low, high, kind, threshold=0.01)
        chart = Chart("", Axis("", 0, 1), axis, [Series("", np.linspace(0, 1, 10), values)])
        axes = figures.draw(chart)
        transform = axes.yaxis.get_transform().transform
        ends, places = transform(np.array([low, high])), transform(values)
        assert axis.at(values) == pytest.approx((places - ends[0]) / (ends[1] - ends[0]), abs=1e-9)


def test_a_curve_has_units_and_a_place_for_zero():
    """Both axes have their unit, distance 0 a tick, every condition a legend entry."""
    chart = curve()
    axes = figures.draw(chart)
    assert axes.get_xlabel() == "distance (tokens)"
    assert axes.get_ylabel() == "delta (nats per token)"
    assert axes.get_xticks()[0] == 0
    assert legend_texts(axes) == [
        *("truncate", "replace(source='document')", "shuffle", "noise floor, at most 0.006 nats"),
        *("less far than near text", "truncate, 1 %: > 640"),
    ]
    assert [text.get_text() for text in axes.texts] == ["1 %", "2 %", "5 %", "10 %", "> 640"]
    np.testing.assert_array_equal(line_of(axes, style.COLOURS[1])[:, 1], chart.series[2].y)
    assert axes.get_title(loc="left").splitlines() == list(chart.heading)


def test_grey_points_keep_their_mark():
    """Their colour says that there is less far than near text, their mark the condition."""
    (grey,) = [series for series in curve().series if series.role == "grey"]
    look = style.look(grey)
    assert look["color"] == style.GREY
    assert look["marker"] == style.MARKERS[grey.look]


def test_points_at_the_ends_are_whole():
    """The axis of distances has a margin at both ends, in its own scale."""
    axes = figures.draw(curve())
    low, high = axes.get_xlim()
    assert -0.5 < low < 0
    assert 1024 < high < 1500


def test_names_are_no_mathematics():
    """A dollar sign in a name is drawn as it is, what a terminal would obey as text."""
    axes = figures.draw(SAMPLES["hostile"]())
    assert axes.get_title(loc="left").startswith("</svg><script>alert('$x$')[U+202E][U+001B]")
    FigureCanvasAgg(axes.figure).draw()
    names = [label.get_text() for label in figures.draw(documents()).get_yticklabels()]
    assert names[0] == shortened(HOSTILE, 18)
    assert legend_texts(axes)[0] == shortened(HOSTILE, 52)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["W" * 60, "模型"])
def test_any_name_can_be_drawn(name, tmp_path):
    """One of wide letters is cut to the figure; letters that the font lacks are no warning."""
    chart = curve()
    named = replace(chart.series[1], name=name)
    axes = figures.draw(replace(chart, series=[named], heading=[name]))
    figures.save(axes, tmp_path / "figure")
    assert legend_texts(axes)[0].rstrip("…") in name
    with style.sheet():
        assert axes.get_legend().get_window_extent().width <= axes.figure.bbox.width
    assert axes.get_position().width > 0.5
    figures.draw(replace(chart, series=[named]), Figure(figsize=(0.4, 0.4)).subplots())


def test_a_legend_has_a_place_of_its_own_or_none():
    """Where nothing is drawn, first of all in the upper right corner; else below the axes."""
    x = np.linspace(0, 1, 50)
    falling, whole = Series("a", x, 1 - x), [Series("a", x, x * 0 + y) for y in x]
    chart = Chart("", Axis("", 0, 1), Axis("", 0, 1), [falling])
    assert free_place(chart, 0.3, 0.2) == (0.69, 0.79)
    assert free_place(replace(chart, series=[replace(falling, y=x)]), 0.3, 0.2) == (0.01, 0.79)
    assert free_place(replace(chart, series=whole), 0.3, 0.2) is None
    assert free_place(chart, 1.1, 0.2) is None
    assert free_place(heads(), 0.1, 0.1) is None
    ruled = replace(chart, rules=[Rule(0.9)])
    x, y = free_place(ruled, 0.3, 0.2)
    assert not y <= 0.9 <= y + 0.2
    assert free_place(replace(ruled, rules=[Rule(at) for at in x_steps()]), 0.3, 0.2) is not None
    assert inside_axes(figures.draw(chart))
    full = figures.draw(replace(chart, series=whole[:1] + [replace(w, name="") for w in whole]))
    assert not inside_axes(full)


@pytest.mark.slow
def test_a_legend_below_takes_the_width():
    """As many columns as have room, which a figure of two columns has more of."""
    x = np.linspace(0, 1, 50)
    whole = [
        Series(f"{name} of six", x, x * 0 + y) for name, y in zip("abcdef", x[::9], strict=True)
    ]
    every = [*whole, *(Series("", x, x * 0 + y) for y in x)]
    chart = Chart("", Axis("distance", 0, 1), Axis("delta", 0, 1), every)
    rows = []
    for width in (2.0, style.WIDTH, style.DOUBLE):
        axes = figures.draw(chart, size=(width, None))
        assert_readable(axes)
        assert not inside_axes(axes)
        boxes = [text.get_window_extent() for text in axes.get_legend().get_texts()]
        rows.append(len({round(box.y0) for box in boxes}))
    assert rows == [6, 2, 1]


def x_steps():
    return np.linspace(0.05, 0.95, 19)


@pytest.mark.slow
def test_a_size_is_kept(tmp_path):
    """Also of charts below one another; the axes take what title and legend leave."""
    for size in ((3.3, 2.2), (6.8, 3.0), (5.0, 7.0)):
        axes = figures.draw(contrasts(), size=size)
        assert tuple(axes.figure.get_size_inches()) == size
        assert_readable(axes)
    both = figures.draw([contrasts(), ratios()], size=(5, 6))
    assert tuple(both.figure.get_size_inches()) == (5, 6)
    assert_readable(*both.figure.axes)
    with pytest.raises(UsageError, match=r"a height of 1 has no room .* at least 1\.\d inches"):
        figures.draw(contrasts(), size=(3.3, 1))


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "hostile"])
def test_letters_can_be_read_in_a_column(name):
    """None is smaller than seven points."""
    axes = figures.draw(SAMPLES[name]())
    assert min(text.get_fontsize() for text in texts(axes)) >= 7


@pytest.mark.slow
def test_svg_has_its_text_as_text(tmp_path):
    """To be searched and edited, in a font of the same widths where ours is not there."""
    (file,) = figures.save(curve(), tmp_path / "curve", ["svg"])
    content = file.read_text(encoding="utf-8")
    assert ">distance (tokens)</text>" in content
    assert "font-family: 'DejaVu Sans', Verdana, sans-serif" in content


def test_no_global_state_is_changed(sample):
    """RcParams are what they were, and pyplot knows of no figure."""
    before = dict(mpl.rcParams)
    figures.draw(sample)
    assert dict(mpl.rcParams) == before
    assert not plt.get_fignums()


def test_axes_may_be_given():
    """They are drawn in and given back; a user's own scale of them is replaced."""
    own = Figure().subplots()
    assert figures.draw(curve(), own) is own
    assert figures.draw(heads(), Figure().subplots()).collections
    with pytest.raises(ValueError, match="axes hold one chart; got 2"):
        figures.draw([contrasts(), ratios()], own)
    with pytest.raises(EmptyChartError, match="no chart"):
        figures.draw([])


def test_charts_stand_below_one_another():
    """The same distances under one another, a heading that both have above the first alone."""
    charts = [replace(chart, heading=["model", "data"]) for chart in (contrasts(), ratios())]
    axes = figures.draw(charts)
    upper, lower = axes.figure.axes
    assert axes is upper
    assert upper.get_xlim() == lower.get_xlim()
    assert upper.get_title(loc="left") == "model\ndata"
    assert lower.get_title(loc="left") == charts[1].title
    assert_readable(upper, lower)


def test_contrasts_by_octave():
    """One series a contrast, bars at its points, its values where they are."""
    axes = figures.draw(contrasts())
    first, second = (line_of(axes, style.COLOURS[number]) for number in (0, 1))
    np.testing.assert_allclose(first, np.column_stack([OCTAVES, 1 / OCTAVES]))
    np.testing.assert_allclose(second[:, 1], -0.5 / OCTAVES)
    assert len(axes.collections) == 2


def test_ratios_have_a_cross_where_they_are_unresolved():
    """On the axis; a long bar is cut at its end and does not flatten the others."""
    axes = figures.draw(ratios())
    crosses = line_of(axes, style.GREY)
    assert len(crosses) == 2
    assert (crosses[:, 1] == axes.get_ylim()[0]).all()
    assert axes.get_ylim()[1] < 4
    assert [text.get_text() for text in axes.texts] == ["truncate"]
    assert legend_texts(axes)[-1] == "unresolved"


def test_length_against_tolerance():
    """Known lengths where they are, triangles at the reach beyond them, crosses below."""
    axes = figures.draw(SAMPLES["tolerance"]())
    drawn = line_of(axes, style.COLOURS[0])
    assert np.nanmax(drawn[:, 1]) == 512
    triangles = [line for line in axes.lines if line.get_marker() == "^"]
    assert {height for line in triangles for height in line.get_ydata()} == {512.0}
    assert legend_texts(axes) == ["truncate", "beyond reach", "shuffle", "unresolved"]


def test_shares_have_their_unit_in_the_label():
    """So that more ticks have room; without a unit of its own the label gets brackets."""
    axes = figures.draw(SAMPLES["tolerance"]())
    assert axes.get_xlabel() == "tolerance (rise of perplexity, %)"
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["0.1", "", "0.5", "1", "2", "5", "10", "20", "50", "100"]
    axes = figures.draw(SAMPLES["suffix"]())
    assert axes.get_ylabel() == "gold continuation chosen (%)"


def test_classes_are_drawn_with_their_lengths():
    """What has no answer is a grey line without marks; a note has no sample."""
    axes = figures.draw(SAMPLES["classes"]())
    drawn = line_of(axes, style.GREY)
    np.testing.assert_array_equal(drawn[:, 0], MIDDLES)
    handles = axes.get_legend().legend_handles
    assert handles[2].get_color() == style.GREY
    assert handles[2].get_marker() == "none"
    assert handles[3].get_linestyle() == "None"


def test_an_answer_beyond_reach_has_an_arrow():
    """The bar ends in it; a diamond stands at an estimate alone, inside the axis."""
    marks = [line.get_marker() for line in figures.draw(curve()).lines]
    assert ">" in marks
    assert "D" not in marks
    inside = curve(intervals=[Interval(0.01, 100, 900, 300, False, "")], series=[])
    diamond = next(line for line in figures.draw(inside).lines if line.get_marker() == "D")
    assert list(diamond.get_xdata()) == [300]


def test_heatmap_by_document():
    """A row a document from the top down, each cell its delta, what is missing grey."""
    chart = documents()
    axes = figures.draw(chart)
    (mesh,) = axes.collections
    cells = mesh.get_array().reshape(chart.cells.values.shape)
    np.testing.assert_array_equal(cells.filled(np.nan), chart.cells.values)
    assert axes.get_ylim() == (13.5, -0.5)
    assert axes.get_xlim() == (0, 1024)
    assert mesh.get_rasterized()
    assert to_hex(axes.get_facecolor()) == style.EMPTY.lower()


def test_heads_have_dots():
    """In the middle of their cells."""
    chart = heads()
    axes = figures.draw(chart)
    (dots,) = (line for line in axes.lines if line.get_color() == "black")
    np.testing.assert_array_equal(dots.get_xydata(), chart.cells.dots)


@pytest.mark.slow
def test_a_figure_grows_with_its_legend_and_its_rows():
    """The axes stay as high as they are."""
    tall = figures.draw(curve(legend=[("", str(number)) for number in range(12)]))
    low = figures.draw(curve(legend=[]))
    assert tall.figure.get_figheight() - low.figure.get_figheight() == pytest.approx(
        12 * style.ENTRY
    )
    for axes in (low, tall):
        FigureCanvasAgg(axes.figure).draw()
    assert tall.get_position().height * tall.figure.get_figheight() == pytest.approx(
        low.get_position().height * low.figure.get_figheight(), rel=0.15
    )
    many, few = (figures.draw(documents(count)).figure.get_figheight() for count in (30, 12))
    assert many > few


def test_the_sheet_is_a_style_of_matplotlib():
    """Anyone can use it; its colours are those of our lines, its width that of a column."""
    with mpl.style.context(style.SHEET):
        cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
        assert [to_hex(colour).upper() for colour in cycle] == list(style.COLOURS)
        assert mpl.rcParams["figure.figsize"][0] == style.WIDTH
        assert not mpl.rcParams["text.parse_math"]


def test_series_differ():
    """Three times as many series as colours, and no two look the same."""
    looks = [style.look(Series("", MIDDLES, MIDDLES, number)) for number in range(18)]
    assert len({str(look) for look in looks}) == len(looks)
    for key in ("color", "linestyle", "marker"):
        assert len({str(look[key]) for look in looks[:6]}) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["curve", "heads"])
def test_files_are_the_same_each_time(name, tmp_path):
    """PNG, SVG and PDF: equal bytes for equal charts, in the order that was asked for."""
    first = figures.save(SAMPLES[name](), tmp_path / "a" / "chart.v1", tuple(FORMATS))
    second = figures.save(
        figures.draw(SAMPLES[name]()), tmp_path / "b" / "chart.v1", tuple(FORMATS)
    )
    assert [path.name for path in first] == ["chart.v1.png", "chart.v1.svg", "chart.v1.pdf"]
    for one, other, start in zip(first, second, FORMATS.values(), strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert one.read_bytes().startswith(start)
    assert b"/FontFile2" in first[2].read_bytes()  # the font is embedded, text stays text


def test_png_and_svg_without_a_word_on_formats(tmp_path):
    """One that matplotlib knows and we do not is refused, as are axes without a figure."""
    axes = figures.draw(SAMPLES["positions"]())
    png, svg_file = figures.save(axes, tmp_path / "curve")
    assert (png.suffix, svg_file.suffix) == (".png", ".svg")
    with pytest.raises(ValueError, match=r"format 'tiff' is unknown; allowed: png, svg, pdf"):
        figures.save(axes, tmp_path / "curve", ["tiff"])
    axes.remove()
    with pytest.raises(ValueError, match="belong to no figure"):
        figures.save(axes, tmp_path / "curve")
