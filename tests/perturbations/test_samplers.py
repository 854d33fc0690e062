"""Where replaced tokens come from, beside the plain way."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from corpus_fixtures import byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.corpus.windows import Document, cut
from probe.errors import UsageError
from probe.perturbations.samplers import (
    SOURCES,
    Sources,
    passages,
    stretch,
    token_of,
    unigram,
    vocabulary,
)

SEEDS = st.integers(0, 2**32)
TEXTS = [np.arange(100, 140), [7, 8, 9], np.arange(200, 210)]
SAMPLERS = {
    "vocabulary": vocabulary([4, 8, 15]),
    "unigram": unigram([0, 3, 1, 0, 2]),
    "stretch": stretch(TEXTS, room=30),
}
NOTHING = np.empty(0, dtype=np.int32)
OWN, OTHER = (
    Document(name, np.arange(first, first + 60), None, NOTHING, NOTHING)
    for name, first in (("own", 0), ("other", 100))
)
TOKENIZER = SimpleNamespace(pad_token_id=3, mask_token_id=250)


@pytest.mark.parametrize("name", SAMPLERS)
@settings(deadline=None)
@given(m=st.integers(0, 30), n=st.integers(0, 30), seed=SEEDS)
def test_more_tokens_begin_with_fewer(name, m, n, seed):
    """The first tokens are the same however many are asked for."""
    short, long = (
        SAMPLERS[name](size, np.random.default_rng(seed)).tolist() for size in sorted([m, n])
    )
    assert len(short) == min(m, n)
    assert long[: len(short)] == short


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_can_be_sent_to_another_process(name):
    """A pickled sampler draws the same tokens."""
    copy = pickle.loads(pickle.dumps(SAMPLERS[name]))
    draws = [draw(30, np.random.default_rng(3)).tolist() for draw in (copy, SAMPLERS[name])]
    assert draws[0] == draws[1]


@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 9), min_size=1).filter(any), seed=SEEDS)
def test_unigram_is_a_draw_from_the_written_out_counts(counts, seed):
    """Writing each id out as often as it was counted and drawing a place gives the same ids."""
    written = [i for i, count in enumerate(counts) for _ in range(count)]
    rng = np.random.default_rng(seed)
    plain = [written[int(rng.random() * len(written))] for _ in range(20)]
    assert unigram(counts)(20, np.random.default_rng(seed)).tolist() == plain


def test_an_id_that_was_never_counted_is_never_drawn():
    """Zeros before, between and after the others are skipped."""
    drawn = unigram([0, 5, 0, 1, 0])(5000, np.random.default_rng(0))
    assert set(drawn.tolist()) == {1, 3}


@settings(deadline=None)
@given(n=st.integers(1, 30), seed=SEEDS)
def test_a_stretch_is_consecutive_in_one_text(n, seed):
    """Each token is followed by the one after it in its text, the first one after the last."""
    drawn = SAMPLERS["stretch"](n, np.random.default_rng(seed)).tolist()
    (text,) = [list(text) for text in TEXTS if drawn[0] in list(text)]
    start = text.index(drawn[0])
    assert drawn == [text[(start + i) % len(text)] for i in range(n)]
    if len(text) >= 30:
        assert start + 30 <= len(text)  # the longest stretch would have fitted too


def test_every_start_of_a_stretch_occurs():
    """Of 12 tokens with room for 10, the starts are 0, 1 and 2; of a short text, all."""
    rng = np.random.default_rng(0)
    starts = {int(stretch([np.arange(12)], room=10)(1, rng)[0]) for _ in range(200)}
    assert starts == {0, 1, 2}
    starts = {int(stretch([np.arange(5)], room=10)(1, rng)[0]) for _ in range(200)}
    assert starts == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: vocabulary([]), "source must hold at least one token id"),
        (lambda: unigram([]), "counts must be finite, at least 0, and not all 0"),
        (lambda: unigram([0, 0]), "counts must be finite, at least 0, and not all 0"),
        (lambda: unigram([1, -1]), "counts must be finite"),
        (lambda: unigram([1, np.nan]), "counts must be finite"),
        (lambda: unigram([[1, 2]]), r"counts must have one dimension; got shape \(1, 2\)"),
        (lambda: stretch([], room=3), r"documents must be at least one, .* got sizes \[\]"),
        (lambda: stretch([[1], []], room=3), r"none of them empty; got sizes \[1, 0\]"),
        (lambda: stretch([[1]], room=0), "room must be an integer >= 1; got 0"),
        (lambda: stretch([[1]], room=3)(4, np.random.default_rng(0)), "at most room, 3; got 4"),
    ],
)
def test_nothing_to_draw_from_is_refused(make, said):
    """The error says what is wrong before a run has begun, where it can."""
    with pytest.raises(ValueError, match=said):
        make()


def copied_stretch(documents, own, *, room):
    """The plain way: a list of copies of all documents but one."""
    texts = [np.array(document) for place, document in enumerate(documents) if place not in own]

    def drawn(n, rng):
        text = texts[int(rng.integers(len(texts)))]
        starts = len(text) - room + 1 if len(text) >= room else len(text)
        first = rng.integers(starts)
        return np.take(text, np.arange(first, first + n), mode="wrap")

    return drawn


def copied_passages(texts, own):
    """The plain way: a list of copies of all passages but some."""
    others = [np.array(text) for place, text in enumerate(texts) if place not in own]
    return lambda n, rng: np.resize(others[int(rng.integers(len(others)))], n)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 50), min_size=2, max_size=40),
    own=st.integers(0, 39),
    count=st.integers(0, 3),
    n=st.integers(0, 30),
    seed=SEEDS,
    dtype=st.sampled_from([np.int32, np.int64]),
)
def test_leaving_documents_out_is_a_list_without_them(sizes, own, count, n, seed, dtype):
    """The same ids as from copies of all the others, of documents shorter than room as well."""
    first = min(own, len(sizes) - 1)
    without = range(first, min(first + count, len(sizes) - (first == 0)))
    documents = [np.arange(size, dtype=dtype) + 100 * place for place, size in enumerate(sizes)]
    for plain, ours in (
        (copied_stretch(documents, without, room=30), stretch(documents, room=30)),
        (copied_passages(documents, without), passages(documents)),
    ):
        drawn = ours(n, np.random.default_rng(seed), without=without)
        assert drawn.dtype == np.int64
        assert drawn.tolist() == plain(n, np.random.default_rng(seed)).tolist()


# ------------------------------------------------------------------------------ for a window


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
