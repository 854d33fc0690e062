"""Masks: each is its definition, whatever it is computed with, and costs what is counted."""

from typing import Any

import numpy as np
import pytest
import torch
from plain_attention import SEES, double_loop

from probe.attention.parse import parse
from probe.attention.terms.mask import Random, is_grid

LENGTH = 33


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("text", SEES)
def test_mask_is_its_definition(text: str, symmetric: bool) -> None:
    """A pattern allows what a double loop over its definition allows, in numpy and in torch."""
    expected = double_loop(SEES[text], LENGTH, symmetric=symmetric)
    part = parse(text).rule(0, 0)
    index = np.arange(LENGTH)
    found = part.allowed(index[:, None], index[None], symmetric=symmetric)
    assert np.array_equal(found, expected)
    there = torch.arange(LENGTH)
    found = part.allowed(there[:, None], there[None], symmetric=symmetric)
    assert torch.equal(found, torch.from_numpy(expected))


def drawn(term: Random, length: int, layer: int = 0, head: int = 0) -> np.ndarray:
    index = np.arange(length)
    return term.allowed(index[:, None], index[None], layer=layer, head=head)


def test_random_is_the_same_in_numpy_torch_and_one_by_one() -> None:
    """Random links depend on no library and on no other index."""
    term = Random(3, seed=5)
    expected = drawn(term, LENGTH, layer=2, head=1)
    one_by_one = [
        [bool(term.allowed(i, j, layer=2, head=1)) for j in range(LENGTH)] for i in range(LENGTH)
    ]
    assert np.array_equal(one_by_one, expected)
    there = torch.arange(LENGTH)
    heads = torch.tensor([0, 1])[:, None, None]
    found = term.allowed(there[:, None], there[None], layer=2, head=heads)
    assert torch.equal(found[1], torch.from_numpy(expected))
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("library", [np, torch])
def test_random_pieces_are_those_of_the_whole(library: Any) -> None:
    """Some queries, some keys, and keys with gaps see what they see in the whole text."""
    term = Random(5, seed=2, sinks=0)
    whole = drawn(term, 60, layer=1)
    for queries, keys in (
        (range(20, 60), range(60)),
        (range(7), range(3, 40)),
        (range(59, 60), range(60)),
        (range(10, 30), (0, 4, 5, 28)),
        ((3, 1, 2), range(5)),
    ):
        rows, columns = (np.asarray(some) for some in (queries, keys))
        query, key = library.asarray(rows)[:, None], library.asarray(columns)[None]
        found = np.asarray(term.allowed(query, key, layer=1))
        assert np.array_equal(found, whole[np.ix_(rows, columns)])


def test_random_draws_a_few_earlier_keys() -> None:
    """A query has its own key, the sinks and at most *links* others, mostly that many."""
    seen = drawn(Random(3, sinks=1), 400)
    assert not np.triu(seen, 1).any()
    assert seen[:, 0].all()
    assert np.diagonal(seen).all()
    counts = seen.sum(axis=1)
    assert counts.max() == 5
    assert counts[100:].mean() > 4.8
    assert np.array_equal(seen[:100, :100], drawn(Random(3, sinks=1), 100)), "the length matters"


def test_random_draws_all_keys_alike() -> None:
    """The drawn keys are spread evenly over what comes before; another seed draws others."""
    places = []
    for head in range(40):
        seen = drawn(Random(4, sinks=0), 300, head=head)
        np.fill_diagonal(seen, False)
        query, key = np.nonzero(seen)
        places += list(key[query > 100] / query[query > 100])
    shares = np.histogram(places, bins=10, range=(0, 1))[0] / len(places)
    assert np.abs(shares - 0.1).max() < 0.01
    kinds = [
        drawn(Random(3, seed=s), 50, layer=m, head=h).tobytes() for s, m, h in np.ndindex(3, 3, 3)
    ]
    assert len(set(kinds)) == 27


@pytest.mark.parametrize("symmetric", [False, True])
def test_random_is_symmetric_in_encoders(symmetric: bool) -> None:
    """Where later keys are seen, a link goes both ways."""
    index = np.arange(50)
    seen = Random(2, sinks=0).allowed(index[:, None], index[None], symmetric=symmetric)
    assert np.array_equal(seen, seen.T) is symmetric


@pytest.mark.parametrize("text", ["local(40)", "blocks(40)", "dilated(40, 0)", "strided(1)"])
def test_full_patterns_hide_nothing(text: str) -> None:
    """A window as long as the text is causal attention."""
    index = np.arange(LENGTH)
    found = parse(text).rule(0, 0).allowed(index[:, None], index[None])
    assert np.array_equal(found, np.tri(LENGTH, dtype=bool))


def test_grids_are_told() -> None:
    """A column and a row of consecutive numbers, and nothing else."""
    index = torch.arange(5)
    assert is_grid(index[:, None], index[None] + 3)
    assert not is_grid(index[:, None], index[None].flip(1))
    assert not is_grid(index[:, None], index[:, None])
    assert not is_grid(3, index[None])
