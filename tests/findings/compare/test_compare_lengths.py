"""Differences of effective contexts: numbers, bounds, and what is said where neither can be."""

import numpy as np
import pandas as pd
import pytest
from compare_runs import change_record, compared, printed, step
from simulated import Simulation, write_run

from probe.analysis.bins import bin_edges
from probe.analysis.bootstrap import resample_weights
from probe.analysis.effective import EffectiveContext
from probe.analysis.fit import fit_curve
from probe.analysis.settings import Analysis
from probe.analysis.sums import Sums
from probe.findings.compare.differences import Unit
from probe.findings.compare.lengths import Lengths, context_row, read_length
from probe.results.tolerance import parse_tolerance
from probe.text import signed

HOW = Analysis(tolerances=(parse_tolerance("1%"),), resamples=100)
EDGES = bin_edges(256)
DELTA = pd.Series(
    {"distance_from": 128, "distance_to": 256, "difference": 0.01, "low": -0.02, "high": 0.04}
)


def read(curve, *, documents=10, spread=0.1, tolerance="1%", start=0, seed=0):
    """The length of a curve with noise between documents, drawn as all of this module's are."""
    rng = np.random.default_rng(seed)
    lower, upper = EDGES[:-1][EDGES[:-1] >= start], EDGES[1:][EDGES[:-1] >= start]
    targets = np.tile((upper - lower) * 4.0, (documents, 1))
    means = curve(lower) * (1 + spread * rng.normal(size=(documents, 1)))
    sums = Sums(lower, upper, (means + 1e-4 * rng.normal(size=targets.shape)) * targets, targets)
    fitted = fit_curve("truncate", sums, resample_weights(documents, 200, 0), 0.95)
    return read_length(fitted, parse_tolerance(tolerance), None, None)


def row(a, b, unit="tokens"):
    return context_row(a, b, Unit(unit, 1.0 if unit == "tokens" else 4.0), DELTA, 0.95)


def test_two_lengths_give_their_difference():
    """32 and 64 tokens: 32 more, an octave more, and an interval around both."""
    found = row(read(step(32)), read(step(64)))
    assert found["kind"] == "number"
    assert found["difference"] == 32
    assert found["low"] <= 32 <= found["high"]
    assert found["octaves"] == 1
    assert found["octaves_low"] <= 1 <= found["octaves_high"]
    assert str(found["text"]).startswith("+32 (")
    assert "; +1.00 (" in str(found["text"])


def test_the_interval_is_that_of_the_resamples_one_by_one():
    """Against a loop: each draw's two lengths, rounded outward, subtracted; plain quantiles."""
    a, b = (read(lambda d, at=at: 0.02 * at / (d + 1), seed=at, spread=0.3) for at in (16, 40))
    found = row(a, b)
    lows = sorted(b.low[draw] - a.high[draw] for draw in range(200))
    highs = sorted(b.high[draw] - a.low[draw] for draw in range(200))
    takes = [side.tested[1] - side.tested[0] for side in (a, b)]
    assert found["low"] == lows[int(0.025 * 199)] - max(takes[1] - takes[0], 0)
    assert found["high"] == highs[int(np.ceil(0.975 * 199))] + max(takes[0] - takes[1], 0)
    assert found["low"] < found["difference"] < found["high"]


def test_a_resample_is_rounded_outward_by_its_bin():
    """A crossing lies between the start of the last bin above and the end of the first below."""
    exact = read(step(5), spread=0.0)
    assert set(exact.low) == {5}
    assert set(exact.high) == {5}
    wide = read(step(64), spread=0.0)
    assert set(wide.low) == {60}
    assert set(wide.high) == {72}


@pytest.mark.parametrize(("a", "b", "sign"), [(64, 999, ">"), (999, 64, "<")])
def test_a_side_beyond_reach_gives_a_bound(a, b, sign):
    """The number behind the sign is the limit of the difference, the estimate stands beside."""
    found = row(read(step(a)), read(step(b)))
    bound = (256 - 64) * (1 if sign == ">" else -1)
    assert found["kind"] == "bound"
    assert found["difference"] == bound
    known, missing = ("low", "high") if sign == ">" else ("high", "low")
    assert found[missing] is None
    assert abs(found[known]) <= 192
    side, shown = ("above", f"+{bound}") if sign == ">" else ("below", f"−{-bound}")
    limit = f"{found[known]:+.0f}".replace("-", "−")
    assert found["text"] == f"{sign} {limit} (estimate {side} {shown})"


def test_both_beyond_reach_leave_the_delta_difference():
    """Two lengths that are not known have no difference."""
    found = row(read(step(999)), read(step(999)), "bytes")
    assert (found["kind"], found["difference"], found["low"]) == ("open", None, None)
    assert found["text"] == "both lie beyond the 256 bytes compared"
    late = row(read(step(200)), read(step(999)), "bytes")
    assert late["kind"] == "open"
    assert late["text"] == "both lie in the last half octave of the 256 bytes compared, or beyond"


def test_below_from_a_late_start_is_a_bound():
    """A curve that starts at 16 below the tolerance ends somewhere from 0 to 16."""
    at_most = read(step(0), start=16)
    assert at_most.estimate == (0, 16)
    found = row(at_most, read(step(64)))
    assert found["kind"] == "bound"
    low, high = (signed(found[name], 0) for name in ("low", "high"))
    assert found["text"] == f"+48 to +64 ({low} to {high})"


def test_unresolved_sides_are_named():
    """Fewer than six documents say nothing about a length."""
    few = read(step(32), documents=4)
    assert isinstance(few, EffectiveContext)
    assert row(few, read(step(32)))["text"].startswith("A unresolved")
    assert row(few, few)["kind"] == "unresolved"
    assert row(few, few)["text"].startswith("A and B unresolved")


def test_a_share_of_delta_at_distance_0_moves_with_the_draw():
    """The tolerance is formed in each resample: curves of one shape have one length."""
    found = [read(step(32, height), tolerance="5% of delta0", spread=0.4) for height in (0.1, 2)]
    assert all(isinstance(side, Lengths) for side in found)
    assert row(*found)["difference"] == 0
    assert row(*found)["octaves"] == 0


@pytest.mark.slow
def test_planted_lengths_are_compared_whole(tmp_path):
    """Two runs that read 32 and 64 tokens; of the other text four bytes a token."""
    folders = [
        write_run(
            tmp_path / f"{at}",
            Simulation({"truncate": step(at)}, windows=1, length=256, boundaries=(128,), reach=128),
        )
        for at in (32, 64)
    ]
    found = compared(*folders, analysis=HOW).contexts.set_index("unit")
    assert found["difference"].to_dict() == {"tokens": 32, "bytes": 128}
    assert (found["low"] <= found["difference"]).all()
    assert (found["high"] >= found["difference"]).all()
    assert found["b_text"].str.startswith(("64 (", "256 (")).all()
    assert found["difference"].dtype == "Int64"


@pytest.mark.slow
def test_one_document_gives_no_interval_and_no_answer(tmp_path):
    """One document: unresolved, limits missing, no warning and no false interval."""
    run = Simulation(
        {"truncate": step(32)}, documents=1, windows=1, length=256, boundaries=(128,), reach=128
    )
    folders = [change_record(write_run(tmp_path / name, run), status="running") for name in "ab"]
    found = compared(*folders, analysis=HOW)
    assert (found.contexts["kind"] == "unresolved").all()
    assert found.curve["low"].isna().all()
    told = printed(found)
    assert "nan" not in told
    assert "paired: the same 1 window of 1 document;" in told
    assert any("is running" in note for note in found.notes)
