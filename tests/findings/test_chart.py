"""Charts as data: places on their axes, ticks, and series that look apart."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.findings.chart import (
    Axis,
    Chart,
    Interval,
    Rule,
    Series,
    delta_axis,
    distance_axis,
    linear_axis,
    names_axis,
    position_axis,
    relabelled,
    shown_names,
    shows,
)


def test_distances_are_linear_and_then_octaves():
    """0, 1, 2, 4 and 8 are evenly spaced; what lies beyond is drawn at the edge."""
    assert distance_axis(8).at([0, 1, 2, 4, 8, 99]) == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])


def test_small_deltas_have_a_place():
    """Between ± threshold the axis is linear, then each factor of ten has the same length."""
    axis = delta_axis([-1.0, 10.0], 0.01)
    places = axis.at([-0.1, -0.01, -0.005, 0, 0.005, 0.01, 0.1, 1])
    steps = np.diff(places)
    assert steps[[0, 5, 6]] - steps[0] == pytest.approx(np.zeros(3), abs=1e-9)
    assert steps[1:5] - steps[1] == pytest.approx(np.zeros(4), abs=1e-9)
    assert np.isnan(axis.at([np.nan])[0])
    assert axis.tick_names() == [
        *("−1", "−0.3", "−0.1", "−0.03", "−0.01", "0", "0.01", "0.03", "0.1", "0.3", "1", "3", "10")
    ]


@pytest.mark.parametrize("values", [[0.0, 1.0], [1.61, 1.83], [5.0], [], [-2e-5, 3e-5], [1e6, 9e6]])
def test_linear_ticks_are_few_and_inside(values):
    """Three to seven round numbers, whatever the range."""
    axis = linear_axis(values, "loss")
    assert 3 <= len(axis.ticks) <= 7
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)


def test_positions_always_have_ticks():
    """Also where they span less than an octave."""
    assert len(position_axis(1600, 2048, "position").ticks) > 2
    assert position_axis(16, 4096, "position").ticks[0] >= 16


def test_names_stand_from_the_left_or_from_the_top():
    """At whole numbers, the first at the left; downwards the first is the highest."""
    across, down = names_axis(["a", "b", "c"]), names_axis(["a", "b", "c"], down=True)
    assert across.tick_names() == ["a", "b", "c"]
    assert (np.diff(across.at(across.ticks)) > 0).all()
    assert (np.diff(down.at(down.ticks)) < 0).all()


@given(
    st.sampled_from(["distance", "delta", "log", "linear"]),
    st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=9).map(sorted),
)
def test_places_keep_the_order_of_values(kind, values):
    """On every kind of axis; between 0 and 1, or the other way round if it goes down."""
    axis = Axis("", 0.01, 100.0, kind)
    places = axis.at(values)
    assert (np.diff(places) >= 0).all()
    assert ((places >= 0) & (places <= 1)).all()
    assert replace(axis, low=axis.high, high=axis.low).at(values) == pytest.approx(1 - places)


def test_looks_differ():
    """Three times as many series as colours, no two alike; a colour may be another's."""
    points = np.zeros(1)
    looks = [Series("", points, points, number).appearance for number in range(18)]
    assert len(set(looks)) == 18
    assert Series("", points, points, 2, colour=4).appearance == (4, 2, 2)


def test_limits_are_bars_where_points_stand_alone():
    """Unless that is said otherwise."""
    points = np.zeros(1)
    assert not Series("", points, points).barred
    assert Series("", points, points, joined=False).barred
    assert Series("", points, points, bars=True).barred


def test_a_label_stands_wherever_its_name_did():
    """In every text, all at once; not in a longer name, in a chain of conditions, or in a word."""
    x = np.zeros(1)
    names = ["truncate", "shuffle(span=5)", "[drop(rate=0.5), shuffle]", "few: shuffle", "shuffled"]
    chart = Chart(
        "shuffle",
        names_axis(["shuffle", "replace(source='shuffle')"]),
        Axis("", 0, 1),
        [Series(name, x, x, titles=[f"{name}, 0: 1"]) for name in names],
        [Rule(0.1, "truncate")],
        [Interval(0, 0, 1, 1, False, "truncate, 1 %: 5")],
        legend=[("answer", "truncate, 1 %: 5")],
        heading=["model", "shuffle"],
    )
    new = relabelled(chart, {"shuffle": "truncate", "truncate": "no far text"})
    assert shown_names(new) == [
        *("no far text", "shuffle(span=5)", "[drop(rate=0.5), shuffle]", "few: truncate"),
        *("shuffled", "truncate", "replace(source='shuffle')"),
    ]
    assert (new.title, list(new.heading)) == ("truncate", ["model", "truncate"])
    assert new.series[0].titles == ["no far text, 0: 1"]
    assert new.rules[0].label == "no far text"
    assert new.intervals[0].title == new.legend[0][1] == "no far text, 1 %: 5"
    assert shows(chart, "few")
    assert shows(chart, "shuffle(span=5)")
    assert not shows(chart, "drop(rate=0.5)")
    assert not shows(chart, "")
