"""What a mean hides: shares of targets, the top 1 % of the sum, and quantiles of delta."""

import duckdb
import numpy as np
import pytest
from open_runs import by_id, changed, opened
from simulated import Simulation, rows_of, write_run

from probe.analysis import counter
from probe.analysis.bins import bin_index, octave_edges
from probe.findings.concentration import (
    LEVELS,
    MORE_THAN_ALL,
    NAMES,
    PLACES,
    quantiles,
    shares,
    top_sum,
)
from probe.render.terminal import table_text

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "replace(source='document')": lambda d: np.where(d < 64, 0.5, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.6, 0.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.025, 0.001, 0.0])
def test_tails_are_those_of_the_exact_quantile(tmp_path, monkeypatch, share):
    """However many deltas the guess keeps, the result is that of sorting them all."""
    monkeypatch.setattr(counter, "TAIL", share)
    simulation = Simulation(CURVES, boundaries=(100, 256), reach=256, token_spread=0.3)
    folder = write_run(tmp_path / "run", simulation)
    run = opened(folder)
    found = shares(run)
    rows = run.connection.execute("SELECT * FROM targets").df().astype({"document": str})
    octaves = octave_edges(256)
    rows = rows[~rows.grey].assign(octave=octaves[bin_index(rows[~rows.grey].distance, octaves)])
    expected = duckdb.sql(
        """WITH cuts AS (SELECT condition, octave, quantile_disc(delta, 0.99) AS cut FROM rows
            GROUP BY ALL)
        SELECT condition, octave, avg((delta > 1e-5)::INT) AS helped,
            avg((delta < -1e-5)::INT) AS hurt,
            CASE WHEN sum(delta) > 0 THEN sum(delta) FILTER (delta >= cut) / sum(delta) END AS top,
            count(*) AS targets
        FROM rows JOIN cuts USING (condition, octave) GROUP BY ALL ORDER BY condition, octave"""
    ).df()
    assert found["condition"].tolist() == expected["condition"].tolist()
    assert found["distance_from"].tolist() == expected["octave"].tolist()
    np.testing.assert_allclose(
        found[["helped", "hurt", "top_share", "targets"]].to_numpy(float),
        expected[["helped", "hurt", "top", "targets"]].to_numpy(float),
        rtol=1e-9,
    )


@pytest.mark.slow
def test_rounding_neither_helps_nor_hurts(tmp_path):
    """A delta of a hundred-thousandth of a nat or less is none, a larger one is."""
    curves = {"truncate": lambda d: 4e-6 + 0 * d, "shuffle": lambda d: -1e-3 + 0 * d}
    simulation = Simulation(curves, token_spread=0, window_spread=0, document_spread=0)
    found = shares(opened(write_run(tmp_path / "run", simulation))).set_index("condition")
    assert (found.loc["truncate", ["helped", "hurt"]] == 0).all(axis=None)
    assert (found.loc["shuffle", "hurt"] == 1).all()
    assert (found.loc["shuffle", "helped"] == 0).all()


def test_the_sum_of_the_top_needs_as_many_deltas_as_lie_above_the_quantile():
    """Of 200 deltas the quantile is the third largest; two alone do not know it."""
    deltas = np.random.default_rng(0).permutation(200).astype(float)
    assert top_sum(deltas, 200) == 199 + 198 + 197
    assert top_sum(deltas[deltas >= 197], 200) == 199 + 198 + 197
    assert top_sum(deltas[deltas >= 198], 200) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    curves = {
        "truncate": lambda d: np.where(d < 64, 0.4, 0.0),
        "shuffle": lambda d: np.where(d < 64, 3.0, 1e-5),
    }
    simulation = Simulation(curves, boundaries=(100, 256), reach=256, token_spread=0.2)
    return write_run(tmp_path_factory.mktemp("quantiles") / "run", simulation)


@pytest.mark.slow
def test_quantiles_are_those_of_numpy(folder):
    """Grey rows left out, to a thousandth of the value; targets counted."""
    table = quantiles(opened(folder))
    assert tuple(table.columns) == (*PLACES, *NAMES, "targets")
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


@pytest.mark.slow
def test_the_curve_start_and_noise(folder, tmp_path):
    """Octaves before a curve's start have no row, the control has none at all."""
    table = quantiles(changed(opened(folder), starts={"shuffle": 64}))
    assert table[table.condition == "shuffle"]["distance_from"].min() == 64
    assert table[table.condition == "truncate"]["distance_from"].min() == 0
    lone = quantiles(opened(write_run(tmp_path / "run", Simulation({}))))
    assert lone.empty
    assert tuple(lone.columns) == (*PLACES, *NAMES, "targets")


@pytest.mark.slow
def test_tables_leave_out_noise(folder):
    """Shares of targets helped and hurt by condition and octave; of noise they say nothing."""
    run = opened(folder)
    (table,) = by_id(run)["shares"].tables
    assert table.shown == "both"
    text = table_text(table)
    assert "noise" not in text
    rows = shares(run)
    row = rows[rows["condition"] == "truncate"].iloc[0]
    assert any(
        line.startswith("truncate") and f"{100 * row.helped:.0f} %" in line
        for line in text.splitlines()
    )
    assert "noise" in set(rows["condition"])  # the file has it


@pytest.mark.slow
def test_more_than_all_is_explained(tmp_path):
    """Where the rest adds up to less than 0, the top has more than 100 % of the sum."""
    curves = {"truncate": lambda d: 0.002 + 0 * d}
    folder = write_run(tmp_path / "run", Simulation(curves, token_spread=0.5, documents=6))
    run = opened(folder)
    assert (shares(run).query("condition == 'truncate'")["top_share"] > 1).any()
    assert MORE_THAN_ALL in by_id(run)["shares"].caveats


@pytest.mark.slow
def test_the_fan_holds_the_quantiles(folder):
    """Three shares of targets over one another, from quantile to quantile, and the median."""
    run = opened(folder)
    (chart,) = by_id(run)["quantiles"].charts
    rows = quantiles(run).query("condition == 'truncate'")
    *fan, median = chart.series
    assert [line.role for line in fan] == ["fan0", "fan1", "fan2"]
    for line, (low, high) in zip(
        fan, (("q01", "q99"), ("q05", "q95"), ("q25", "q75")), strict=True
    ):
        np.testing.assert_array_equal(line.low, rows[low])
        np.testing.assert_array_equal(line.high, rows[high])
    np.testing.assert_array_equal(median.y, rows["q50"])
