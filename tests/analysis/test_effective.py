"""Effective context on curves whose truth is known, at the level of sums."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from made_sums import floor_of, make_sums

from probe.analysis.bins import bin_edges
from probe.analysis.bootstrap import resample_weights
from probe.analysis.effective import effective_context, lower_by_tests
from probe.analysis.fit import first_below, fit_curve
from probe.analysis.sums import Sums
from probe.results.tolerance import parse_tolerance

ONE = parse_tolerance("1%")
EPSILON = math.log(1.01)


def solve(sums, tolerance=ONE, *, floor=1e-6, resamples=300):
    weights = resample_weights(len(sums.sums), resamples, seed=0)
    curve = fit_curve("truncate", sums, weights, 0.95)
    noise = None if floor is None else floor_of(floor)
    return effective_context(curve, tolerance, floor=noise, bytes_per_token=4.0)


def test_a_step_is_found_at_its_edge():
    """High to 64, nothing from there: 64, and an interval of the bins on both sides."""
    answer = solve(make_sums(lambda d: np.where(d < 64, 0.2, 0.0)))
    assert (answer.kind, answer.value, answer.lower, answer.upper) == ("length", 64, 60, 72)
    assert answer.text() == "64 (60–72)"
    assert answer.flags == ()


@pytest.mark.parametrize("truth", [*range(1, 40), 65, 100, 143])
@pytest.mark.parametrize("height", [0.5, 1.9 * EPSILON])
def test_a_step_inside_a_bin_lies_in_the_interval(truth, height):
    """Where a bin holds several distances, the crossing is only known to its neighbours' edges."""
    edges = bin_edges(512)
    means = [np.mean(np.where(np.arange(a, b) < truth, height, 0)) for a, b in pairwise(edges)]
    answer = solve(make_sums(lambda d: np.array(means)))
    assert answer.lower <= truth <= answer.upper
    if truth < 16:  # bins of one distance
        assert (answer.value, answer.lower, answer.upper) == (truth, truth, truth)


def test_a_power_law_is_found_where_it_crosses():
    """1/d falls below 1 % at 101 tokens, that is from the edge 104 on."""
    answer = solve(make_sums(lambda d: 1 / (1 + d), spread=0.05))
    assert answer.lower <= 104 <= answer.upper
    assert answer.kind == "length"


def test_plateaus_just_above_and_below_the_tolerance():
    """0.8 ε from the start is zero; 1.2 ε to the end is more than the reach."""
    below = solve(make_sums(lambda d: 0.8 * EPSILON + 0 * d))
    assert (below.kind, below.text()) == ("zero", "0")
    above = solve(make_sums(lambda d: 1.2 * EPSILON + 0 * d, documents=40))
    assert above.kind == "greater"
    assert above.value == 512
    assert above.estimate is None
    assert above.upper is None


def test_never_below_is_greater_than_the_reach():
    """A bound with its lower limit is an answer."""
    answer = solve(make_sums(lambda d: 0.2 + 0 * d))
    assert (answer.kind, answer.value, answer.lower) == ("greater", 512, None)
    assert answer.text() == "> 512"
    assert answer.full_text() == "> 512"


def test_below_only_in_the_last_half_octave_is_beyond_reach():
    """A fall at 384 of 512 has too little behind it: more than the last edge that may answer."""
    answer = solve(make_sums(lambda d: np.where(d < 384, 0.2, 0.0)))
    assert (answer.kind, answer.value, answer.estimate) == ("greater", 352, None)
    assert answer.open_end == "estimate in the last half octave before 512, or beyond it"
    answer = solve(make_sums(lambda d: np.where(d < 352, 0.2, 0.0)))
    assert (answer.kind, answer.value) == ("length", 352)


def test_an_upper_limit_beyond_reach_leaves_the_lower_one():
    """Half of the documents fall early, half never: the estimate is kept, the value a bound."""
    early = make_sums(lambda d: np.where(d < 64, 0.2, 0.0), documents=10)
    late = make_sums(lambda d: np.where(d < 64, 0.2, 1.7 * EPSILON), documents=10)
    stacked = (np.vstack([early.sums, late.sums]), np.vstack([early.targets, late.targets]))
    answer = solve(Sums(early.lower, early.upper, *stacked))
    assert (answer.kind, answer.value, answer.estimate) == ("greater", 60, 64)
    assert answer.text() == "> 60"
    assert answer.full_text() == "> 60 (estimate 64, no upper bound within the measured range)"


def test_pure_noise_has_no_context():
    """An A/A comparison: zero, whatever the seed."""
    for seed in range(10):
        answer = solve(make_sums(lambda d: 0 * d, spread=0.02, seed=seed))
        assert answer.kind == "zero"


def test_few_documents_are_unresolved():
    """Below six documents there is no interval."""
    answer = solve(make_sums(lambda d: 1 / (1 + d), documents=3))
    assert answer.text() == "unresolved"
    assert answer.full_text() == "unresolved (3 documents, at least 6 needed)"
    assert answer.value is None
    assert solve(make_sums(lambda d: 1 / (1 + d), documents=1)).kind == "unresolved"


def test_a_high_noise_floor_is_unresolved_and_a_missing_one_flagged():
    """The floor may reach half of the tolerance."""
    sums = make_sums(lambda d: np.where(d < 64, 0.2, 0.0))
    assert solve(sums, floor=0.49 * EPSILON).kind == "length"
    assert "noise floor" in solve(sums, floor=0.5 * EPSILON).full_text()
    exempt = solve(sums, floor=None)
    assert (exempt.kind, exempt.flags) == ("length", ("no noise floor",))


def test_an_interval_as_wide_as_the_range_is_unresolved():
    """Where the documents could say anything, nothing is said."""
    answer = solve(make_sums(lambda d: EPSILON + 0 * d, documents=6, spread=3.0, targets=10))
    assert answer.kind == "unresolved"
    assert "as wide as the measured range, 0–512" in answer.full_text()


def test_a_curve_that_starts_late_says_at_most():
    """Below the tolerance at its first bin, 128: nothing is known before."""
    edges = bin_edges(512)
    answer = solve(make_sums(lambda d: 0 * d, edges=edges[edges >= 128]))
    assert (answer.kind, answer.value, answer.lower) == ("length", 128, 0)
    assert answer.text() == "≤ 128 (≤ 128–144)"
    assert answer.flags == ("at most",)


def test_a_limit_below_all_measured_is_no_0():
    """A curve that starts at 128 and crosses the tolerance soon: the interval goes below 128."""
    edges = bin_edges(512)
    late = edges[edges >= 128]
    curve = make_sums(lambda d: np.where(d < 160, 1.05, 0.1) * EPSILON, spread=0.4, edges=late)
    answer = solve(curve)
    assert (answer.kind, answer.lower, answer.start) == ("length", 0, 128)
    assert answer.text() == f"{answer.estimate} (≤ 128–{answer.upper})"
    assert answer.lengths == (answer.estimate, 128, answer.upper)


def test_sparse_bins_answer_with_the_first_measured_bin_below():
    """A grid has gaps between its distances."""
    lower = np.array([16, 18, 32, 36, 64, 128, 256, 512])
    upper = np.array([18, 20, 36, 40, 72, 144, 288, 522])
    counts = np.full((10, 8), 50.0)
    mean = np.where(lower < 100, 0.2, 0.0)
    answer = solve(Sums(lower, upper, counts * mean, counts))
    assert (answer.kind, answer.value, answer.reach) == ("length", 128, 522)


def test_a_later_rise_is_flagged():
    """Below the tolerance on the whole, yet one late bin is clearly above it."""
    answer = solve(
        make_sums(lambda d: np.where(d < 32, 0.2, np.where(abs(d - 270) < 9, 0.03, -0.01)))
    )
    assert "not monotone" in answer.flags


def test_a_share_of_delta_at_distance_zero_is_formed_in_each_resample():
    """A factor common to a document moves delta and tolerance alike: no spread but the bins'."""
    answer = solve(make_sums(lambda d: 1 / (1 + d)), parse_tolerance("5% of delta0"))
    assert (answer.value, answer.lower, answer.upper) == (20, 18, 22)
    negative = solve(make_sums(lambda d: -1 / (1 + d)), parse_tolerance("5% of delta0"))
    assert (negative.kind, negative.epsilon) == ("unresolved", None)


def test_first_below_against_a_loop():
    """The vectorised search does what the definition says."""
    lower = np.array([0, 1, 2, 4, 8, 16, 32])
    fits = -np.sort(-np.random.default_rng(0).normal(size=(200, 7)), axis=1)
    for fit, found in zip(fits, first_below(fits, 0.1, lower, 40), strict=True):
        below = [i for i in range(7) if (fit[i:] < 0.1).all()]
        expected = below[0] if below else 7
        if expected and expected < 7 and lower[expected] >= 40 / math.sqrt(2):
            expected = 7
        assert found == expected


def test_the_interval_covers_the_truth():
    """100 runs of 20 documents that differ: the true length is inside at least 90 times."""

    def mean(distance):
        return 0.6 / (1 + distance) ** 0.8

    edges = bin_edges(1024)
    lower, upper = edges[:-1], edges[1:]
    truth = int(lower[np.argmax(mean((lower + upper - 1) / 2) < EPSILON)])
    rng = np.random.default_rng(7)
    weights = resample_weights(20, 250, seed=1)
    counts = np.broadcast_to((upper - lower) * 4.0, (20, len(lower)))
    inside = 0
    for _ in range(100):
        factor = np.exp(rng.normal(scale=0.4, size=(20, 1)) - 0.08)
        shift = rng.normal(scale=0.01, size=(20, 1))
        error = 0.2 * rng.normal(size=counts.shape) / np.sqrt(counts)
        values = mean((lower + upper - 1) / 2) * factor + shift + error
        curve = fit_curve("truncate", Sums(lower, upper, values * counts, counts), weights, 0.95)
        answer = effective_context(curve, ONE, floor=floor_of(0.0, 1024))
        lowest = answer.reach if answer.lower is None else answer.lower
        highest = answer.reach if answer.upper is None else answer.upper
        inside += answer.kind == "unresolved" or lowest <= truth <= highest
    assert inside >= 90


def test_a_plateau_below_the_tolerance_does_not_push_the_lower_limit_up():
    """0.8 ε from 16 on: fits alone would put the lower limit behind 16 in a third of the runs."""
    rng = np.random.default_rng(3)
    weights = resample_weights(20, 200, seed=1)
    tried, beyond = 60, 0
    for _ in range(tried):
        sums = make_sums(lambda d: np.where(d < 16, 0.2, 0.8 * EPSILON), seed=rng, spread=0.4)
        sums = replace(sums, sums=sums.sums + 0.005 * rng.normal(size=(20, 1)) * sums.targets)
        answer = effective_context(
            fit_curve("truncate", sums, weights, 0.95), ONE, floor=floor_of(0.0)
        )
        beyond += answer.kind != "unresolved" and (answer.lower is None or answer.lower > 16)
    assert beyond <= 0.05 * tried


def test_tests_in_sequence_stop_at_the_first_bin_that_is_not_shown():
    """A step is shown to its end; without documents nothing is; noise is stopped at once."""
    step = make_sums(lambda d: np.where(d < 64, 0.2, 0.0))
    assert step.lower[lower_by_tests(step, EPSILON, 0.95)] == 64
    assert lower_by_tests(make_sums(lambda d: 0.2 + 0 * d), EPSILON, 0.95) == len(step.lower)
    assert lower_by_tests(make_sums(lambda d: 0.2 + 0 * d, documents=1), EPSILON, 0.95) == 0
    stopped = [
        lower_by_tests(make_sums(lambda d: 0 * d, spread=1.0, seed=seed), 0.0, 0.95) > 0
        for seed in range(200)
    ]
    assert np.mean(stopped) <= 0.05
