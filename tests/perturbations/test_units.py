"""Words, sentences, labels and common types of tokens, none of them re-tokenised."""

import sys
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest
from corpus_fixtures import byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_spacy import Pipeline, forget, install
from token_texts import spelled, written

from probe.classes.tokens import TokenCounts
from probe.errors import UsageError
from probe.perturbations.units import (
    MODEL,
    SyntheticText,
    TokenText,
    analysed,
    common_types,
    pipeline,
    pipeline_version,
    pre_tokens,
    word_labels,
)

TOKENS = ("Hel", "lo", " wor", "ld", ".", " It", " rains", "!", "\n\n", "We", " stay")
WORDS = [0, 0, 1, 1, 2, 3, 4, 5, 6, 6, 7]  # white space belongs to the word behind it
SENTENCES = [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


@pytest.fixture(autouse=True)
def _forget():
    forget()
    yield
    forget()


def from_zero(units):
    return (units - units[0]).tolist()


def test_words_and_sentences_of_tokens():
    """A token belongs to the unit that holds its last character."""
    text = written(TOKENS)
    assert text.units("token").tolist() == list(range(11))
    assert from_zero(text.units("word")) == WORDS
    assert from_zero(text.units("sentence")) == SENTENCES
    assert [text.count(unit) for unit in ("token", "word", "sentence")] == [11, 8, 3]


def test_a_part_keeps_the_units_of_the_whole():
    """A part that begins in the middle of a sentence does not begin a new one."""
    text = written(TOKENS)
    for first, stop in ((1, 11), (3, 6), (4, 4), (6, 9)):
        part = text[first:stop]
        assert len(part) == stop - first
        for unit in ("word", "sentence"):
            assert np.array_equal(part.units(unit), text.units(unit)[first:stop])
        assert part[1:].units("word").tolist() == text.units("word")[first + 1 : stop].tolist()
    assert text[0:4].count("sentence") == 1
    assert text[4:4].count("sentence") == 0


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 50), max_size=60))
def test_units_never_fall(ids):
    """Units are consecutive tokens, whatever the text."""
    text = spelled(ids)
    for unit in ("token", "word", "sentence"):
        units = text.units(unit)
        assert len(units) == len(ids)
        assert (np.diff(units) >= 0).all()


def test_another_unit_is_refused():
    """Also by the text that stands in for others."""
    for text in (written(TOKENS), SyntheticText(4)):
        with pytest.raises(
            ValueError, match="unit must be 'token' or 'word' or 'sentence'; got 'x'"
        ):
            text.units("x")


def test_tokens_of_a_tokenizer():
    """Its own pre-tokens are its words; without offsets there is no text."""
    tokenizer = byte_tokenizer()
    text = TokenText.of("It rains. We stay.", tokenizer)
    assert text.ids.tolist() == tokenizer("It rains. We stay.")["input_ids"]
    words = pre_tokens(tokenizer)
    assert words is None or text.count("word") == len(words("It rains. We stay."))
    assert text.count("sentence") == 2
    with pytest.raises(ValueError, match="object gives no offsets; allowed: a fast tokenizer"):
        TokenText.of("a", object())


def test_labels_are_found_once(monkeypatch):
    """The whole text is sent through the pipeline once, whichever part asks."""
    stub = install(monkeypatch)
    text = written(["Anna", " Sm", "ith", " saw", "\n\n", "the", " cats", "."])
    expected = ["PROPN", "PROPN", "PROPN", "VERB", None, "DET", "NOUN", "PUNCT"]
    assert text[2:6].labels("pos") == expected[2:6]
    assert text.labels("pos") == expected
    assert text.labels("entity")[:5] == ["PERSON"] * 3 + ["", None]
    assert stub.seen == [text.text]


def test_common_types_are_the_frequent_class():
    """The same tenth of the types as token class `frequency`, ties and all."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 6, size=200)
    ids = np.flatnonzero(counts)
    ranks = TokenCounts(ids, counts[ids]).rank(np.arange(200))
    assert np.array_equal(common_types(counts), ranks < np.ceil(0.1 * len(ids)))
    assert common_types([3, 0, 3, 1], top=0.34).tolist() == [True, False, True, False]
    assert not common_types([0, 0]).any()


def test_without_counts_the_text_counts_its_own():
    """In a notebook the most frequent tenth of the text's own types is common."""
    text = written(["a", "b", "a", "c"])
    assert text.common.tolist() == [True, False, True, False]
    assert text[1:].common.tolist() == [False, True, False]
    given_types = np.array([False, True, False])
    assert written(["a", "b", "a", "c"], common=given_types).common.tolist() == [
        False,
        True,
        False,
        False,
    ]


# ------------------------------------------------------------------------------ spaCy


def test_a_token_has_the_label_of_its_first_character(monkeypatch):
    """The first that is no space, by a plain search through spaCy's tokens."""
    install(monkeypatch)
    text = written([" An", "na", ",", " ", "\n", " old dog", "", "s. the"])
    found = word_labels("pos", text.text, text.char_start, text.char_end)
    document = analysed(MODEL, text.text)
    for first, end, tag in zip(text.char_start, text.char_end, found, strict=True):
        at = next((place for place in range(first, end) if not text.text[place].isspace()), None)
        holders = [t.pos_ for t in document if at is not None and t.idx <= at < t.idx + len(t)]
        assert tag == (holders[0] if holders else None)


def test_what_a_pipeline_does_not_tell(monkeypatch):
    """One that assigns no labels says so with what it has; an empty text needs none."""
    install(monkeypatch, Pipeline("TAG"))
    nothing = np.empty(0, dtype=np.int64)
    for kind, said in (
        ("pos", "assigns no parts of speech; its parts: tag"),
        ("entity", "looks for no entities; its parts: tag"),
    ):
        with pytest.raises(UsageError, match=said):
            word_labels(kind, "a", np.array([0]), np.array([1]))
        assert word_labels(kind, "", nothing, nothing) == []


def test_what_is_missing_is_told(monkeypatch):
    """Without spaCy the package to install, without the pipeline those there and how to get it."""
    install(monkeypatch)
    there = EntryPoints([EntryPoint("en_core_other", "en_core_other", "spacy_models")])
    monkeypatch.setattr(
        "probe.perturbations.units.entry_points", lambda group: there.select(group=group)
    )
    with pytest.raises(
        UsageError, match=r"'missing' .* \(model='en_core_other'; .* spacy download missing"
    ):
        pipeline("missing")
    monkeypatch.setitem(sys.modules, "spacy", None)
    forget()
    with pytest.raises(UsageError, match=r"need spaCy: pip install spacy \(extra nlp\)"):
        pipeline("en_core_web_sm")
    assert pipeline_version("missing") == ""
