"""The tolerance curve: every length is the effective context at that tolerance."""

import math

import numpy as np
import pandas as pd
import pytest
from made_sums import floor_of, make_sums
from open_runs import by_id, of_curves, opened
from simulated import Simulation, write_run

from probe.analysis.bootstrap import resample_weights
from probe.analysis.effective import effective_context
from probe.analysis.fit import fit_curve
from probe.analysis.settings import Analysis
from probe.findings.by_tolerance import GRID, chart, shares_of, tolerance_curve
from probe.results.tolerance import parse_tolerance

WEIGHTS = resample_weights(20, 300, seed=0)


def fitted(curve, name="truncate", **options):
    return {name: fit_curve(name, make_sums(curve, **options), WEIGHTS, 0.95)}


def smooth(d):
    return 1 / (1 + d)


def test_the_grid_holds_the_tolerances_that_are_reported():
    """0.1 % to 100 % in steps of a twentieth of a decade, with 1, 2, 5 and 10 % exactly."""
    assert (GRID[0], GRID[-1], len(GRID)) == (0.001, 1.0, 61)
    assert {tolerance.amount for tolerance in Analysis().tolerances} <= set(GRID)
    np.testing.assert_allclose(GRID, 10 ** (np.arange(61) / 20 - 3), rtol=0.015)


@pytest.mark.parametrize("text", ["1%", "2%", "5%", "10%"])
def test_it_says_what_effective_context_says(text):
    """Kind, length and both limits at the tolerances of the report."""
    curves = fitted(smooth, spread=0.05)
    table = tolerance_curve(of_curves(curves, floor=floor_of(1e-6)))
    own = effective_context(curves["truncate"], parse_tolerance(text), floor=floor_of(1e-6))
    row = table[table.tolerance == parse_tolerance(text).amount].iloc[0]
    assert row.epsilon == own.epsilon
    assert row.kind == own.kind == "length"
    assert (row.length, row.low, row.high) == (own.estimate, own.lower, own.upper)


def test_lengths_are_where_the_fit_falls_below():
    """By a loop over the fit's bins at each of the 61 tolerances; never longer at a greater one."""
    curves = fitted(smooth, spread=0.05)
    table = tolerance_curve(of_curves(curves))
    fit, lower = curves["truncate"].fit, curves["truncate"].sums.lower
    for row in table.itertuples():
        expected = [d for value, d in zip(fit, lower, strict=True) if value < row.epsilon]
        if not expected or expected[0] >= 512 / math.sqrt(2):
            assert pd.isna(row.length)
            assert row.kind == "greater"
        else:
            assert row.length == expected[0]
    lengths = table["length"].fillna(512).to_numpy()
    assert (np.diff(lengths) <= 0).all()
    assert (np.diff(table["low"].fillna(512).to_numpy()) <= 0).all()


def test_beyond_reach_and_unresolved_are_missing():
    """A plateau: beyond reach below its height, 0 above; noise as high leaves nothing."""
    curves = fitted(lambda d: 0.05 + 0 * d)
    table = tolerance_curve(of_curves(curves)).set_index("tolerance")
    assert table.loc[[0.01, 0.2], "kind"].tolist() == ["greater", "zero"]
    assert table.loc[[0.01, 0.2], "length"].isna().tolist() == [True, False]
    table = tolerance_curve(of_curves(curves, floor=floor_of(1.0)))
    assert (table["kind"] == "unresolved").all()
    assert table[["length", "low", "high"]].isna().all(axis=None)
    assert str(table["length"].dtype) == "Int64"


def test_noise_has_no_curve_and_nothing_no_rows():
    """The control answers nothing; a run without curves has the columns."""
    assert tolerance_curve(of_curves(fitted(smooth, "noise(windows=4)"))).empty
    assert list(tolerance_curve(of_curves({}))["length"]) == []


def test_own_tolerances_join_the_grid():
    """In nats and in bits per byte they are a rise in perplexity too; a share of delta is none."""
    texts = ("3%", "0.5 nats", "0.1 bpb", "5% of delta0")
    how = Analysis(tolerances=tuple(map(parse_tolerance, texts)))
    curves = fitted(smooth, spread=0.05)
    run = of_curves(curves, analysis=how, bytes_per_token=4.0)
    added = sorted(set(shares_of(run)) - set(GRID))
    expected = sorted([0.03, math.exp(0.5) - 1, 2**0.4 - 1])
    assert added == pytest.approx(expected)
    table = tolerance_curve(run).set_index("tolerance")
    row = table.loc[min(table.index, key=lambda share: abs(share - (math.exp(0.5) - 1)))]
    own = effective_context(curves["truncate"], parse_tolerance("0.5 nats"), floor=None)
    assert (row.length, row.low, row.high) == (own.estimate, own.lower, own.upper)


@pytest.fixture(scope="module", name="run")
def open_folder(tmp_path_factory):
    curves = {"truncate": lambda d: 0.5 / (1 + d), "shuffle": lambda d: 0.05 + 0 * d}
    return opened(write_run(tmp_path_factory.mktemp("tolerance") / "run", Simulation(curves)))


def test_the_chart_draws_every_answer(run):
    """A line a condition; what lies beyond stands at the reach, crosses where unresolved."""
    rows = tolerance_curve(run)
    drawn = chart(run, rows)
    for line in (line for line in drawn.series if line.role == "series"):
        own = rows[rows["condition"] == line.name].sort_values("tolerance")
        known = (own["kind"] != "unresolved").to_numpy(dtype=bool)
        np.testing.assert_array_equal(np.isnan(line.y), ~known)
        lengths = own["length"].astype("Float64").fillna(run.reach).to_numpy(dtype=float)
        np.testing.assert_array_equal(line.y[known], lengths[known])
        np.testing.assert_array_equal(line.x, own["tolerance"])
    assert {line.role for line in drawn.series} <= {"series", "beyond", "unresolved"}
    assert ("beyond", "beyond reach") in drawn.legend
    assert [(rule.at, rule.label) for rule in drawn.rules] == [(run.reach, "reach")]
    assert drawn.x.percent


@pytest.mark.slow
def test_the_hinge_stands_beside(run):
    """The table has the hinge of each condition in words, with its slope."""
    (table,) = by_id(run)["tolerance"].tables
    assert [row[0] for row in table.rows] == ["truncate", "shuffle"]
    assert by_id(run)["tolerance"].sentence.startswith("Effective context under truncate: ")
