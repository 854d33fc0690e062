"""What a predicate sees of a window, against plain loops."""

import numpy as np
from class_runs import counted, window_of
from hypothesis import given
from hypothesis import strategies as st

from probe.classes.tokens import LONGEST

IDS = st.lists(st.integers(0, 3), min_size=1, max_size=60)


def last_occurrence_by_loop(ids: list[int]) -> list[int]:
    found = []
    for t, token in enumerate(ids):
        back = [t - s for s in range(t) if ids[s] == token]
        found.append(min(back, default=-1))
    return found


def copies_by_loop(ids: list[int]) -> tuple[list[int], list[int]]:
    lengths, distances = [], []
    for t in range(len(ids)):
        length, distance = 0, -1
        for n in range(1, min(LONGEST, t) + 1):
            target = ids[t - n : t + 1]
            back = [t - s for s in range(n, t) if ids[s - n : s + 1] == target]
            if back:
                length, distance = n, min(back)
        lengths.append(length)
        distances.append(distance)
    return lengths, distances


@given(IDS)
def test_last_occurrence(ids: list[int]) -> None:
    """Tokens back to the same id in the window, −1 for none: looked up one by one."""
    assert window_of(ids).last_occurrence.tolist() == last_occurrence_by_loop(ids)


@given(IDS)
def test_copies(ids: list[int]) -> None:
    """The longest context of up to 8 tokens that stood before the same token, and where last."""
    length, distance = window_of(ids).copies
    assert (length.tolist(), distance.tolist()) == copies_by_loop(ids)


def test_copies_of_a_long_repetition() -> None:
    """A text that stands twice is a copy of it from the second token on, up to the longest."""
    text = list(range(20))
    length, distance = window_of([*text, *text]).copies
    assert length[:20].tolist() == [0] * 20
    assert length[20:].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, *[LONGEST] * 12]
    assert distance[21:].tolist() == [20] * 19


def test_copies_may_overlap_themselves() -> None:
    """A token that repeats continues its own repetition."""
    length, distance = window_of([5] * 12).copies
    assert length.tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    assert distance.tolist() == [-1, -1, *[1] * 10]


def test_large_ids_are_no_indices() -> None:
    """Ids up to the largest 32-bit number take no more room than small ones."""
    window = window_of([2**31 - 1, 5, 2**31 - 1, 5], counts=counted([5, 2**31 - 1]))
    assert window.last_occurrence.tolist() == [-1, -1, 2, 2]
    assert window.copies[0].tolist() == [0, 0, 0, 1]
    assert window.counts.rank(window.ids).tolist() == [1, 0, 1, 0]


@given(IDS, st.lists(st.integers(-1, 6), min_size=1, max_size=9))
def test_ranks(ids: list[int], asked: list[int]) -> None:
    """Types by falling count, then rising id; an id that never occurs comes behind all."""
    order = sorted(set(ids), key=lambda token: (-ids.count(token), token))
    expected = [order.index(token) if token in order else len(order) for token in asked]
    assert counted(ids).rank(np.array(asked)).tolist() == expected


def test_words() -> None:
    """A token belongs to the first word that it touches, apostrophes inside a word are of it."""
    window = window_of([" don", "'", "t", ",", " a.b", "\n", "_1"])
    texts = [None if a < 0 else str(window.text)[a:b] for a, b in window.words.tolist()]
    assert texts == ["don't", "don't", "don't", None, "a", None, "_1"]
    assert window.texts == [" don", "'", "t", ",", " a.b", "\n", "_1"]


def test_no_text_no_words() -> None:
    """Token ids alone have neither."""
    window = window_of([1, 2])
    assert window.texts == [None, None]
    assert window.words.tolist() == [[-1, -1]] * 2
    assert window_of(["..", " "]).words.tolist() == [[-1, -1]] * 2
