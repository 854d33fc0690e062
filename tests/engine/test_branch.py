"""The prefix tree: what is shared is forwarded once, and nothing else is shared."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from probe.engine.branch import Node, build, tokens

Keys = list[NDArray[np.int64]]
SHARED = st.integers(1, 5)


@st.composite
def branches(draw: st.DrawFn) -> Keys:
    """Some branches of one to three windows, over so few keys that prefixes are often shared."""
    windows = draw(st.integers(1, 3))
    column = st.tuples(*[st.integers(0, 1)] * windows)
    drawn = draw(st.lists(st.lists(column, min_size=1, max_size=12), min_size=1, max_size=8))
    return [np.array(columns, dtype=np.int64).T for columns in drawn]


def paths(nodes: Sequence[Node], above: tuple[Node, ...] = ()) -> Iterator[tuple[Node, ...]]:
    """The way from a root to each node."""
    for node in nodes:
        yield (*above, node)
        yield from paths(node.children, (*above, node))


def trie(keys: Keys) -> int:
    """Number of distinct prefixes: the plain way to count what sharing everything leaves."""
    return len({row[:, :stop].tobytes() for row in keys for stop in range(1, row.shape[1] + 1)})


@pytest.mark.slow
@given(branches(), SHARED)
def test_spells_the_branches(keys: Keys, shared_at_least: int) -> None:
    """The nodes that a branch runs through are one way down, and spell its keys."""
    roots = build(keys, shared_at_least)
    for number, row in enumerate(keys):
        (way,) = (
            path
            for path in paths(roots)
            if number in path[-1].through
            and not any(number in child.through for child in path[-1].children)
        )
        assert all(number in node.through for node in way)
        assert [node.start for node in way] == [0, *(node.stop for node in way[:-1])]
        spelt = [keys[node.branch][:, node.start : node.stop] for node in way]
        assert np.array_equal(np.concatenate(spelt, axis=1), row)


@pytest.mark.slow
@given(branches(), SHARED)
def test_through(keys: Keys, shared_at_least: int) -> None:
    """A node names every branch below it, in order, and its own tokens are the first one's."""
    for *_, node in paths(build(keys, shared_at_least)):
        assert node.through == sorted(set(node.through))
        assert node.branch in node.through
        assert len(node) > 0
        for child in node.children:
            assert set(child.through) <= set(node.through)


@pytest.mark.slow
@given(branches())
def test_shares_all_that_can_be(keys: Keys) -> None:
    """With no least length the tokens forwarded are the distinct prefixes of the branches."""
    assert tokens(build(keys, 1)) == trie(keys)


@pytest.mark.slow
@given(branches(), SHARED)
def test_shares_within_bounds(keys: Keys, shared_at_least: int) -> None:
    """A least length forwards at least the distinct prefixes, at most every branch whole."""
    forwarded = tokens(build(keys, shared_at_least))
    assert trie(keys) <= forwarded <= sum(row.shape[1] for row in keys)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_two_branches(common: int, rest: int, shared_at_least: int) -> None:
    """Two branches that part after *common* tokens share them if they are enough, else none."""
    shared = np.zeros((1, common), dtype=np.int64)
    keys = [np.concatenate([shared, np.full((1, rest), key)], axis=1) for key in (1, 2)]
    once = common if common >= shared_at_least else 0
    assert tokens(build(keys, shared_at_least)) == 2 * (common + rest) - once


@given(st.integers(2, 5), st.data())
def test_windows_agree(windows: int, data: st.DataObject) -> None:
    """One window that disagrees at an index ends the sharing there for all."""
    length = data.draw(st.integers(1, 20))
    first = np.zeros((windows, length), dtype=np.int64)
    second = first.copy()
    at = data.draw(st.integers(0, length - 1))
    second[data.draw(st.integers(0, windows - 1)), at] = 1
    assert tokens(build([first, second], 1)) == 2 * length - at


@pytest.mark.slow
@given(branches(), SHARED)
def test_equal_branches(keys: Keys, shared_at_least: int) -> None:
    """Branches that are given again cost nothing, and run where the first ones run."""
    before = tokens(build(keys, shared_at_least))
    again = build([*keys, *(row.copy() for row in keys)], shared_at_least)
    assert tokens(again) == before
    for *_, node in paths(again):
        twins = {number % len(keys) for number in node.through}
        assert set(node.through) >= {number + len(keys) for number in twins}
