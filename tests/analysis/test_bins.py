"""Bins of distance against their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.analysis.bins import bin_edges, bin_index, octave_edges, octave_index
from probe.errors import UsageError


def naive_edges(reach):
    edges = list(range(8))
    start = 8
    while start < reach:
        edges += [start + step * start // 8 for step in range(8)]
        start *= 2
    return [edge for edge in edges if edge < reach] + [reach]


@given(st.integers(1, 5000))
def test_edges_are_single_integers_then_eight_an_octave(reach):
    """Below 8 every distance has a bin; from there an octave has eight equal ones."""
    assert bin_edges(reach).tolist() == naive_edges(reach)


@given(st.integers(9, 5000), st.integers(1, 20))
def test_every_power_of_two_is_an_edge(reach, bins_per_octave):
    """Whatever the number of bins, an octave starts a bin; edges rise; the last is the reach."""
    edges = bin_edges(reach, bins_per_octave)
    powers = {2**power for power in range(13) if 2**power < reach}
    assert powers <= set(edges.tolist())
    assert (np.diff(edges) > 0).all()
    assert edges[-1] == reach


@given(st.integers(1, 3000))
def test_a_distance_lies_in_its_bin(reach):
    """The index agrees with a search by hand."""
    edges = bin_edges(reach)
    index = bin_index(np.arange(reach), edges)
    assert (edges[index] <= np.arange(reach)).all()
    assert (np.arange(reach) < edges[index + 1]).all()


def test_octaves_start_with_one_group_to_seven():
    """0–7 is one group, then each power of two starts another."""
    assert octave_index([0, 7, 8, 15, 16, 1023, 1024]).tolist() == [0, 0, 1, 1, 2, 7, 8]
    assert octave_edges(1024).tolist() == [0, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert octave_edges(5).tolist() == [0, 5]
    assert octave_edges(20).tolist() == [0, 8, 16, 20]


def test_bad_requests_are_refused():
    """No bin without a reach, and no index outside the edges."""
    with pytest.raises(UsageError, match="reach is 0"):
        bin_edges(0)
    with pytest.raises(UsageError, match="bins_per_octave is 0"):
        bin_edges(10, 0)
    with pytest.raises(ValueError, match="leave the bins"):
        bin_index([10], bin_edges(10))
