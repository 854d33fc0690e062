"""Windows of attention against truncation at equal width: the same targets, plain means."""

import json

import numpy as np
import pytest
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
)

from probe.analysis.open_run import open_run
from probe.findings.base import write_files
from probe.findings.chart import EmptyChartError
from probe.findings.patterns.answer import finding
from probe.findings.patterns.equal_width import (
    ATTENTION,
    COLUMNS,
    DIFFERENCES,
    NEAR,
    at_equal_width,
    chart,
)
from probe.render.terminal import text
from probe.results.files import read_csv

pytestmark = pytest.mark.slow

WIDTHS = (8, 16, 24)
GRID = {
    "kind": "grid",
    "distances": list(WIDTHS[:2]),
    "targets": {"count": 6, "end_offset": 0},
}


@pytest.fixture(scope="module", name="folder")
def run_folder(base, tmp_path_factory):
    local = [f"attend(local({w}))" for w in WIDTHS]
    conditions = ["truncate", "hide", *local, "attend(local(8, sinks=0))"]
    return score(base, tmp_path_factory.mktemp("widths"), protocol=GRID, conditions=conditions)


def plain(folder):
    """Mean delta by series and width, target by target."""
    rows = scores(folder)
    rows["delta"] = rows["nll"].astype(float) - rows["nll_intact"]
    keys = ["document", "window", "position"]
    found = {}
    for w in WIDTHS[:2]:
        window = rows[rows["condition"] == f"attend(local(w={w}, sinks=1))"]
        first = window.groupby(["document", "window"])["position"].transform("min")
        near = window[window["position"] - first <= w * NEAR].set_index(keys)["delta"]
        text = {}
        for name in ("truncate", "hide"):
            own = rows[rows["condition"] == name]
            own = own[own["position"] - own["boundary"] <= w * (1 + NEAR)]
            own = own[own["position"] - own["boundary"] >= w].set_index(keys)["delta"]
            text[name] = own.loc[near.index]
        values = {ATTENTION: near, **text}
        for name, own in values.items():
            found[name, w] = own.mean(), len(own)
        for one, other in DIFFERENCES:
            found[f"{one} − {other}", w] = (values[one] - values[other]).mean(), len(near)
    return found


def test_the_same_targets_at_each_width(folder):
    """Of each boundary the targets with hardly more than w tokens before them."""
    with open_run(folder, write=False) as run:
        table = run.once(at_equal_width)
    assert list(table.columns) == list(COLUMNS)
    expected = plain(folder)
    assert {(row["series"], row["w"]) for _, row in table.iterrows()} == set(expected)
    for row in table.to_dict("records"):
        delta, targets = expected[row["series"], row["w"]]
        assert row["delta"] == pytest.approx(delta, abs=1e-7)
        assert row["targets"] == targets
        assert row["low"] <= row["delta"] <= row["high"]
    assert table["targets"].nunique() > 1


def test_it_is_printed_kept_and_drawn(folder):
    """In the terminal, as a file, as a figure, and folded below that on the page."""
    with open_run(folder) as run:
        one = finding(run)
        rows = run.once(at_equal_width)
        assert folder / "beside.csv" in write_files(run, [one])
        with pytest.raises(EmptyChartError, match=r"no attend\(local\(w\)\) in a grid"):
            chart(run, rows[rows["series"].str.contains("−")])
    assert "Against text cut off or hidden at distance w" in text(one)
    np.testing.assert_allclose(read_csv(folder / "beside.csv")["delta"], rows["delta"], rtol=1e-6)
    assert [each.file for each in one.charts] == ["tradeoff", "beside"]
    drawn = one.charts[1]
    assert drawn.title.startswith("A window of attention against")
    assert [series.name for series in drawn.series] == [ATTENTION, "truncate", "hide"]
    assert list(drawn.x.ticks) == list(WIDTHS[:2])
    assert all(series.joined and series.barred for series in drawn.series)
    assert all(series.low is not None for series in drawn.series)
    places = [series.x[0] for series in drawn.series]
    assert places == sorted(set(places))  # none hides another
    (table,) = drawn.tables
    assert table.shown == "page"
    (printed,) = [each for each in one.tables if each.caption == table.caption]
    assert (printed.shown, printed.rows) == ("terminal", table.rows)


def test_other_targets_no_comparison(base, tmp_path):
    """In a sweep the boundaries of targets are others."""
    folder = score(base, tmp_path, conditions=["truncate", "attend(local(8))"])
    assert json.loads((folder / "run.json").read_text())["config"]["protocol"]["kind"] == "sweep"
    with open_run(folder, write=False) as run:
        assert run.once(at_equal_width).empty
