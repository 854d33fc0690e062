"""Samplers bound for a window: other documents, older text, single tokens of the tokenizer."""

from types import SimpleNamespace

import numpy as np
import pytest
from corpus_fixtures import byte_tokenizer
from token_texts import spelled

from probe.corpus.windows import Document, cut
from probe.errors import UsageError
from probe.perturbations.condition import parse
from probe.perturbations.samplers import SOURCES
from probe.perturbations.sources import Sources, check_texts, token_of

NOTHING = np.empty(0, dtype=np.int32)
OWN, OTHER = (
    Document(name, np.arange(first, first + 60), None, NOTHING, NOTHING)
    for name, first in (("own", 0), ("other", 100))
)
TOKENIZER = SimpleNamespace(pad_token_id=3, mask_token_id=250)


def sources(*pool: Document, tokenizer: object = TOKENIZER, room: int = 10) -> Sources:
    return Sources(pool, ordinary=np.arange(5, 9), size=200, room=room, tokenizer=tokenizer)


def drawn(found: Sources, name: str, start: int = 20) -> list[int]:
    (window,) = cut(OWN, length=60 - start, per_document=1, skip=start, seed=0)
    return found.bind(frozenset({name}), window, OWN)[name](10, np.random.default_rng(0)).tolist()


def test_every_source_is_bound():
    """Each name gives what it says."""
    found = sources(OWN, OTHER, tokenizer=byte_tokenizer())
    assert set(drawn(found, "vocabulary")) <= {5, 6, 7, 8}
    assert set(drawn(found, "unigram")) <= {*range(60), *range(100, 160)}
    consecutive = drawn(found, "document")
    assert consecutive == list(range(consecutive[0], consecutive[0] + 10))
    assert consecutive[0] >= 100
    assert max(drawn(found, "self")) < 20
    (newline,) = set(drawn(found, "newline"))
    assert byte_tokenizer().decode([newline]) == "\n"
    assert set(drawn(sources(OWN), "pad")) == {3}
    assert {*SOURCES} == {
        "vocabulary",
        "unigram",
        "document",
        "self",
        "passage",
        "newline",
        "pad",
        "mask",
    }


def test_what_the_data_cannot_give_is_refused():
    """No second document, no older text."""
    with pytest.raises(UsageError, match=r"needs a second document .* gave only 'own'"):
        drawn(sources(OWN), "document")
    with pytest.raises(UsageError, match=r"needs 30 older tokens before a window; .* starts at 20"):
        drawn(sources(OWN, room=30), "self")


@pytest.mark.parametrize(
    ("name", "tokenizer", "said"),
    [
        (
            "pad",
            SimpleNamespace(pad_token_id=None),
            "the tokenizer has no such token; allowed: .* 199",
        ),
        ("mask", SimpleNamespace(), "source 'mask': the tokenizer has no such token"),
        ("mask", TOKENIZER, "the tokenizer gives it the id 250; allowed: a token id from 0 to 199"),
        ("newline", None, "source 'newline' is a token of the tokenizer, .* comes without one"),
    ],
)
def test_a_token_that_is_not_there_is_told(name, tokenizer, said):
    """Each with the id that may be written instead."""
    with pytest.raises(UsageError, match=said) as caught:
        drawn(sources(OWN, tokenizer=tokenizer), name)
    assert "replace(source=220)" in str(caught.value)


def test_a_tokenizer_that_swallows_line_breaks_has_none():
    """One that takes a line break for a space, or for nothing, has no token for it."""

    class Swallowing:
        def __init__(self, ids: list[int]) -> None:
            self.ids = ids

        def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": self.ids}

        def decode(self, ids: list[int]) -> str:
            return "\n" if ids == [13] else " "

    for ids in ([], [7]):
        with pytest.raises(UsageError, match="source 'newline': the tokenizer has no such token"):
            token_of("newline", Swallowing(ids), 200)
    assert token_of("newline", Swallowing([29, 13]), 200) == 13


@pytest.mark.parametrize("condition", ["shuffle(unit='sentence')", "[keep(what='rare'), shuffle]"])
def test_a_condition_that_reads_needs_text(condition):
    """Data that came as token ids has no words, and one text without is one too many."""
    texts = [spelled([0, 1, 2, 3, 4]), None]
    with pytest.raises(UsageError, match="reads words or sentences, and the data is token ids"):
        check_texts([parse(condition)], texts)
    check_texts([parse(condition)], texts[:1])
    check_texts([parse("shuffle"), parse("drop(rate=0.5)")], texts)


def test_sentences_are_needed_somewhere():
    """One window with two sentences is enough; without any the condition is refused."""
    one, two = spelled([0, 1, 2]), spelled([0, 1, 2, 3, 4, 5, 2])
    for text in ("shuffle(unit='sentence')", "shuffle_spans(span=3, within='sentence')"):
        check_texts([parse(text)], [one, two])
        with pytest.raises(UsageError, match="needs sentences, and no window of the data has two"):
            check_texts([parse(text)], [one, one])
    check_texts([parse("shuffle(unit='word')")], [one])
