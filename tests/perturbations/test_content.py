"""Other tokens in the same places."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.perturbations.content import replace
from probe.perturbations.samplers import vocabulary


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
    with pytest.raises(ValueError, match=r"source must be a list of int, .* got 3\.5"):
        replace([1, 2], rng=0, source=3.5)


def test_a_sampler_that_gives_another_number_is_refused():
    """A far context never changes its length through a sampler."""
    with pytest.raises(ValueError, match="source must give 2 ids, as asked for; got 3"):
        replace([1, 2], rng=0, source=lambda n, rng: [7] * (n + 1))


def test_one_token_may_stand_everywhere():
    """A plain id is a source of its own; a negative one or True is none."""
    assert replace([1, 2, 3], rng=0, source=7) == [7, 7, 7]
    assert replace([1, 2, 3], rng=0, source=np.int64(7)) == [7, 7, 7]
    for wrong in (-1, True):
        with pytest.raises(ValueError, match=f"source must be an integer >= 0; got {wrong}"):
            replace([1, 2], rng=0, source=wrong)


@settings(deadline=None)
@given(n=st.integers(0, 100), rate=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_each_token_is_replaced_on_its_own(n, rate, seed):
    """Which ones is one stream of draws, what stands there then another."""
    which, others = map(np.random.default_rng, np.random.default_rng(seed).integers(2**63, size=2))
    drawn = vocabulary(range(500, 600))(n, others)
    plain = [int(drawn[i]) if which.random() < rate else i for i in range(n)]
    found = replace(list(range(n)), rng=seed, source=range(500, 600), rate=rate)
    assert found == plain


def test_the_rate_is_the_share_that_is_replaced():
    """Of 10,000 tokens a quarter, within 5 SD; at rate 1 it is the plain replacement."""
    far = np.zeros(10_000, dtype=np.int64)
    replaced = int(replace(far, rng=0, source=[1], rate=0.25).sum())
    assert abs(replaced - 2500) < 5 * np.sqrt(10_000 * 0.25 * 0.75)
    assert replace([1] * 9, rng=3, source=[5, 6], rate=1) == replace([1] * 9, rng=3, source=[5, 6])


@pytest.mark.parametrize("rate", [0, -0.1, 1.01, True, float("nan"), "0.5", None])
def test_a_rate_must_be_a_share(rate):
    """Nothing replaced is `intact`."""
    with pytest.raises(ValueError, match=f"rate must be .* above 0 and at most 1; got {rate!r}"):
        replace([1, 2, 3], rng=0, source=5, rate=rate)
