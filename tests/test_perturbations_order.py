"""Shuffling and reversing, beside the plain way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.perturbations.order import reverse, shuffle, shuffle_spans

LENGTHS = st.integers(0, 200)
SEEDS = st.integers(0, 2**32)


def cut(ids, span):
    return [ids[start : start + span] for start in range(0, len(ids), span)]


@settings(deadline=None)
@given(n=LENGTHS, span=st.integers(2, 250), seed=SEEDS)
def test_spans_are_permuted_one_by_one(n, span, seed):
    """Sorting every token by a random key within its span, all at once or span by span."""
    keys = np.random.default_rng(seed).random(n)
    plain = [i for part in cut(list(range(n)), span) for i in sorted(part, key=keys.__getitem__)]
    assert shuffle(list(range(n)), rng=seed, span=span) == plain


@settings(deadline=None)
@given(n=LENGTHS, more=st.integers(0, 10**30), seed=SEEDS)
def test_one_span_over_all_is_the_whole_shuffle(n, more, seed):
    """A span as long as far, or longer, is no span at all."""
    ids = list(range(n))
    assert shuffle(ids, rng=seed, span=max(n, 2) + more) == shuffle(ids, rng=seed)
    assert shuffle_spans(ids, rng=seed, span=max(n, 1) + more) == ids


@settings(deadline=None)
@given(n=LENGTHS, span=st.integers(1, 250), seed=SEEDS)
def test_whole_spans_are_permuted(n, span, seed):
    """Spans ordered by one random key each, the order inside them kept."""
    parts = cut(list(range(n)), span)
    keys = np.random.default_rng(seed).random(len(parts))
    order = sorted(range(len(parts)), key=keys.__getitem__)
    plain = [i for part in order for i in parts[part]]
    assert shuffle_spans(list(range(n)), rng=seed, span=span) == plain


def test_every_order_is_as_likely():
    """Each of the 6 orders of 3 tokens takes a sixth of 6,000 draws, within 5 SD."""
    rng = np.random.default_rng(0)
    seen = [tuple(shuffle([0, 1, 2], rng=rng)) for _ in range(6000)]
    counts = [seen.count(order) for order in set(seen)]
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts) < 5 * np.sqrt(6000 * (1 / 6) * (5 / 6))


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 1000)))
def test_reverse_is_the_opposite_order(ids):
    """The last token comes first, and reversing twice changes nothing."""
    assert reverse(ids, rng=0) == ids[::-1]
    assert reverse(reverse(ids, rng=0), rng=0) == ids


@pytest.mark.parametrize("span", [1, 0, -3, True, 2.0, "20"])
def test_a_span_that_changes_no_order_is_refused(span):
    """Shuffling inside spans needs at least two tokens a span, and a whole number."""
    with pytest.raises(ValueError, match=f"span must be an integer >= 2; got {span!r}"):
        shuffle([1, 2, 3], rng=0, span=span)


@pytest.mark.parametrize("span", [0, -3, None, 2.0])
def test_a_span_of_no_token_is_refused(span):
    """Shuffling spans needs at least one token a span."""
    with pytest.raises(ValueError, match=f"span must be an integer >= 1; got {span!r}"):
        shuffle_spans([1, 2, 3], rng=0, span=span)
