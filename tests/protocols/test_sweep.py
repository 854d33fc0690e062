"""Protocol sweep: which distances are measured, how often, and inside which bounds."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import sweep
from pydantic import ValidationError

from probe.errors import UsageError
from probe.protocols.branches import TargetRun
from probe.protocols.sweep import DEFAULT_RUNS, SweepPlan

SPREADS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])
DIVISORS = st.dictionaries(st.integers(2, 100), st.integers(1, 20), max_size=3)


@st.composite
def sweeps(draw: st.DrawFn) -> SweepPlan:
    length = draw(st.integers(2, 3000))
    insist = draw(st.booleans())
    reach = draw(st.integers(1, length - 1 if insist else length // 2))
    runs = {1: 1, **draw(DIVISORS)}
    return sweep(length, reach, runs=runs, spread=draw(SPREADS), insist=insist)


def distances(run: TargetRun) -> list[int]:
    """Distance of each target of a run, by the definition of distance."""
    return [target - run.boundary for target in range(run.first, run.stop)]


@given(sweeps())
def test_sweep_long_run(plan: SweepPlan) -> None:
    """The long run measures each distance below reach exactly once, over all that is behind it."""
    long, *_ = plan.runs(shared=True)
    assert distances(long) == list(range(plan.reach))
    assert long.stop == plan.length
    assert plan.runs(shared=False) == (long,)


@given(sweeps())
def test_sweep_boundaries(plan: SweepPlan) -> None:
    """No boundary is used twice, and each has length − reach tokens before it or more."""
    boundaries = [run.boundary for run in plan.runs(shared=True)]
    assert len(set(boundaries)) == len(boundaries)
    assert min(boundaries) == plan.length - plan.reach


@given(sweeps())
def test_sweep_targets(plan: SweepPlan) -> None:
    """Every run starts at distance 0 and lies within the targets of the intact pass."""
    first, stop = plan.targets
    assert 1 <= first < stop == plan.length
    for run in plan.runs(shared=True):
        assert run.boundary == run.first
        assert first <= run.first < run.stop <= stop
        assert run.stop - run.first in {plan.reach // divisor for divisor in plan.counts}


@given(sweeps())
def test_sweep_runs_are_what_was_asked_for(plan: SweepPlan) -> None:
    """No more runs than asked for of each length."""
    asked: Counter[int] = Counter()
    for divisor, count in plan.counts.items():
        asked[plan.reach // divisor] += count
    assert Counter(run.stop - run.first for run in plan.runs(shared=True)) <= asked


@pytest.mark.parametrize("length", [256, 1024, 2048, 4096])
def test_default_sweep(length: int) -> None:
    """By default: reach is half the window; one run of R, 4 of R/8 and 16 of R/64."""
    plan = sweep(length)
    assert plan.reach == length // 2
    expected = Counter({plan.reach // divisor: count for divisor, count in DEFAULT_RUNS.items()})
    assert Counter(run.stop - run.first for run in plan.runs(shared=True)) == expected
    assert (plan.curve_start(True), plan.curve_start(False)) == (0, plan.reach // 8)


def test_sweep_all_runs() -> None:
    """Conditions that share nothing have the short runs too where they are asked for."""
    plan = sweep(512, all_runs=True)
    assert plan.runs(shared=False) == plan.runs(shared=True)
    assert plan.curve_start(False) == 0


def test_sweep_single_run() -> None:
    """A sweep of the long run alone shows every distance of it."""
    plan = sweep(512, runs={1: 1})
    assert plan.runs(shared=True) == (TargetRun(256, 256, 512),)
    assert plan.curve_start(False) == 0


@pytest.mark.parametrize(
    ("make", "value", "allowed"),
    [
        (lambda: sweep(100, 51), "51", "1 to 50"),
        (lambda: sweep(1, None), "0", "1 to 0"),
        (lambda: sweep(100, 100, insist=True), "100", "1 to 99"),
    ],
)
def test_mistakes(make: object, value: str, allowed: str) -> None:
    """A protocol that does not fit is refused in one line with the value and what is allowed."""
    assert callable(make)
    with pytest.raises(UsageError) as caught:
        make()
    message = str(caught.value)
    assert message.startswith("protocol.")
    assert "\n" not in message
    assert value in message
    assert allowed in message


def test_insist() -> None:
    """A reach beyond half the window is offered where it is refused, and then allowed."""
    with pytest.raises(UsageError, match="insist"):
        sweep(100, 80)
    assert sweep(100, 80, insist=True).targets == (20, 100)


def test_no_reach() -> None:
    """A reach below 1 is refused before there is a window."""
    with pytest.raises(ValidationError, match=r"reach\n.* greater than 0"):
        sweep(100, 0)
