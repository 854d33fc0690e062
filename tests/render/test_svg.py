"""Charts as SVG: every sample is drawn, no name becomes markup, and what stands where."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from charts import HOSTILE, MIDDLES, SAMPLES, curve, heads

from probe.findings.chart import Axis, Cells, Chart, Interval, Rule, Series, linear_axis
from probe.render import svg
from probe.render.layout import labels, legend_entries
from probe.render.markup import element, shortened
from probe.render.svg import SHAPES, TITLED, between, levels, steps
from probe.render.svg_frame import Frame

ASSETS = sorted(Path(svg.__file__).parents[1].glob("*/assets/*.css"))
UNSTYLED = {"beyond"}


def parsed(markup):
    """The elements of some markup, with their classes."""
    return ElementTree.fromstring(f"<r>{markup}</r>")


def of_class(markup, *names):
    """The elements that have all of these classes."""
    return [part for part in parsed(markup).iter() if set(names) <= set(classes(part))]


def classes(part):
    return part.get("class", "").split()


def plain(**changes):
    x = np.array([0.0, 1.0, 2.0, 4.0])
    series = Series("truncate", x, np.array([1.0, 0.5, np.nan, 0.1]), 1)
    content = {"x": Axis("x", 0, 8), "y": Axis("y", -1, 1), "series": [series]}
    return Chart("Delta", **(content | changes))


@pytest.fixture(params=SAMPLES)
def sample(request):
    return SAMPLES[request.param]()


def test_every_chart_is_drawn(sample):
    """Well-formed, with a role and a name, all numbers, and no style that a policy blocks."""
    drawn = svg.draw(sample)
    (root,) = parsed(drawn)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert not re.search(r"\sstyle=|\b(nan|inf)\b", drawn)
    width, height = map(float, root.get("viewBox").split()[2:])
    frame = Frame(sample)
    assert frame.across > width / 3
    assert frame.upwards > height / 4


def test_every_class_is_in_the_style_sheet(sample):
    """But for those that only names a part."""
    css = "".join(path.read_text("utf-8") for path in ASSETS)
    known = set(re.findall(r"\.([a-z]\w*)", css)) | UNSTYLED
    samples = "".join(entry[0] for entry in svg.legend(sample))
    used = {name for part in parsed(svg.draw(sample) + samples).iter() for name in classes(part)}
    assert used <= known


def test_the_legend_names_all_that_is_drawn(sample):
    """One sample and one text an entry, each well-formed."""
    entries = svg.legend(sample)
    assert [text for _, text in entries] == [text for _, text in legend_entries(sample)]
    for drawn, _ in entries:
        assert parsed(drawn)[0].get("aria-hidden") == "true"


def test_all_marks_lie_inside_the_drawing(sample):
    """What lies outside of the axes is drawn at their edges."""
    frame = Frame(sample)
    for part in parsed(svg.draw(sample)).iter():
        for point in re.findall(r"([-\d.]+),([-\d.]+)", part.get("points", "")):
            x, y = map(float, point)
            assert frame.left - 0.1 <= x <= frame.left + frame.across + 0.1
            assert frame.height - frame.bottom - frame.upwards - 0.1 <= y <= frame.height


def test_text_in_a_chart_is_escaped():
    """Names come from data."""
    drawn = svg.draw(SAMPLES["hostile"]())
    drawn += svg.draw(SAMPLES["documents"]()) + svg.draw(SAMPLES["passages"]())
    assert "<script" not in drawn
    assert "\u202e" not in drawn
    assert "\x1b" not in drawn
    assert "\n" not in drawn
    assert shortened(HOSTILE, 20) == "</svg><script>alert…"
    assert element("text", HOSTILE, x=1.25) == (
        '<text x="1.2">&lt;/svg&gt;&lt;script&gt;alert(&#39;$x$&#39;)[U+202E][U+001B]&#34;[U+000A]'
        "&amp; co</text>"
    )


def test_a_line_breaks_where_nothing_is_known():
    """NaN splits the line; the points that are known are marked, with what they say."""
    x = np.array([0.0, 1.0, 2.0, 4.0])
    series = replace(plain().series[0], titles=[f"at {at:g}" for at in x])
    drawn = svg.draw(plain(series=[series]))
    assert drawn.count("<polyline") == 2
    assert [part[0].text for part in of_class(drawn, "point")] == ["at 0", "at 1", "at 4"]


def test_some_of_many_points_are_marked():
    """A dozen, all, or none, as is asked for; a line of none has no mark in the legend either."""
    x = np.linspace(0, 8, 120)
    counts = {}
    for points in (None, True, False):
        chart = plain(series=[Series("a", x, x / 9, points=points)])
        counts[points] = len(of_class(svg.draw(chart), "point"))
        assert ("<path" in svg.legend(chart)[0][0]) == (points is not False)
    assert counts == {None: 12, True: 120, False: 0}


def test_points_of_their_own_have_bars():
    """A bar where limits are known, no line; joined points with bars have both, and no band."""
    x = np.array([1.0, 2, 3])
    series = Series("a", x, x / 9, 0, x / 9 - 0.1, np.array([0.5, 0.6, np.nan]), joined=False)
    drawn = svg.draw(plain(series=[series]))
    assert len(of_class(drawn, "limits")) == 2
    assert "<poly" not in drawn
    drawn = svg.draw(plain(series=[replace(series, joined=True, bars=True)]))
    assert len(of_class(drawn, "limits")) == 2
    assert drawn.count("<polyline") == 1
    assert "<polygon" not in drawn


def test_a_horizontal_chart_names_its_rows():
    """From the top down, bars level, and the margin as wide as the names need."""
    chart = SAMPLES["passages"]()
    drawn = svg.draw(chart)
    texts = [part for part in parsed(drawn).iter("text") if part.text in chart.y.names]
    places = [float(text.get("y")) for text in texts]
    assert [text.text for text in texts] == [name for name in chart.y.names if name != HOSTILE]
    assert places == sorted(places)
    for bar in of_class(drawn, "limits"):
        assert bar.get("y1") == bar.get("y2")
        assert float(bar.get("x1")) < float(bar.get("x2"))
    short = replace(chart, y=replace(chart.y, names=list("abcdefgh")))
    assert Frame(short).left < Frame(chart).left


def test_the_colour_may_differ_from_dashes_and_mark():
    """Its class stands behind that of the look, here and in the style sheet."""
    first, *_ = of_class(svg.draw(SAMPLES["runs"]()), "line", "s0", "k1")
    assert classes(first) == ["line", "s0", "k1"]
    css = "".join(path.read_text("utf-8") for path in ASSETS)
    assert css.index(".s5 {") < css.index(".k0 {") < css.index(".grey,")


def test_what_has_no_answer_is_a_cross_on_the_axis():
    """At the start of the axis of values; what lies beyond is a triangle where it is said to be."""
    chart = SAMPLES["tolerance"]()
    frame = Frame(chart)
    drawn = svg.draw(chart)
    crosses, triangles = of_class(drawn, "unresolved"), of_class(drawn, "beyond")
    assert len(crosses) == 2
    assert {height(part) for part in crosses} == {round(frame.height - frame.bottom, 1)}
    assert {height(part) for part in triangles} == {round(float(frame.y(512.0)), 1)}


def height(part):
    return float(re.search(r"translate\([-\d.]+ ([-\d.]+)\)", part.get("transform"))[1])


def test_an_answer_beyond_reach_has_an_arrow():
    """Bar and arrow without a diamond; with an estimate the diamond, in its own colour."""
    beyond = svg.draw(plain(intervals=[Interval(0.1, 4, 8, None, True, "> 8")]))
    assert len(of_class(beyond, "arrow")) == 1
    assert not of_class(beyond, "answer")
    inside = svg.draw(plain(intervals=[Interval(0.1, 2, 6, 4, False, "4 (2–6)", 3)]))
    assert len(of_class(inside, "answer", "s3")) == 1
    assert not of_class(inside, "arrow")
    assert of_class(inside, "bar", "s3")[0][0].text == "4 (2–6)"


def test_rules_stand_inside_with_labels_that_have_room():
    """Outside none is drawn, near another the label is left out, a named one is in the legend."""
    rules = [Rule(0.5, "first"), Rule(0.51, "second"), Rule(9, "far"), Rule(0.2, "dashed", True)]
    chart = plain(rules=rules)
    drawn = svg.draw(chart)
    texts = [part.text for part in parsed(drawn).iter("text")]
    assert len(of_class(drawn, "tolerance")) == 3
    assert len(of_class(drawn, "tolerance", "named")) == 1
    assert "first" in texts
    assert not {"second", "far", "dashed"} & set(texts)
    assert [text for _, text in svg.legend(chart)] == ["truncate", "dashed"]


def test_few_cells_say_what_they_are():
    """Where they stand, whole numbers from to, or names; and their value; else they are paths."""
    drawn = svg.draw(heads())
    cells = [part for part in of_class(drawn, "cell") if len(part)]
    assert len(cells) == 9 * 12
    assert cells[0][0].text.startswith("head 0; layer 0: 0.0")
    (empty,) = of_class(drawn, "cell", "none")
    assert empty[0].text == "head 4; layer 5: –"
    assert len(of_class(drawn, "dot")) == 2
    many = SAMPLES["many_cells"]()
    assert many.cells.values.size > TITLED
    assert len(of_class(svg.draw(many), "cell")) <= 2 * 9
    assert len(svg.draw(many)) < 30 * many.cells.values.size


def test_cells_are_named_by_what_they_hold():
    """Half-open from their first edge on; a tick's name comes first."""
    distance = Axis("distance", 0, 64)
    assert between(distance, 8, 16) == "distance 8–15"
    assert between(distance, 8, 9) == "distance 8"
    assert between(Axis("", 3, 0, ticks=[0.5], names=["name"]), 0, 1) == "name"
    assert between(distance, 0.2, 0.4) == "distance 0.3"


def test_colours_are_steps_of_either_sign():
    """Plainly: how many steps a value reaches, with its sign, around the middle."""
    values = np.random.default_rng(0).normal(0, 0.2, (20, 20))
    values[0, 0] = np.nan
    cells = Cells(np.arange(21.0), np.arange(21.0), values, "")
    sizes = steps(cells)
    assert list(sizes) == pytest.approx([0.01, 0.03, 0.1, 0.3])
    for value, level in zip(values.ravel(), levels(values, sizes).ravel(), strict=True):
        reached = sum(abs(value) >= size for size in sizes)
        assert level == (-1 if np.isnan(value) else 4 + np.sign(value) * reached)


def test_noise_has_no_colour():
    """The steps do not follow the values down."""
    cells = Cells(np.arange(3.0), np.arange(2.0), np.array([[1e-6, -1e-6]]), "")
    assert (levels(cells.values, steps(cells)) == 4).all()
    empty = replace(cells, values=np.full((1, 2), np.nan))
    assert (levels(empty.values, steps(empty)) == -1).all()


def test_rows_of_cells_stand_from_the_top_down():
    """Where the axis does."""
    cells = Cells(np.arange(2.0), np.arange(3.0), np.array([[1.0], [-1.0]]), "")
    chart = Chart("", Axis("", 0, 1), Axis("", 2, 0), cells=cells)
    first, second = (part for part in of_class(svg.draw(chart), "cell") if len(part))
    assert float(first.get("y")) < float(second.get("y"))


def test_labels_of_ticks_leave_room():
    """0 and powers of ten come first, and no two are nearer than they are long."""
    axis = Axis("", -10, 10, "delta", [-10, -3, -1, -0.3, 0, 0.3, 1, 3, 10], threshold=0.1)
    assert labels(axis, axis.tick_names(), 1000, [20] * 9) == axis.tick_names()
    shown = labels(axis, axis.tick_names(), 100, [20] * 9)
    assert {"0", "1", "10", "−1", "−10"} == {name for name in shown if name}
    places = axis.at(axis.ticks) * 100
    kept = [place for place, name in zip(places, shown, strict=True) if name]
    assert (np.diff(kept) >= 20).all()


def test_a_floor_is_never_too_thin_to_be_seen():
    """A noise floor of nothing still has a height."""
    chart = curve()
    thin = replace(chart, floor=replace(chart.floor, limits=np.array([1e-9, np.nan, 0.1])))
    heights = [float(part.get("height")) for part in of_class(svg.draw(thin), "floor")]
    assert len(heights) == 2
    assert heights[0] == 1
    assert heights[1] > 10


def test_zero_is_a_line_among_values_alone():
    """Not at the first of some names, and not outside the axis."""
    assert len(of_class(svg.draw(plain(y=linear_axis([-1, 1], "y"))), "zero")) == 1
    assert not of_class(svg.draw(SAMPLES["positions"]()), "zero")
    assert len(of_class(svg.draw(SAMPLES["passages"]()), "zero")) == 1


def test_the_fit_is_a_line_of_its_own():
    """Bold, with points of its own; those of the bins are light and nothing joins them."""
    x, fit = np.array([1.0, 2, 4]), (MIDDLES, MIDDLES / 2001)
    series = Series("a", x, x / 9, 0, x / 9 - 0.1, x / 9 + 0.1, fit=fit, joined=False, points=True)
    drawn = svg.draw(plain(series=[series]))
    ((line,), points) = of_class(drawn, "line", "bold"), of_class(drawn, "point", "light")
    assert len(line.get("points").split()) == len(MIDDLES)
    assert len(points) == len(of_class(drawn, "limits", "light")) == 3
    assert drawn.count("<polyline") == 1
    ((sample, _),) = svg.legend(plain(series=[series]))
    assert of_class(sample, "line", "bold")
    assert of_class(sample, "point", "light")


def test_the_explorer_has_the_marks_of_the_charts() -> None:
    """A look is the same shape on the page, whoever draws it: the script cannot import it."""
    script = (Path(svg.__file__).parent / "assets" / "losses.js").read_text("utf-8")
    (listed,) = re.findall(r"const SHAPES = \[(.*?)\];", script, flags=re.DOTALL)
    assert tuple(re.findall('"(.*?)"', listed)) == SHAPES
