"""Windows: consecutive tokens of one document, exact and apart."""

from typing import Any

import numpy as np
import pytest
from corpus_fixtures import byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.corpus.records import Record
from probe.corpus.tokenise import Reader, to_document
from probe.corpus.windows import Document, cut, token_counts, whole

CUTS = st.fixed_dictionaries(
    {
        "length": st.integers(1, 12),
        "per_document": st.none() | st.integers(1, 5),
        "skip": st.integers(0, 10),
        "seed": st.integers(0, 3),
    }
)
DOCUMENTS = st.builds(
    lambda text: to_document(Record("a", text=text), Reader(byte_tokenizer(), 257)),
    st.text(alphabet="ab é—😀\n", max_size=60),
)


def of_length(tokens: int, name: str = "a") -> Document:
    nothing = np.empty(0, dtype=np.int32)
    return Document(name, np.arange(tokens, dtype=np.int64), None, nothing, nothing)


@given(DOCUMENTS, CUTS)
@settings(deadline=None)  # the first example builds the tokenizer
def test_apart(document: Document, how: dict[str, Any]) -> None:
    """Windows keep their length, lie in order behind skip, and share no token."""
    windows = cut(document, **how)
    slots = max(0, len(document.ids) - how["skip"]) // how["length"]
    assert len(windows) == min(slots, how["per_document"] or slots)
    assert [window.index for window in windows] == list(range(len(windows)))
    end = how["skip"]
    for window in windows:
        assert window.start >= end
        end = window.start + how["length"]
    assert end <= max(how["skip"], len(document.ids))


@given(DOCUMENTS, CUTS)
@settings(deadline=None)  # the first example builds the tokenizer
def test_exact(document: Document, how: dict[str, Any]) -> None:
    """Ids are a slice of the document's; offsets point at the same characters as there."""
    for window in cut(document, **how):
        end = window.start + how["length"]
        assert (window.ids == document.ids[window.start : end]).all()
        assert document.text is not None
        assert window.text is not None
        assert window.char_start.dtype == window.char_end.dtype == np.int32
        assert window.char_start[0] == 0
        assert window.char_end[-1] == len(window.text)
        for token in range(how["length"]):
            here = slice(window.char_start[token], window.char_end[token])
            there = slice(
                document.char_start[window.start + token], document.char_end[window.start + token]
            )
            assert window.text[here] == document.text[there] != ""


@given(CUTS)
def test_draw_belongs_to_the_document(how: dict[str, Any]) -> None:
    """The same seed and id cut in the same place, whatever else is cut before."""
    alone = [window.start for window in cut(of_length(100), **how)]
    cut(of_length(70, "b"), **how)
    assert [window.start for window in cut(of_length(100), **how)] == alone


def test_seed_and_id_move_the_windows() -> None:
    """Another seed or document draws other slots and another offset."""
    starts = {
        tuple(
            window.start
            for window in cut(of_length(1_005, name), length=10, per_document=3, seed=seed)
        )
        for seed in range(5)
        for name in "abcde"
    }
    assert len(starts) == 25


def test_draw_is_pinned() -> None:
    """The draw is part of a run's identity: it must not change with a version."""
    windows = cut(of_length(103), length=10, per_document=3, skip=5, seed=0)
    assert [window.start for window in windows] == [6, 46, 56]


def test_without_text() -> None:
    """A document of token ids gives windows without text and without offsets."""
    (window,) = cut(of_length(4), length=4, per_document=1, seed=0)
    assert window.text is None
    assert window.char_start.shape == window.char_end.shape == (0,)


@pytest.mark.parametrize("wrong", [{"length": 0}, {"per_document": 0}, {"skip": -1}])
def test_no_such_window(wrong: dict[str, int]) -> None:
    """A length or number below 1, or a skip below 0, is refused."""
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        cut(of_length(4), **{"length": 1, "per_document": 1, "skip": 0, "seed": 0, **wrong})


def test_token_counts() -> None:
    """Tokens are counted over all documents, those that never occur too."""
    counts = token_counts([of_length(3), of_length(1, "b")], 5)
    assert counts.tolist() == [2, 1, 1, 0, 0]
    assert counts.dtype == np.int64
    assert token_counts([], 2).tolist() == [0, 0]
    with pytest.raises(ValueError, match="token id 3; allowed: 0 to 2"):
        token_counts([of_length(4)], 3)


@given(st.integers(1, 40), st.none() | st.integers(1, 50))
def test_whole(tokens: int, length: int | None) -> None:
    """A whole document is its first window, from its first token on, cut where that is asked."""
    window = whole(of_length(tokens), length=length)
    assert window.ids.tolist() == list(range(tokens))[:length]
    assert (window.document, window.index, window.start, window.text) == ("a", 0, 0, None)
