"""Charts: places on the axes, marks, and text that stays text."""

import re

import numpy as np
import pytest

from probe.report.charts import Chart, Interval, Line, Rule, draw, legend
from probe.report.svg import (
    delta_scale,
    distance_scale,
    element,
    linear_scale,
    position_scale,
)


def chart(**changes):
    x = np.array([0.0, 1.0, 2.0, 4.0])
    line = Line("truncate", x, np.array([1.0, 0.5, np.nan, 0.1]), 1)
    content = {
        "title": "Delta",
        "x": distance_scale(8),
        "y": delta_scale([1.0, 0.1], 0.01),
        "lines": [line],
    }
    return Chart(**(content | changes))


def test_distances_are_linear_and_then_octaves():
    """0, 1, 2, 4 and 8 are evenly spaced; what lies beyond is drawn at the edge."""
    assert distance_scale(8).at([0, 1, 2, 4, 8, 99]) == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])


def test_small_deltas_have_a_place():
    """Between ± threshold the axis is linear, then each factor of ten has the same length."""
    scale = delta_scale([-1.0, 10.0], 0.01)
    places = scale.at([-0.1, -0.01, -0.005, 0, 0.005, 0.01, 0.1, 1])
    steps = np.diff(places)
    assert steps[[0, 5, 6]] - steps[0] == pytest.approx(np.zeros(3), abs=1e-9)
    assert steps[1:5] - steps[1] == pytest.approx(np.zeros(4), abs=1e-9)
    assert np.isnan(scale.at([np.nan])[0])
    assert [scale.name(tick) for tick in scale.ticks] == [
        *("−1", "−0.3", "−0.1", "−0.03", "−0.01", "0", "0.01", "0.03", "0.1", "0.3", "1", "3", "10")
    ]


@pytest.mark.parametrize("values", [[0.0, 1.0], [1.61, 1.83], [5.0], [], [-2e-5, 3e-5], [1e6, 9e6]])
def test_linear_ticks_are_few_and_inside(values):
    """Three to seven round numbers, whatever the range."""
    scale = linear_scale(values, "loss")
    assert 3 <= len(scale.ticks) <= 7
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)


def test_positions_always_have_ticks():
    """Also where they span less than an octave."""
    assert len(position_scale(1600, 2048, "position").ticks) > 2
    assert position_scale(16, 4096, "position").ticks[0] >= 16


def test_text_in_a_chart_is_escaped():
    """Names come from data."""
    hostile = "</svg><script>alert('x')\u202e\""
    line = Line(hostile, np.array([1.0]), np.array([1.0]), told=[hostile])
    drawn = draw(chart(title=hostile, lines=[line], rules=[Rule(0.1, hostile)]))
    assert "<script" not in drawn
    assert "\u202e" not in drawn
    assert element("text", hostile, x=1.25) == (
        '<text x="1.2">&lt;/svg&gt;&lt;script&gt;alert(&#39;x&#39;)[U+202E]&#34;</text>'
    )


def test_a_line_breaks_where_nothing_is_known():
    """NaN splits the line; the points that are known are marked."""
    drawn = draw(chart())
    assert drawn.count("<polyline") == 2
    assert drawn.count("<path") == 3
    assert "nan" not in drawn.lower()


def test_an_answer_beyond_reach_has_an_arrow():
    """Bar and arrow without a diamond; with an estimate the diamond too."""
    beyond = draw(chart(intervals=[Interval(0.1, 4, 8, None, True, "> 8")]))
    assert 'class="arrow"' in beyond.replace(' "', '"')
    assert 'class="answer"' not in beyond
    inside = draw(chart(intervals=[Interval(0.1, 2, 6, 4, False, "4 (2–6)")]))
    assert inside.count("answer") == 1
    assert "arrow" not in inside


def test_the_legend_names_every_line():
    """With a sample of its own; unnamed lines and those without values have none or a band."""
    x = np.array([1.0, 2.0])
    band = Line("half", x, np.full(2, np.nan), low=x, high=x + 1)
    found = legend(chart(lines=[*chart().lines, Line("", x, x), band], keys=[("floor", "noise")]))
    assert [name for _, name in found] == ["truncate", "half", "noise"]
    assert ["rect" in sample for sample, _ in found] == [False, True, True]


def test_no_style_attribute():
    """The page's policy would block it."""
    assert not re.search(r"\sstyle=", draw(chart()))
