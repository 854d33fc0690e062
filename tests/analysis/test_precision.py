"""How many documents an interval needs: draws of m out of n, against simulated larger runs."""

import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
from made_sums import floor_of, make_sums
from open_runs import opened
from simulated import Simulation, write_run

from probe.analysis.bins import bin_edges
from probe.analysis.bootstrap import resample_weights
from probe.analysis.effective import effective_context
from probe.analysis.fit import fit_curve
from probe.analysis.open_run import open_run
from probe.analysis.precision import COLUMNS, documents_needed, half_width, pilot, with_documents
from probe.analysis.settings import Analysis
from probe.analysis.sums import Sums
from probe.errors import ProbeError, UsageError
from probe.results.tolerance import parse_tolerance

FIVE = parse_tolerance("5%")
WITHOUT_FLOOR = partial(effective_context, floor=None)
EPSILON = math.log(1.05)
RESAMPLES = 300


def population(documents, seed, *, spread=0.5, bins=8):
    """Documents whose curves are 2/(1+d) times a factor of their own: the 5 % length is near 40."""
    edges = bin_edges(512, bins)
    base = make_sums(lambda d: 2 / (1 + d), documents=documents, targets=1e4, edges=edges)
    factor = np.exp(
        spread * np.random.default_rng(seed).normal(size=(documents, 1)) - spread**2 / 2
    )
    expected = base.targets * 2 / (1 + (base.lower + base.upper - 1) / 2)
    return Sums(base.lower, base.upper, expected * factor, base.targets)


def fitted(sums):
    weights = resample_weights(len(sums.sums), RESAMPLES, seed=0)
    return fit_curve("truncate", sums, weights, 0.95)


def how(*tolerances, seed=0):
    return Analysis(
        tolerances=tuple(map(parse_tolerance, tolerances)), resamples=RESAMPLES, seed=seed
    )


def width(curve, tolerance=FIVE):
    return half_width(effective_context(curve, tolerance, floor=None))


def test_as_many_documents_as_there_are_change_nothing():
    """The same draws, fits and answer."""
    curve = fitted(population(12, seed=0))
    same = with_documents(curve, 12, RESAMPLES, seed=0)
    np.testing.assert_allclose(same.fits, curve.fits)
    np.testing.assert_allclose(same.sums.sums, curve.sums.sums)
    own, again = (effective_context(c, FIVE, floor=None) for c in (curve, same))
    assert own == again


def test_errors_shrink_with_the_root_of_the_documents():
    """Four times the documents, half the spread: of draws, of standard errors, of the interval."""
    curve = fitted(population(40, seed=1))
    more = with_documents(curve, 160, 4000, seed=0)
    ratio = more.resampled.draws.std(axis=0) / curve.resampled.draws.std(axis=0)
    stretched = (1.9747 / 1.96) / (2.0227 / 1.96)  # t-quantiles of 159 and 39 degrees of freedom
    assert ratio.mean() == pytest.approx(0.5 * stretched, rel=0.08)
    np.testing.assert_allclose(
        more.resampled.standard_error, curve.resampled.standard_error / 2, rtol=1e-9
    )
    residuals = curve.sums.sums - curve.resampled.mean * curve.sums.targets
    shrunk = more.sums.sums - curve.resampled.mean * curve.sums.targets
    np.testing.assert_allclose(shrunk, residuals / 2, atol=1e-6)
    fine = fitted(population(40, seed=1, bins=64))
    sizes = [with_documents(fine, size, 1000, seed=0) for size in (40, 160, 640)]
    widths = [width(one, parse_tolerance("2%")) for one in sizes]
    assert np.divide(widths[:-1], widths[1:]) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("octaves", [0.5, 0.3])
def test_runs_of_the_size_that_is_given_are_precise_enough(octaves):
    """Simulated runs of that many documents: their middle interval has the width that was asked."""
    table = documents_needed(
        {"truncate": fitted(population(30, 2))}, octaves, how("5%"), WITHOUT_FLOOR
    )
    needed = int(table["needed"].iloc[0])
    assert 6 <= needed < 200
    there = np.median([width(fitted(population(needed, [3, seed]))) for seed in range(25)])
    assert there == pytest.approx(octaves, rel=0.35)
    few = max(6, needed // 4)
    below = np.median([width(fitted(population(few, [4, seed]))) for seed in range(25)])
    assert below > 1.2 * octaves


def test_it_is_the_smallest_that_was_tried():
    """Half octaves through n: the size below fails, this one does not."""
    curve = fitted(population(16, seed=5))
    row = documents_needed({"truncate": curve}, 0.3, how("5%"), WITHOUT_FLOOR).iloc[0]
    assert row.documents == 16
    assert row.half_width == width(curve)
    sizes = [6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256]
    fine = [width(with_documents(curve, size, RESAMPLES, seed=0)) <= 0.3 for size in sizes]
    assert row.needed == sizes[fine.index(True)]
    assert row.text == str(row.needed)


def test_a_sharp_step_needs_the_fewest():
    """Where all documents agree, six are enough."""
    curve = fitted(make_sums(lambda d: np.where(d < 64, 0.2, 0.0)))
    row = documents_needed({"truncate": curve}, 0.5, how("5%"), WITHOUT_FLOOR).iloc[0]
    assert row.needed == 6


def test_what_no_number_of_documents_gives_is_said():
    """Beyond reach; within the bins' own width; in the noise; from too few documents."""
    tolerances = how("5%")
    beyond = {"truncate": fitted(make_sums(lambda d: 0.2 + 0 * d))}
    row = documents_needed(beyond, 0.5, tolerances, WITHOUT_FLOOR).iloc[0]
    assert row.text == "needs a longer reach than 512, not more documents"
    assert (math.isinf(row.half_width), pd.isna(row.needed)) == (True, True)
    smooth = {"truncate": fitted(population(10, seed=0))}
    assert documents_needed(smooth, 0.01, tolerances, WITHOUT_FLOOR)["text"].iloc[0] == "> 640"
    floor = partial(effective_context, floor=floor_of(1.0))
    noisy = documents_needed(smooth, 0.5, tolerances, floor).iloc[0]
    assert noisy.text.startswith("unresolved (noise floor 1 nats")
    assert math.isnan(noisy.half_width)
    few = {"truncate": fitted(population(5, seed=0))}
    text = documents_needed(few, 0.5, tolerances, WITHOUT_FLOOR)["text"].iloc[0]
    assert text == "unresolved (5 documents, at least 6 needed)"
    one = {"truncate": fitted(population(1, seed=0))}
    text = documents_needed(one, 0.5, tolerances, WITHOUT_FLOOR)["text"].iloc[0]
    assert text == "unresolved (1 document, at least 6 needed)"


def test_a_number_that_no_width_changes_is_explained():
    """Just below the last half octave the upper limit leaps from beyond reach to a narrow one."""
    curve = {"truncate": fitted(make_sums(lambda d: np.where(d < 352, 0.1, 0.042), spread=1.0))}
    wide, narrow = (
        documents_needed(curve, octaves, how("5%"), WITHOUT_FLOOR).iloc[0]
        for octaves in (0.5, 0.25)
    )
    assert wide.needed == narrow.needed
    assert narrow.text == (
        f"{narrow.needed} (fewer leave the upper limit beyond the reach of 512, whatever the width"
        " asked for; a longer reach needs fewer)"
    )


def test_every_condition_and_tolerance_has_a_row():
    """But the noise control; and the same seed gives the same table."""
    curves = {"noise": fitted(population(10, 0)), "truncate": fitted(population(10, 0))}
    first, again = (documents_needed(curves, 0.5, how("1%", "5%"), WITHOUT_FLOOR) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert tuple(first.columns) == COLUMNS
    assert first[["condition", "tolerance"]].to_numpy().tolist() == [
        ["truncate", "1%"],
        ["truncate", "5%"],
    ]


CURVES = {"truncate": lambda d: np.where(d < 32, 0.3, 0.0)}


@pytest.mark.slow
def test_a_run_folder_is_read(tmp_path):
    """Its own tolerances or those asked for; a run that is unfinished says so."""
    folder = write_run(tmp_path / "run", Simulation(CURVES))
    run = opened(folder)
    found = pilot(run, 0.5)
    assert (run.name, len(run.documents), run.warnings) == ("simulated", 8, ())
    assert found["tolerance"].tolist() == ["1%", "2%", "5%", "10%"]
    assert (found["needed"] == 6).all()
    asked = pilot(opened(folder), 0.5, [parse_tolerance("0.1 nats")])
    assert asked["tolerance"].tolist() == ["0.1 nats"]
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "unfinished"}))
    assert "is unfinished" in opened(folder).warnings[0]


@pytest.mark.slow
def test_mistakes_are_one_line(tmp_path):
    """No folder, no curve, no width."""
    with pytest.raises(ProbeError, match="no run folder at"):
        open_run(tmp_path / "nowhere")
    noise = write_run(tmp_path / "noise", Simulation({}))
    with pytest.raises(ProbeError, match="has no condition with a curve, only noise: nothing"):
        pilot(opened(noise), 0.5)
    intact = write_run(tmp_path / "intact", Simulation({}, noise_spread=None))
    with pytest.raises(ProbeError, match="only intact"):
        pilot(opened(intact), 0.5)
    run = write_run(tmp_path / "run", Simulation(CURVES, text=False))
    with pytest.raises(UsageError, match="octaves is 0: a number above 0"):
        pilot(opened(run), 0.0)
    with pytest.raises(UsageError, match="only token ids"):
        pilot(opened(run), 0.5, [parse_tolerance("0.02 bpb")])
