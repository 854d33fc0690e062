"""The difference of two runs as a chart."""

import numpy as np
import pandas as pd
import pytest
from compare_runs import step
from figures import assert_readable
from matplotlib.figure import Figure
from simulated import Simulation, write_run

from probe.analysis.open_run import open_run
from probe.errors import UsageError
from probe.findings.base import plots
from probe.findings.chart import EmptyChartError
from probe.findings.compare.charts import LINEAR, difference_chart
from probe.render import figures

EDGES = np.array([*range(8), 8, 16, 32, 64, 128, 256, 512])


def comparison(scale):
    """Differences of both signs, in tokens and in bytes."""
    rows = [
        pd.DataFrame(
            {
                "condition": condition,
                "unit": unit,
                "distance_from": EDGES[:-1],
                "distance_to": EDGES[1:],
                "difference": scale * sign / (1 + EDGES[:-1]),
            }
        )
        for condition, sign in (("shuffle", -1), ("truncate", 1))
        for unit in ("tokens", "bytes")
    ]
    frame = pd.concat(rows)
    return frame.assign(low=frame["difference"] - scale / 9, high=frame["difference"] + scale / 9)


@pytest.mark.parametrize("scale", [0.004, 3.0])
@pytest.mark.parametrize(
    ("unit", "measure"), [("tokens", "nats per token"), ("bytes", "bits per byte")]
)
def test_difference_of_two_runs(unit, measure, scale):
    """Second less first, in the unit's measure; small differences linear, large logarithmic."""
    drawn = difference_chart(comparison(scale), ("small", "large"), unit)
    assert drawn.heading == ["large − small"]
    assert drawn.x.label == f"distance ({unit})"
    assert drawn.y.label == f"difference of delta ({measure})"
    assert [series.name for series in drawn.series] == ["truncate", "shuffle"]
    np.testing.assert_allclose(drawn.series[1].y, -scale / (1 + EDGES[:-1]))
    np.testing.assert_allclose(drawn.series[1].high, drawn.series[1].y + scale / 9)
    assert drawn.y.kind == ("linear" if scale < LINEAR else "delta")
    assert drawn.y.low < -scale
    assert drawn.y.high > scale
    assert_readable(figures.draw(drawn))


def test_a_curve_that_starts_late():
    """The axis begins where the differences begin."""
    frame = comparison(1.0).query("distance_from >= 32")
    assert (difference_chart(frame).x.low, difference_chart(comparison(1.0)).x.low) == (32, 0)


def test_differences_without_an_interval_are_drawn():
    """Too few documents leave the limits missing; what is drawn is the difference."""
    drawn = difference_chart(comparison(0.004).assign(low=np.nan, high=np.nan))
    assert drawn.y.kind == "linear"
    assert np.isfinite([drawn.y.low, drawn.y.high]).all()


def test_no_difference():
    """A unit that is none is refused, one without rows has nothing to draw; axes may be given."""
    frame = comparison(1.0)
    with pytest.raises(ValueError, match="unit is 'words'; allowed: tokens, bytes"):
        difference_chart(frame, unit="words")
    with pytest.raises(EmptyChartError, match="no difference by distance in bytes"):
        difference_chart(frame[frame["unit"] == "tokens"], unit="bytes")
    axes = Figure().subplots()
    assert figures.draw(difference_chart(frame), ax=axes) is axes


@pytest.mark.slow
def test_what_is_drawn_on_request(tmp_path):
    """Tokens unless bytes are asked for, one condition where it is; a heading says both runs."""
    (plot,) = (plot for plot in plots() if plot.kind == "compare")
    assert plot.runs == 2
    curves = {"truncate": step(32), "shuffle": step(16)}
    small = {"windows": 1, "length": 256, "boundaries": (128,), "reach": 128, "model": "m"}
    folders = [
        write_run(tmp_path / name, Simulation(curves, name=name, data="d", **small))
        for name in ("one", "two")
    ]
    with open_run(folders[0], write=False) as a, open_run(folders[1], write=False) as b:
        ((ending, drawn),) = plot.charts([a, b])
        assert ending == ""
        assert drawn.x.label == "distance (tokens)"
        assert drawn.heading == ["one: m on d", "two: m on d", "two − one"]
        ((_, drawn),) = plot.charts([a, b], condition="shuffle", unit="bytes")
        assert drawn.x.label == "distance (bytes)"
        assert [series.name for series in drawn.series] == ["shuffle"]
        with pytest.raises(UsageError, match=r"condition 'reverse' was not found; allowed: .*"):
            list(plot.charts([a, b], condition="reverse"))
