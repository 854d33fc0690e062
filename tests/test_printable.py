"""Text of others has no character left that a terminal would obey."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.printable import printable


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
