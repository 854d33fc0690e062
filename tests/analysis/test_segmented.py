"""The hinge: two straight pieces over the octaves, found on grids of places."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_sums import make_sums

from probe.analysis.bootstrap import resample_weights
from probe.analysis.fit import fit_curve
from probe.analysis.segmented import COLUMNS, fit_hinges, hinges
from probe.analysis.sums import Sums
from probe.text import counted


def planted(hinge, slope=0.1, intercept=0.02):
    return lambda d: intercept + slope * np.maximum(0, np.log2((hinge + 1) / (d + 1)))


def solve(sums, resamples=300, name="truncate"):
    weights = resample_weights(len(sums.sums), resamples, seed=0)
    return hinges({name: fit_curve(name, sums, weights, 0.95)})


def test_a_planted_hinge_comes_back():
    """Place, slope and intercept, inside a narrow interval."""
    row = solve(make_sums(planted(100), spread=0.1)).iloc[0]
    assert (row.kind, row.text) == ("length", f"{row.hinge} ({row.low}–{row.high})")
    assert row.low <= 100 <= row.high
    assert row.high < 1.3 * row.low
    assert row.slope == pytest.approx(0.1, rel=0.1)
    assert row.intercept == pytest.approx(0.02, rel=0.2)
    assert row.residual < 0.005


def test_the_fit_is_the_best_of_all_places():
    """Every place by itself with numpy's weighted line: the least squares of them."""
    rng = np.random.default_rng(0)
    octaves = np.log2(np.arange(1, 40.0))
    places = np.arange(octaves[1], octaves[-1], 0.25)
    values = rng.normal(size=(30, 39)) + 3 * np.maximum(0, 3 - octaves)
    weights = rng.uniform(0.2, 2, size=values.shape)
    values[3, 5], values[7, :4] = np.nan, np.nan
    found = fit_hinges(values, weights, octaves, places)
    for number, (value, weight) in enumerate(zip(values, weights, strict=True)):
        known = np.isfinite(value)
        best = (np.inf, 0.0, 0.0, 0.0)
        for place in places:
            rise = np.maximum(0, place - octaves)[known]
            if np.ptp(rise) == 0:
                continue
            slope, level = np.polyfit(rise, value[known], 1, w=np.sqrt(weight[known]))
            error = (weight[known] * (value[known] - level - slope * rise) ** 2).sum()
            if slope >= 0:
                best = min(best, (error, place, slope, level))
        got = (found.place[number], found.slope[number], found.intercept[number])
        assert got == pytest.approx(best[1:])


def test_a_fall_to_the_end_is_beyond_reach():
    """No hinge inside: more than the reach; in the last half octave, more than its beginning."""
    row = solve(make_sums(planted(5000))).iloc[0]
    assert (row.kind, row.text) == ("greater", "> 512")
    assert pd.isna(row.hinge)
    assert row.slope == pytest.approx(0.1, rel=0.1)
    assert solve(make_sums(planted(400))).iloc[0].text == "> 362"


def test_an_upper_limit_beyond_reach_is_a_bound():
    """A third of the documents bend early, the others never: the lower limit is told."""
    early = make_sums(planted(100), documents=10, spread=0.3)
    late = make_sums(planted(1000, intercept=0.0), documents=10, spread=0.3, seed=1)
    stacked = (np.vstack([early.sums, late.sums]), np.vstack([early.targets, late.targets]))
    row = solve(Sums(early.lower, early.upper, *stacked)).iloc[0]
    assert row.kind == "greater"
    assert row.low >= 100
    assert pd.isna(row.high)
    assert row.text.startswith("> ")


def test_a_flat_curve_has_no_hinge():
    """Noise around a plateau does not fall with distance."""
    for seed in range(5):
        row = solve(make_sums(lambda d: 0.1 + 0 * d, spread=0.3, seed=seed)).iloc[0]
        assert row.text == "unresolved (delta does not fall with distance)"
        assert pd.isna(row.hinge)


@pytest.mark.parametrize("documents", [1, 5])
def test_few_documents_are_unresolved(documents):
    """No false interval."""
    row = solve(make_sums(planted(100), documents=documents)).iloc[0]
    assert row.text == f"unresolved ({counted(documents, 'document')}, at least 6 needed)"
    assert pd.isna(row.low)


def test_few_bins_are_unresolved():
    """Three bins are met by any hinge."""
    row = solve(make_sums(planted(100), edges=np.array([0, 16, 64, 128]))).iloc[0]
    assert row.text == "unresolved (3 bins, at least 4 needed)"


def test_a_curve_that_bends_smoothly_is_called_a_poor_fit():
    """A power law has no hinge; what is given says how far off it is."""
    row = solve(make_sums(lambda d: 2 / (1 + d), spread=0.05)).iloc[0]
    assert "; poor fit, bins lie " in row.text
    assert "poor fit" not in solve(make_sums(planted(100), spread=0.1)).iloc[0].text


@pytest.mark.slow
def test_the_interval_covers_the_planted_hinge():
    """80 runs of 12 documents that differ: at least 72 hold it."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(80):
        sums = make_sums(planted(90), documents=12, spread=0.6, seed=rng)
        shift = 0.01 * rng.normal(size=(12, 1)) * sums.targets
        row = solve(replace(sums, sums=sums.sums + shift), 200).iloc[0]
        above = pd.isna(row.high) or row.high >= 90
        inside += row.kind == "unresolved" or (row.low <= 90 and above)
    assert inside >= 72


def test_noise_is_left_out():
    """The control has no hinge, and no curve no row."""
    assert solve(make_sums(planted(100)), name="noise").empty
    assert tuple(hinges({}).columns) == COLUMNS
