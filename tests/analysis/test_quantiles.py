"""Quantiles of delta are those of numpy over all rows of an octave."""

import numpy as np
import pytest
from simulated import Simulation, write_run
from test_analysis_runs import rows_of

from probe.analysis.quantiles import COLUMNS, LEVELS, NAMES, quantiles
from probe.results.folder import read_folder
from probe.results.views import connect


def found_in(folder, reach=256, starts=None):
    run = read_folder(folder)
    with connect(folder / "windows.parquet", run.parts) as connection:
        return quantiles(connection, reach, starts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    curves = {
        "truncate": lambda d: np.where(d < 64, 0.4, 0.0),
        "shuffle": lambda d: np.where(d < 64, 3.0, 1e-5),
    }
    simulation = Simulation(curves, boundaries=(100, 256), reach=256, token_spread=0.2)
    return write_run(tmp_path_factory.mktemp("quantiles") / "run", simulation)


def test_quantiles_are_those_of_numpy(folder):
    """Grey rows left out, to a thousandth of the value; targets counted."""
    table = found_in(folder)
    assert tuple(table.columns) == COLUMNS
    rows = rows_of(folder).query("boundary >= 0 and condition != 'noise'")
    rows = rows[rows.distance <= rows.boundary - rows.start]
    assert len(table) == 2 * 6
    for row in table.to_dict("records"):
        inside = rows.distance.between(row["distance_from"], row["distance_to"] - 1)
        part = rows[inside & (rows.condition == row["condition"])]
        delta = (part.nll - part.nll_intact).to_numpy()
        expected = np.quantile(delta, LEVELS, method="inverted_cdf")
        np.testing.assert_allclose([row[name] for name in NAMES], expected, rtol=2e-3, atol=2e-7)
        assert row["targets"] == len(delta)


def test_names_say_which_quantile():
    """As the columns of the results are called."""
    assert NAMES == ("q01", "q05", "q25", "q50", "q75", "q95", "q99")


def test_the_curve_start_and_noise(folder, tmp_path):
    """Octaves before a curve's start have no row, the control has none at all."""
    table = found_in(folder, starts={"shuffle": 64})
    assert table[table.condition == "shuffle"]["distance_from"].min() == 64
    assert table[table.condition == "truncate"]["distance_from"].min() == 0
    lone = found_in(write_run(tmp_path / "run", Simulation({})))
    assert lone.empty
    assert tuple(lone.columns) == COLUMNS
