"""Mean delta by document or position, compared with sums over the rows in pandas."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from simulated import Simulation, write_run

from probe.analysis.bins import bin_edges
from probe.analysis.heatmap import delta_by_document, delta_by_position
from probe.errors import UsageError
from probe.results.folder import read_folder
from probe.results.views import connect

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
    return read_folder(write_run(tmp_path_factory.mktemp("heatmap") / "run", simulation))


@pytest.fixture
def connection(run):
    with connect(run.path / "windows.parquet", run.parts) as connection:
        yield connection


def rows_of(run, condition):
    """The rows of a condition in pandas, repeats averaged, grey ones left out."""
    frame = pd.concat([pq.read_table(part).to_pandas() for part in run.parts])
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


def test_by_document(run, connection):
    """Each document's mean in each bin is that of its rows, none missing and none too many."""
    found = delta_by_document(connection, EDGES, "truncate")
    assert list(found) == ["document", "distance_from", "distance_to", "delta", "targets"]
    rows = rows_of(run, "truncate").groupby(["document", "bin"])["delta"]
    assert len(found) == len(rows)
    for (document, at), deltas in rows:
        own = found[(found["document"] == document) & (found["distance_from"] == EDGES[at])]
        assert own["distance_to"].item() == EDGES[at + 1]
        assert own["delta"].item() == pytest.approx(deltas.mean(), abs=1e-6)
        assert own["targets"].item() == len(deltas)


@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_by_position(run, connection, rows):
    """Stretches of positions cover every target once; a cell is the mean of its rows."""
    found = delta_by_position(connection, EDGES, "shuffle", rows=rows)
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


def test_a_curve_that_starts_late(connection):
    """Bins before the start of the condition's own curve are left out."""
    found = delta_by_document(connection, EDGES, "shuffle", curve_starts={"shuffle": 16})
    assert found["distance_from"].min() == 16
    assert (
        delta_by_position(connection, EDGES, "truncate", curve_starts={"shuffle": 16})[
            "distance_from"
        ].min()
        == 0
    )


def test_a_condition_that_was_not_scored(connection):
    """It has no cell, by document or by position."""
    assert delta_by_document(connection, EDGES, "reverse").empty
    assert delta_by_position(connection, EDGES, "reverse").empty


def test_no_stretch(connection):
    """At least one stretch of positions is needed."""
    with pytest.raises(UsageError, match="rows is 0"):
        delta_by_position(connection, EDGES, "truncate", rows=0)
