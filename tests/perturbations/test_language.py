"""spaCy's tokens carried over to a model's tokens, with a stand-in for spaCy."""

import sys

import numpy as np
import pytest
from stub_spacy import Pipeline, forget, install
from token_texts import written

from probe.errors import UsageError
from probe.perturbations import language


@pytest.fixture(autouse=True)
def _forget():
    forget()
    yield
    forget()


def test_a_token_has_the_label_of_its_first_character(monkeypatch):
    """The first that is no space, by a plain search through spaCy's tokens."""
    install(monkeypatch)
    text = written([" An", "na", ",", " ", "\n", " old dog", "", "s. the"])
    found = language.word_labels("pos", text.text, text.char_start, text.char_end)
    document = language.analysed(language.MODEL, text.text)
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
            language.word_labels(kind, "a", np.array([0]), np.array([1]))
        assert language.word_labels(kind, "", nothing, nothing) == []


def test_what_is_missing_is_told(monkeypatch):
    """Without spaCy the extra to install, without the pipeline how to get it."""
    install(monkeypatch)
    with pytest.raises(UsageError, match=r"'missing' cannot be loaded; .* spacy download missing"):
        language.pipeline("missing")
    monkeypatch.setitem(sys.modules, "spacy", None)
    forget()
    with pytest.raises(UsageError, match=r"need spaCy: pip install 'context-probe\[nlp\]'"):
        language.pipeline("en_core_web_sm")
    assert language.pipeline_version("missing") == ""
