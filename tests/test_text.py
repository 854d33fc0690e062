"""Text of others made safe to show; numbers, differences and lengths in words."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.text import (
    MOST,
    WIDTH,
    counted,
    difference,
    greater,
    json_text,
    limits,
    one_line,
    open_end,
    printable,
    shown,
    signed,
    suggestion,
    unbroken,
    wrapped,
)

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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "+0.0123"), (-0.04, "−0.0400"), (-1e-9, "0.0000"), (0.0, "0.0000")],
)
def test_a_difference_has_a_sign_unless_it_is_0(value, text):
    """A minus sign, no hyphen, and never a negative 0."""
    assert signed(value) == text


def test_a_large_difference_has_separators():
    """As every number in sentences and tables."""
    assert signed(-12345, 0) == "−12,345"
    assert signed(0.0, 0) == "0"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.01, -0.02, 0.04), "+0.0100 (−0.0200 to +0.0400)"),
        ((0.01, -1e-6, 0.04), "+0.0100 (0.0000 to +0.0400)"),
        ((2.4e-7, -1e-6, 3e-6), "+2e−07 (−1e−06 to +3e−06)"),
        ((0.0, 0.0, 0.0), "0 (0 to 0)"),
        ((0.5, math.nan, math.nan), "+0.5000"),
        ((math.nan, math.nan, math.nan), "–"),
    ],
)
def test_an_interval_says_nothing_that_is_not_there(numbers, text):
    """Tiny numbers keep a digit, 0 is exact, a missing limit is left out."""
    assert difference(*numbers) == text


def test_one_is_no_plural():
    """``1 document``, ``1,024 tokens``."""
    assert (counted(1, "document"), counted(1024, "token")) == ("1 document", "1,024 tokens")


def test_a_limit_below_all_measured_says_so():
    """Of a curve that starts at 128, nothing below is known."""
    assert limits(0, 384, 128) == "≤ 128–384"
    assert limits(128, 1384, 128) == "128–1,384"
    assert limits(0, 384) == "0–384"


def test_the_number_behind_greater_is_the_lower_limit():
    """Without one, the length up to which it is known to lie beyond."""
    assert greater(640, 1024) == "> 640"
    assert greater(None, 1024) == "> 1,024"
    assert open_end(704, 1024) == "estimate 704, no upper bound within the measured range"
    assert open_end(None, 1024) == "estimate beyond 1,024"


@pytest.mark.parametrize(
    ("value", "then", "text"),
    [
        ("swep", "", "; did you mean 'sweep'?"),
        ("SWEEP", "", "; did you mean 'sweep'?"),
        ("swep", "allowed: any", "; did you mean 'sweep'? allowed: any"),
        ("xyz", "allowed: any", "; allowed: any"),
        ("xyz", "", ""),
        ("", "", ""),
        (3, "", ""),
        ("s" * 1_000_000, "", ""),
    ],
)
def test_a_suggestion(value: object, then: str, text: str) -> None:
    """The nearest name, whatever its case; nothing where none comes near."""
    assert suggestion(value, ["sweep", "Grid"], then) == text


@given(st.text(st.characters()))
def test_text_in_json_is_untouched(text: str) -> None:
    """What JSON escapes comes back as it was, also lone surrogates; printed it is ASCII alone."""
    assert json.loads(json_text({"a": text})) == {"a": text}
    printed = json_text([text], ascii_only=True)
    assert json.loads(printed) == [text]
    assert printed.replace("\n", "").isascii()
    assert printed.replace("\n", "").isprintable()


def test_numbers_in_json() -> None:
    """What is not finite is null, numpy's numbers are numbers, keys stay in their order."""
    value = {"b": np.float32(0.5), "a": (math.nan, -math.inf, np.int64(3), np.bool_(True), None)}
    assert (
        json_text(value)
        == json.dumps({"b": 0.5, "a": [None, None, 3, True, None]}, indent=2) + "\n"
    )


def test_a_number_keeps_its_sign_at_a_line_end() -> None:
    """``1 %`` and ``> 640`` are broken nowhere; on a terminal their blank stays one."""
    assert unbroken("at 1 % of 5 tokens; > 640") == "at 1\xa0% of 5 tokens; >\xa0640"
    line = "a " * 49 + "12 % of all and > 640 more"
    assert line.index("%") > WIDTH - 1
    first, second = wrapped(line, "").splitlines()
    assert (first, second) == (("a " * 49).rstrip(), "12 % of all and > 640 more")
