"""Tolerances as text."""

import math

import pytest

from probe.errors import UsageError
from probe.results.tolerance import parse_tolerance


@pytest.mark.parametrize(
    ("text", "canonical", "nats"),
    [
        ("1%", "1%", math.log(1.01)),
        (" 10 % ", "10%", math.log(1.1)),
        ("0.01 nats", "0.01 nats", 0.01),
        (".5nats", "0.5 nats", 0.5),
        ("0.02 bpb", "0.02 bpb", 0.02 * math.log(2) * 4),
        ("5% of delta0", "5% of delta0", None),
    ],
)
def test_a_tolerance_is_read(text, canonical, nats):
    """Per cent is a rise in perplexity; bits per byte need the bytes of a token."""
    tolerance = parse_tolerance(text)
    assert tolerance.text == canonical
    assert tolerance.nats(bytes_per_token=4.0) == (nats and pytest.approx(nats))


@pytest.mark.parametrize("text", ["", "1", "-1%", "0%", "1 bits", "5% of delta1", "nan nats"])
def test_what_is_no_tolerance_is_refused(text):
    """The message says what was met and what is allowed."""
    with pytest.raises(UsageError, match=r"tolerance .* allowed: '1%'"):
        parse_tolerance(text)


def test_bits_per_byte_need_text():
    """Data of token ids has no bytes."""
    with pytest.raises(UsageError, match="only token ids"):
        parse_tolerance("0.02 bpb").nats()
