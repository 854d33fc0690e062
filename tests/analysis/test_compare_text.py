"""Tokens as bytes of text."""

import math

import duckdb
import numpy as np
import pytest
from compare_runs import ALPHABET, random_text, retokenise, rows_of, step
from hypothesis import given
from hypothesis import strategies as st
from simulated import Simulation, write_run

from probe.analysis.compare.text import bits_per_byte, byte_places, same_tokenizer
from probe.results.folder import read_folder

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
    assert bits_per_byte(read_folder(folder)) == pytest.approx(expected, rel=1e-9)
    bare = write_run(tmp_path / "b", Simulation(RUN.curves, documents=2, text=False))
    assert bits_per_byte(read_folder(bare)) is None


def test_tokenizers_are_told_apart_by_what_ids_stand_for(tmp_path):
    """Equal ids for equal characters: the same. For others: not. Without text nothing is known."""
    folders = {
        "a": write_run(tmp_path / "a", RUN),
        "same": write_run(tmp_path / "same", RUN),
        "other": retokenise(write_run(tmp_path / "other", RUN), 6),
        "bare": write_run(tmp_path / "bare", Simulation(RUN.curves, text=False)),
    }
    with duckdb.connect() as connection:
        for name, folder in folders.items():
            connection.read_parquet(str(folder / "windows.parquet")).create_view(name)
        assert same_tokenizer(connection, "a", "same") is True
        assert same_tokenizer(connection, "a", "other") is False
        assert same_tokenizer(connection, "a", "bare") is None
