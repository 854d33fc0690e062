"""Numbers and lengths in words."""

import math

import pytest

from probe.text import counted, difference, greater, limits, signed


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
    """Whatever the estimate is; without a lower limit, how far the estimate could be told."""
    assert greater(640, None, 1024) == "> 640 (estimate beyond 1,024)"
    assert greater(320, 704, 1024) == "> 320 (estimate 704; open above)"
    assert greater(None, None, 1024) == "> 1,024"
    assert greater(352, None, 352) == "> 352"
