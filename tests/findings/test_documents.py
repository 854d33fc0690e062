"""Documents by themselves, and mean delta by document or position, against sums in pandas."""

import math

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from made_sums import make_sums
from open_runs import by_id, changed, opened
from simulated import Simulation, write_run

from probe.analysis.bins import bin_edges
from probe.analysis.sums import Sums
from probe.errors import UsageError
from probe.findings.chart import EmptyChartError
from probe.findings.documents import (
    MOST_NAMES,
    delta_by_document,
    delta_by_position,
    document_lengths,
    heat_map,
    leave_one_group_out,
    plot,
    spread,
)

EPSILON = math.log(1.01)
LENGTH = 128
EDGES = bin_edges(64)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    simulation = Simulation(
        {"truncate": lambda d: 1 / (1 + d), "shuffle": lambda d: 0.5 / (1 + d)},
        documents=3,
        length=LENGTH,
        boundaries=(24, 64),
        reach=64,
        repeats=2,
    )
    return opened(write_run(tmp_path_factory.mktemp("heatmap") / "run", simulation))


def rows_of(run, condition):
    """The rows of a condition in pandas, repeats averaged, grey ones left out."""
    frame = pd.concat([pq.read_table(part).to_pandas() for part in run.folder.parts])
    frame = frame.astype({"document": str, "condition": str})
    frame = frame[frame["condition"] == condition]
    target = ["document", "window", "position", "boundary", "distance"]
    frame = frame.groupby(target, as_index=False)[["nll", "nll_intact"]].mean()
    start = frame["window"] * LENGTH
    frame = frame[frame["distance"] <= frame["boundary"] - start]
    return frame.assign(
        delta=frame["nll"] - frame["nll_intact"],
        place=frame["position"] - frame["window"] * LENGTH,
        bin=np.searchsorted(EDGES, frame["distance"], side="right") - 1,
    )


def test_by_document(run):
    """Each document's mean in each bin is that of its rows, none missing and none too many."""
    found = delta_by_document(run, "truncate")
    assert list(found) == ["document", "distance_from", "distance_to", "delta", "targets"]
    rows = rows_of(run, "truncate").groupby(["document", "bin"])["delta"]
    assert len(found) == len(rows)
    for (document, at), deltas in rows:
        own = found[(found["document"] == document) & (found["distance_from"] == EDGES[at])]
        assert own["distance_to"].item() == EDGES[at + 1]
        assert own["delta"].item() == pytest.approx(deltas.mean(), abs=1e-6)
        assert own["targets"].item() == len(deltas)


@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_by_position(run, rows):
    """Stretches of positions cover every target once; a cell is the mean of its rows."""
    found = delta_by_position(run, "shuffle", rows=rows)
    expected = rows_of(run, "shuffle")
    assert found["targets"].sum() == len(expected)
    assert found["position_from"].nunique() <= rows
    assert found["position_from"].min() == expected["place"].min()
    assert found["position_to"].max() == expected["place"].max() + 1
    for cell in found.itertuples():
        own = expected[
            expected["place"].between(cell.position_from, cell.position_to - 1)
            & expected["distance"].between(cell.distance_from, cell.distance_to - 1)
        ]["delta"]
        assert cell.delta == pytest.approx(own.mean(), abs=1e-6)
        assert cell.targets == len(own)


def test_a_curve_that_starts_late(run):
    """Bins before the start of the condition's own curve are left out."""
    late = changed(opened(run.path), starts={"shuffle": 16})
    assert delta_by_document(late, "shuffle")["distance_from"].min() == 16
    assert delta_by_position(late, "truncate")["distance_from"].min() == 0


def test_a_condition_that_was_not_scored(run):
    """It has no cell, by document or by position; a heat map names those that were."""
    assert delta_by_document(run, "reverse").empty
    assert delta_by_position(run, "reverse").empty
    with pytest.raises(UsageError, match="'reverse' was not scored; allowed: noise, shuffle, trun"):
        heat_map(run, "reverse", "document")


def test_no_stretch(run):
    """At least one stretch of positions is needed."""
    with pytest.raises(UsageError, match="rows is 0"):
        delta_by_position(run, "truncate", rows=0)


@pytest.mark.parametrize("by", ["document", "position"])
def test_the_heat_map_holds_the_means(run, by):
    """A cell is the mean of its row and its bin of distance, grey where no target fell."""
    ((ending, chart),) = plot([run], condition="shuffle", by=by)
    frame = (delta_by_document if by == "document" else delta_by_position)(run, "shuffle")
    assert (ending, chart.title) == ("", "shuffle")
    assert np.isfinite(chart.cells.values).sum() == len(frame)
    if by == "document":
        sides = frame["document"].rank(method="dense").astype(int) - 1
    else:
        size = (frame["position_to"] - frame["position_from"]).max()
        sides = (frame["position_from"] - frame["position_from"].min()) // size
    for side, row in zip(sides, frame.itertuples(), strict=True):
        at = list(chart.cells.x).index(row.distance_from)
        assert chart.cells.x[at + 1] == row.distance_to
        assert chart.cells.values[side, at] == row.delta
    assert chart.y.low > chart.y.high  # rows from the top down


@pytest.mark.slow
def test_the_condition_of_a_heat_map(run, tmp_path):
    """Truncation, else the first that is no control; without any there is nothing to draw."""
    assert heat_map(run, None, "document").title == "truncate"
    others = {"shuffle": lambda d: 0 * d, "reverse": lambda d: 0 * d}
    other = opened(write_run(tmp_path / "other", Simulation(others, documents=2)))
    assert heat_map(other, None, "document").title == "reverse"
    lone = opened(write_run(tmp_path / "lone", Simulation({}, documents=2, noise_spread=None)))
    with pytest.raises(UsageError, match="condition 'truncate' was not scored; allowed: none"):
        heat_map(lone, None, "document")
    late = changed(opened(run.path), starts={"truncate": 999})
    with pytest.raises(EmptyChartError, match="no delta to draw"):
        heat_map(late, "truncate", "document")


@pytest.mark.slow
def test_many_documents_are_counted(tmp_path):
    """So many are named as fit beside the axis."""
    for documents in (MOST_NAMES, MOST_NAMES + 1):
        simulation = Simulation(
            {"truncate": lambda d: 0 * d},
            documents=documents,
            windows=1,
            length=16,
            boundaries=(8,),
            reach=8,
        )
        axis = heat_map(
            opened(write_run(tmp_path / str(documents), simulation)), None, "document"
        ).y
        assert len(axis.names) == (MOST_NAMES if documents == MOST_NAMES else 0)
        assert axis.label == ("" if axis.names else f"{documents} documents")


def test_documents_have_lengths_of_their_own():
    """A third falls at 8, a third at 64, a third never: quartiles say so."""
    parts = [
        make_sums(lambda d, at=at: np.where(d < at, 0.5, 0.0), documents=3) for at in (8, 64, 9999)
    ]
    stacked = [np.vstack([getattr(part, name) for part in parts]) for name in ("sums", "targets")]
    sums = Sums(parts[0].lower, parts[0].upper, *stacked)
    lengths = document_lengths(sums, [f"d{i}" for i in range(9)], {"1%": EPSILON})
    assert lengths["length"].fillna(-1).tolist() == [8] * 3 + [64] * 3 + [-1] * 3
    row = spread(lengths).iloc[0]
    assert (row["quartile_1"], row["median"], row["beyond_reach"]) == (8, 64, 3)
    assert pd.isna(row["quartile_3"])
    groups = ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    without = leave_one_group_out(sums, groups, {"1%": EPSILON}).set_index("left_out")["length"]
    assert without["c"] == 64
    assert without.isna().tolist() == [True, True, False]
    assert leave_one_group_out(sums, ["a"] * 9, {"1%": EPSILON}).empty


@pytest.mark.slow
def test_the_tables_hold_quartiles_and_groups(tmp_path):
    """A row a condition and tolerance; lengths beyond reach are counted, and groups left out."""
    curves = {"truncate": lambda d: np.where(d < 32, 0.3, 0.0)}
    folder = write_run(tmp_path / "run", Simulation(curves, groups=("novel", "essay")))
    section = by_id(opened(folder))["documents"]
    quartiles, groups = section.tables
    assert [row[:2] for row in quartiles.rows] == [
        ["truncate", f"{share} %"] for share in (1, 2, 5, 10)
    ]
    assert {row[2] for row in groups.rows} == {"novel", "essay"}
    assert {row[4] for row in groups.rows} == {"4"}
    assert section.sentence.startswith("Under truncate at 1 % half of the documents lie between ")
