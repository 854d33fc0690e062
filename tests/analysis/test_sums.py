"""Sums by condition, bin and document, against a plain groupby over all rows; which is largest."""

import numpy as np
import pandas as pd
import pytest
from simulated import Simulation, rows_of, write_run

from probe.analysis.bins import bin_edges, bin_index
from probe.analysis.sums import document_sums, strongest
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


@pytest.mark.slow
def test_sums_are_those_of_pandas(folder):
    """Aggregation in DuckDB against a plain groupby over all rows, grey rows apart."""
    run = read_folder(folder)
    edges = bin_edges(256)
    with connect(folder / "windows.parquet", run.parts) as connection:
        found = document_sums(connection, edges)
    found = found.assign(bin=bin_index(found["distance_from"], edges))
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
        helped=("delta", lambda values: int((values > 1e-5).sum())),
        hurt=("delta", lambda values: int((values < -1e-5).sum())),
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


def table(*rows: tuple[str, float, float, float]) -> pd.DataFrame:
    """Groups by name with delta and its limits."""
    frame = pd.DataFrame(rows, columns=["band", "delta", "low", "high"])
    return frame.assign(condition="truncate")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [("near", 0.2, 0.1, 0.3), ("far", 0.4, -0.1, 0.9)],
            "the largest delta is that of near (truncate: +0.2000 (+0.1000 to +0.3000) nats per"
            " token)",
        ),
        (
            [("near", 0.2, -0.1, 0.3), ("far", -0.4, -0.9, 0.1)],
            "no band has a delta significantly above 0; the largest is that of near"
            " (truncate: +0.2000 (-0.1000 to +0.3000) nats per token)",
        ),
        (
            [("near", 0.2, np.nan, np.nan)],
            "the largest delta is that of near (truncate: +0.2000 nats per token),"
            " with too few documents for an interval",
        ),
    ],
)
def test_only_what_an_interval_bears_out_matters_most(rows, said) -> None:
    """The largest delta wins among those above 0; an interval that holds 0 claims nothing."""
    told = strongest(table(*rows), lambda row: str(row["band"]), "band")
    assert told.replace("−", "-") == said
