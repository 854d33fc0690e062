"""Sums by condition, bin and document, against a plain groupby over all rows."""

import numpy as np
import pytest
from simulated import Simulation, rows_of, write_run

from probe.analysis.bins import bin_edges, bin_index
from probe.analysis.sums import document_sums
from probe.results.folder import read_folder
from probe.results.views import connect

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "replace(source='document')": lambda d: np.where(d < 64, 0.5, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.6, 0.0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    # A name that a pattern language would read otherwise.
    path = tmp_path_factory.mktemp("runs") / "run[1]*=x"
    return write_run(path, Simulation(CURVES, boundaries=(100, 256), reach=256))


def test_sums_are_those_of_pandas(folder):
    """Aggregation in DuckDB against a plain groupby over all rows, grey rows apart."""
    run = read_folder(folder)
    edges = bin_edges(256)
    with connect(folder / "windows.parquet", run.parts) as connection:
        found = document_sums(connection, edges)
    rows = rows_of(folder).query("boundary >= 0")
    rows = rows.assign(
        delta=rows.nll - rows.nll_intact,
        far=rows.boundary - rows.start,
        bin=bin_index(rows.distance, edges),
    )
    rows["grey"] = rows.distance > rows.far
    keys = ["condition", "grey", "bin", "document"]
    expected = rows.groupby(keys, as_index=False).agg(
        targets=("delta", "size"),
        delta_sum=("delta", "sum"),
        windows=("window", "nunique"),
        helped=("delta", lambda values: int((values > 0).sum())),
        hurt=("delta", lambda values: int((values < 0).sum())),
        far_min=("far", "min"),
        far_max=("far", "max"),
    )
    assert rows["grey"].any()
    np.testing.assert_allclose(
        found[expected.columns].drop(columns=["condition", "document"]).to_numpy(float),
        expected.drop(columns=["condition", "document"]).to_numpy(float),
        atol=1e-9,
    )
    assert found["condition"].tolist() == expected["condition"].tolist()
