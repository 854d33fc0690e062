"""Text of others has no character left that a terminal would obey."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.text import MOST, one_line, printable, shown

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_characters="'\""), max_size=300)
    | st.binary(max_size=300)
)
NESTED = st.recursive(
    PLAIN,
    lambda parts: st.lists(parts) | st.tuples(parts, parts) | st.dictionaries(st.text("ab"), parts),
)


@given(st.text(st.characters()))
def test_everything_can_be_printed(text: str) -> None:
    """Nothing is left that has no shape, all that has one stays, and again changes nothing."""
    shown = printable(text)
    assert shown.isprintable()
    assert [char for char in text if char.isprintable()] == [
        char for char in text if char in shown and char.isprintable()
    ]
    assert printable(shown) == shown
    assert (shown == text) == text.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("one\ntwo\r\t", r"one\ntwo\r\t"),
        ("\u202egpj.\u2066", r"\u202egpj.\u2066"),
        ("\ud800", r"\ud800"),
        ("漢字 é − 🎉", "漢字 é − 🎉"),
    ],
)
def test_what_is_escaped(text: str, shown: str) -> None:
    """Control characters, newlines, marks of direction and lone surrogates; no letters."""
    assert printable(text) == shown


def test_what_is_kept() -> None:
    """The newlines of a text of several lines stay, where they are asked for."""
    assert printable("a\nb\r", keep="\n") == "a\nb\\r"


@given(NESTED)
def test_a_value_is_its_repr_cut(value: object) -> None:
    """What is shown of a value is what Python writes, up to the limit."""
    whole = repr(value)
    assert shown(value) == (whole if len(whole) <= MOST else f"{whole[: MOST - 1]}…")


def test_a_value_is_cut_before_it_is_written() -> None:
    """Lists that name one list often, or hold themselves, and endless numbers are shown at once."""
    bomb: list[object] = ["x"]
    for _ in range(60):  # written out it had 9 ** 60 items
        bomb = [bomb] * 9
    inner: list[object] = []
    inner.append({"a": inner})
    for value in (bomb, inner, [bomb, inner]):
        assert len(shown(value)) == MOST
        assert shown(value).endswith("…")
    assert shown(16**9999) == "a whole number of 39,997 bits"  # repr raises


def test_one_line() -> None:
    """What a library says is one line, however long and on however many it was."""
    assert one_line(ValueError("a\n  b\tc")) == "a b c"
    assert one_line("x" * 301) == "x" * 299 + "…"
