"""Other tokens in the same places."""

import re

import numpy as np
import pytest
import torch

from probe.perturbations.content import replace


@pytest.mark.parametrize(
    "source", [[5, 6, 7], (5, 6, 7), range(5, 8), np.array([5, 6, 7]), torch.tensor([5, 6, 7])]
)
def test_ids_are_drawn_uniformly_from_a_sequence(source):
    """Each id of the source takes a third of 9,000 places, within 5 SD, whatever holds them."""
    drawn = replace(np.zeros(9000, dtype=np.int64), rng=0, source=source)
    assert set(drawn.tolist()) == {5, 6, 7}
    assert np.abs(np.bincount(drawn)[5:] - 3000).max() < 5 * np.sqrt(9000 * (1 / 3) * (2 / 3))


def test_a_sampler_is_asked_for_as_many_tokens():
    """A function of a number and the generator is called once, with the length of far."""
    asked = []

    def sampler(n, rng):
        asked.append((n, type(rng)))
        return [n] * n

    assert replace([1, 2, 3], rng=0, source=sampler) == [3, 3, 3]
    assert asked == [(3, np.random.Generator)]


def test_a_name_without_sampler_says_how_to_bind_one():
    """The plain function knows no data: the error shows the call that binds a sampler."""
    said = re.escape("sources={'document': sampler}")
    with pytest.raises(ValueError, match=f"source 'document' is a name without .* {said}"):
        replace([1, 2], rng=0, source="document")


def test_a_source_without_ids_is_refused():
    """There must be something to draw from, and it must be ids."""
    with pytest.raises(ValueError, match="source must hold at least one token id"):
        replace([1, 2], rng=0, source=[])
    with pytest.raises(ValueError, match=r"source must hold integers; got 1\.5"):
        replace([1, 2], rng=0, source=[1.5])
    with pytest.raises(ValueError, match=r"source must be a list of int, .* got 3"):
        replace([1, 2], rng=0, source=3)


def test_a_sampler_that_gives_another_number_is_refused():
    """A far context never changes its length through a sampler."""
    with pytest.raises(ValueError, match="source must give 2 ids, as asked for; got 3"):
        replace([1, 2], rng=0, source=lambda n, rng: [7] * (n + 1))
