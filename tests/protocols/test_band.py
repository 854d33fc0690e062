"""Bands of distances, and targets that have a sequence of their own."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import band, grid

from probe.config import check
from probe.errors import UsageError
from probe.protocols.branches import TargetRun

LENGTH = 200
CONTENT = {
    "name": "bands",
    "model": {"path": "tiny"},
    "data": {"path": "stdlib"},
    "windows": {"length": LENGTH},
    "conditions": ["truncate"],
}


@given(
    edges=st.lists(st.integers(0, 140), min_size=2, max_size=8, unique=True).map(sorted),
    count=st.integers(1, 20),
    end_offset=st.integers(0, 30),
    alone=st.booleans(),
)
def test_a_band_covers_its_distances_and_nothing_else(edges, count, end_offset, alone):
    """For each sequence and band: far is the tokens d1 to d2 - 1 before its first target."""
    plan = band(LENGTH, edges, count=count, end_offset=end_offset, alone=alone)
    first = LENGTH - end_offset - count
    starts = (
        [(t, t + 1) for t in range(first, first + count)] if alone else [(first, first + count)]
    )
    expected = {
        (near, far): [TargetRun(begin - near, begin, stop, begin - far) for begin, stop in starts]
        for near, far in pairwise(edges)
    }
    runs = plan.runs(shared=False)
    assert sorted(runs) == sorted(run for found in expected.values() for run in found)
    for run in runs:
        for target in range(run.first, run.stop):
            perturbed = {target - 1 - at for at in range(run.start, run.boundary)}
            shift = target - run.first
            assert perturbed in [set(range(near + shift, far + shift)) for near, far in expected]
    assert plan.reach == 1 + max(run.stop - 1 - run.boundary for run in runs)


def test_targets_alone_have_a_boundary_each():
    plan = grid(LENGTH, [0, 5], count=3, end_offset=10, alone=True)
    first = LENGTH - 13
    assert plan.runs(True) == tuple(
        TargetRun(first + n - d, first + n, first + n + 1) for d in (5, 0) for n in range(3)
    )
    assert plan.reach == 6


@pytest.mark.parametrize("edges", [[], [5], [5, 5], [9, 5], [0, LENGTH]])
def test_edges_that_are_none(edges):
    with pytest.raises(UsageError, match="allowed: two or more rising distances from 0 to 150"):
        band(LENGTH, edges)


def test_a_negative_edge():
    with pytest.raises(UsageError, match=r"edges\.0: .* greater than or equal to 0; got -1"):
        check({**CONTENT, "protocol": {"kind": "band", "edges": [-1, 5]}})


def test_a_configuration_of_bands():
    """The keys are read, and what is missing or does not fit is said with its path."""
    config = check({**CONTENT, "protocol": {"kind": "band", "edges": [0, 16, 64]}})
    assert config.plan == band(LENGTH, [0, 16, 64])
    with pytest.raises(UsageError, match=r"protocol\.edges: is missing"):
        check({**CONTENT, "protocol": {"kind": "band"}})
