"""Tokens as bytes of text."""

import math

import numpy as np
import pytest
from compare_runs import ALPHABET, random_text, rows_of, step
from hypothesis import given
from hypothesis import strategies as st
from simulated import Simulation, write_run

from probe.analysis.open_run import open_run
from probe.findings.compare.token_bytes import bits_per_byte, byte_places

RUN = Simulation(
    {"truncate": step(32)}, documents=3, windows=1, length=128, boundaries=(64,), reach=64
)


@given(st.lists(st.text(ALPHABET, max_size=4), min_size=1, max_size=30))
def test_places_are_those_of_encoding_each_token(tokens):
    """Whatever the characters: where a token starts, and its bytes add up to the text's."""
    ends = np.cumsum([len(token) for token in tokens])
    starts = ends - [len(token) for token in tokens]
    text = "".join(tokens)
    first, size = byte_places(text, starts)
    assert first.tolist() == [len(text[:start].encode()) for start in starts]
    assert size.tolist() == [len(token.encode()) for token in tokens]
    assert size.sum() == len(text.encode())


def test_parts_of_a_character_and_gaps_count_once():
    """Three tokens of one emoji have its four bytes together; a skipped space counts back."""
    first, size = byte_places("🎉 ab", [0, 0, 0, 2])
    assert first.tolist() == [0, 0, 0, 5]
    assert size.tolist() == [0, 0, 5, 2]


def test_offsets_that_run_back_or_beyond_are_held():
    """Damaged offsets never give negative sizes."""
    first, size = byte_places("abcd", [0, 3, 1, 99])
    assert first.tolist() == [0, 3, 3, 4]
    assert size.tolist() == [3, 0, 1, 0]


def test_bits_per_byte_are_those_of_all_rows(tmp_path):
    """The run's intact loss over its targets' bytes, against a plain sum; `None` without text."""
    folder = random_text(write_run(tmp_path / "a", RUN))
    rows = rows_of(folder).query("condition == 'intact'")
    expected = rows.nll.sum() / math.log(2) / rows.bytes.sum()
    with open_run(folder, write=False) as run:
        assert bits_per_byte(run) == pytest.approx(expected, rel=1e-9)
        assert bits_per_byte(run) == pytest.approx(expected, rel=1e-9), "it leaves nothing behind"
    bare = write_run(tmp_path / "b", Simulation(RUN.curves, documents=2, text=False))
    with open_run(bare, write=False) as run:
        assert bits_per_byte(run) is None
