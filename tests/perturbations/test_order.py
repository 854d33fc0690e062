"""Tokens, words, sentences and spans put in another order, against the plain way."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_texts import spelled, written

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


@pytest.mark.slow
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


IDS = st.lists(st.integers(0, 40), max_size=120)


def units_of(text, unit):
    """The places of the tokens of each unit, unit by unit."""
    numbers = text.units(unit).tolist()
    return [list(some) for _, some in groupby(range(len(text)), key=numbers.__getitem__)]


def permuted(units, group_of, seed):
    """The units of each group in the order of one random key each, groups where they were."""
    keys = np.random.default_rng(seed).random(len(units))
    order = sorted(range(len(units)), key=lambda u: (group_of(units[u][0]), keys[u]))
    return [place for u in order for place in units[u]]


@settings(deadline=None)
@given(ids=IDS, cut=st.integers(0, 20), seed=SEEDS)
@pytest.mark.parametrize("unit", ["word", "sentence"])
def test_units_are_permuted_as_wholes(unit, ids, cut, seed):
    """One key a unit, the tokens inside it in their order, also behind a cut-off beginning."""
    text = spelled(ids)[cut:]
    places = list(range(len(text)))
    plain = permuted(units_of(text, unit), lambda _: 0, seed)
    assert shuffle(places, rng=seed, unit=unit, text=text) == plain


@settings(deadline=None)
@given(ids=IDS, cut=st.integers(0, 20), seed=SEEDS)
@pytest.mark.parametrize("within", ["word", "sentence"])
def test_tokens_stay_in_their_sentence_or_word(within, ids, cut, seed):
    """One key a token, sorted group by group."""
    text = spelled(ids)[cut:]
    keys = np.random.default_rng(seed).random(len(text))
    plain = [i for unit in units_of(text, within) for i in sorted(unit, key=keys.__getitem__)]
    assert shuffle(list(range(len(text))), rng=seed, within=within, text=text) == plain


@settings(deadline=None)
@given(ids=IDS, seed=SEEDS)
def test_words_stay_in_the_sentence_that_they_begin_in(ids, seed):
    """Words are permuted sentence by sentence."""
    text = spelled(ids)
    sentences = text.units("sentence").tolist()
    plain = permuted(units_of(text, "word"), sentences.__getitem__, seed)
    found = shuffle(list(range(len(ids))), rng=seed, unit="word", within="sentence", text=text)
    assert found == plain


@settings(deadline=None)
@given(ids=IDS, span=st.integers(2, 9), seed=SEEDS)
def test_spans_are_cut_from_each_sentence(ids, span, seed):
    """Within spans tokens are permuted, whole spans within their sentence; neither leaves it."""
    text = spelled(ids)
    places, sentences = list(range(len(ids))), text.units("sentence").tolist()
    spans = [
        sentence[at : at + span]
        for sentence in units_of(text, "sentence")
        for at in range(0, len(sentence), span)
    ]
    keys = np.random.default_rng(seed).random(len(ids))
    plain = [i for own in spans for i in sorted(own, key=keys.__getitem__)]
    assert shuffle(places, rng=seed, span=span, within="sentence", text=text) == plain
    plain = permuted(spans, sentences.__getitem__, seed)
    assert shuffle_spans(places, rng=seed, span=span, within="sentence", text=text) == plain


@settings(deadline=None)
@given(ids=IDS)
@pytest.mark.parametrize("unit", ["word", "sentence"])
def test_units_are_reversed_as_wholes(unit, ids):
    """The last unit comes first, its tokens in their order."""
    text = spelled(ids)
    plain = [i for own in reversed(units_of(text, unit)) for i in own]
    assert reverse(list(range(len(ids))), rng=0, unit=unit, text=text) == plain


def test_one_sentence_has_no_order():
    """Where far holds fewer than two sentences there is nothing to permute."""
    text = written([" It", " rains", " now", "."])
    assert text.count("sentence") == 1
    for seed in range(9):
        assert shuffle([1, 2, 3, 4], rng=seed, unit="sentence", text=text) == [1, 2, 3, 4]
    assert reverse([1, 2, 3, 4], rng=0, unit="sentence", text=text) == [1, 2, 3, 4]


def test_a_text_is_needed_and_is_that_of_far():
    """Without one, or with another's, the error says what was wanted."""
    with pytest.raises(ValueError, match=r"'word' is found in the text .* there is none; allowed"):
        shuffle([1, 2], rng=0, unit="word")
    with pytest.raises(ValueError, match="'sentence' is found in the text of the far context"):
        shuffle_spans([1, 2], rng=0, span=2, within="sentence")
    with pytest.raises(ValueError, match="text must be that of the 3 far tokens; got 2 tokens"):
        reverse([1, 2, 3], rng=0, unit="word", text=spelled([1, 2]))
