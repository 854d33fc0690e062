"""Protocol grid: which distances are measured, of which targets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import grid
from pydantic import ValidationError

from probe.errors import UsageError
from probe.protocols.branches import TargetRun
from probe.protocols.grid import GridPlan


@st.composite
def grids(draw: st.DrawFn) -> GridPlan:
    count, end_offset = draw(st.integers(1, 20)), draw(st.integers(0, 50))
    first = draw(st.integers(1, 500))
    distances = draw(st.lists(st.integers(0, first - 1), min_size=1, max_size=20))
    length = first + count + end_offset
    return grid(length, distances, count=count, end_offset=end_offset)


def distances(run: TargetRun) -> list[int]:
    """Distance of each target of a run, by the definition of distance."""
    return [target - run.boundary for target in range(run.first, run.stop)]


@given(grids())
def test_grid(plan: GridPlan) -> None:
    """Targets stand still; each distance is that of the first target, the longest first."""
    runs = plan.runs(shared=True)
    first, stop = plan.targets
    assert (stop - first, plan.length - stop) == (plan.fixed.count, plan.fixed.end_offset)
    assert all((run.first, run.stop) == (first, stop) for run in runs)
    assert [first - run.boundary for run in runs] == sorted(set(plan.distances), reverse=True)
    assert all(1 <= run.boundary <= first for run in runs)
    assert runs == plan.runs(shared=False)


@given(grids())
def test_grid_reach(plan: GridPlan) -> None:
    """Reach is one more than the longest distance of any target."""
    assert plan.reach == 1 + max(max(distances(run)) for run in plan.runs(shared=True))
    assert plan.curve_start(True) == plan.curve_start(False) == 0


@pytest.mark.parametrize(
    ("make", "value", "allowed"),
    [
        (lambda: grid(100, [0, 50]), "[0, 50]", "0 to 49"),
        (lambda: grid(100, []), "[]", "one or more from 0 to 49"),
        (lambda: grid(50, [0]), "10 targets", "windows of 50 tokens"),
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


def test_a_negative_distance() -> None:
    """It is refused before there is a window."""
    with pytest.raises(ValidationError, match=r"distances\.0\n.* greater than or equal to 0"):
        grid(100, [-1])
