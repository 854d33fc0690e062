"""The built-in classes say of each token what their docstrings promise."""

from typing import Any

import numpy as np
import pytest
from class_runs import counted, window_of
from hypothesis import given
from hypothesis import strategies as st

from probe.classes import builtin
from probe.classes.tokens import WindowTokens
from probe.errors import UsageError


def labels(found: Any) -> list[Any]:
    return found.tolist() if isinstance(found, np.ndarray) else list(found)


def test_frequency() -> None:
    """The most frequent tenth of the types that the data set has, however often, and the rest."""
    data = [*[7] * 50, *range(20, 39)]  # 20 types: two are frequent, of equals the lower id
    window = window_of([7, 20, 21, 38, 99], counts=counted(data))
    assert labels(builtin.frequency(window)) == ["frequent", "frequent", "rare", "rare", "rare"]
    assert labels(builtin.frequency(window, top=0.01)) == ["frequent", *["rare"] * 4]
    assert labels(builtin.frequency(window, top=0.99))[:4] == ["frequent"] * 4


@pytest.mark.parametrize("top", [0, 1, -0.5, 10])
def test_frequency_refuses(top: float) -> None:
    """A share is between 0 and 1."""
    with pytest.raises(UsageError, match=r"frequency: top is .*; allowed"):
        builtin.frequency(window_of([1]), top=top)


def test_subword() -> None:
    """The token that holds the beginning of a word is the first; others go on with one."""
    window = window_of([" un", "believ", "able", ",", " is", "n", "'t", " it", "\n", "x", "y"])
    assert labels(builtin.subword(window)) == [
        *("first", "following", "following", None, "first", "following", "following", "first"),
        *(None, "first", "following"),
    ]


def test_subword_at_the_start_of_a_window() -> None:
    """Whether a word began before the window is known only at the document's start."""
    assert labels(builtin.subword(window_of(["ing", " on"], start=0))) == ["first", "first"]
    assert labels(builtin.subword(window_of(["ing", " on"], start=5))) == [None, "first"]
    assert labels(builtin.subword(window_of([" ing", "s"], start=5))) == ["first", "following"]


def test_subword_of_pieces_of_one_character() -> None:
    """Tokens that share a character, as bytes do: the first of them begins the word."""
    window = WindowTokens(
        document="a",
        window=0,
        start=0,
        ids=np.arange(4),
        char_start=np.array([0, 1, 1, 2]),
        char_end=np.array([1, 2, 2, 3]),
        text=" 語a",
        group=None,
        counts=counted(range(4)),
    )
    assert labels(builtin.subword(window)) == [None, "first", "following", "following"]


def test_kind() -> None:
    """By the signs of a token without the spaces around it."""
    kinds = {
        "word": [" the", "é", "語", "e\u0301", "ª"],
        "digits": [" 12", "٣", "½"],
        "punctuation": [".", " ,;", "_", "+", "🙂", "'"],
        "whitespace": [" ", "\n\n", "\t ", "\u00a0"],
        "mixed": ["'s", "3rd", "a.", "\u200b"],
    }
    for kind, texts in kinds.items():
        assert labels(builtin.kind(window_of(texts))) == [kind] * len(texts)


def test_last_occurrence_intervals() -> None:
    """Fixed intervals of the tokens back, and nowhere."""
    ids = [0, 0, 1, 2, 3, 4, 1, *range(10, 30), 0]
    found = labels(builtin.last_occurrence(window_of(ids), edges=(2, 4, 5)))
    assert found[:7] == ["nowhere", "1", *["nowhere"] * 4, "4"]
    assert found[-1] == "5 or more"
    assert labels(builtin.last_occurrence(window_of([9, 9])))[1] == "1–15"


def test_copy_intervals() -> None:
    """How long the context is that was continued in the same way before."""
    text = list(range(20))
    found = labels(builtin.copy(window_of([*text, *text])))
    expected = ["none", "none", "2–3", "2–3", *["4–7"] * 4, *["8 or more"] * 12]
    assert found[20:] == expected


@pytest.mark.parametrize("edges", [(), (4, 2), (2, 2), (0, 4), (2, 9), 3, "ab", (2.5,), (True,)])
def test_edges_are_judged(edges: Any) -> None:
    """Rising whole numbers within the limits, told in one line otherwise."""
    with pytest.raises(UsageError, match=r"copy: edges are .*; allowed: .* from 1 to 8"):
        builtin.copy(window_of([1, 1]), edges=edges)


def test_group_and_classes_without_text() -> None:
    """A group is that of the document; what needs text says nothing of token ids."""
    assert builtin.group(window_of([1, 2], group="fiction")) == ["fiction", "fiction"]
    assert builtin.group(window_of([1, 2])) == [None, None]
    assert labels(builtin.kind(window_of([1, 2]))) == [None, None]
    assert labels(builtin.subword(window_of([1, 2]))) == [None, None]


@given(st.lists(st.text(max_size=6), min_size=1, max_size=20))
def test_any_text(tokens: list[str]) -> None:
    """Whatever stands in a document, each token gets one label or none."""
    window = window_of(tokens)
    assert set(labels(builtin.subword(window))) <= {"first", "following", None}
    kinds = {"word", "digits", "punctuation", "whitespace", "mixed", None}
    assert set(labels(builtin.kind(window))) <= kinds
    assert [kind is None for kind in builtin.kind(window)] == [not token for token in tokens]
