"""What two runs have in common, and which of their windows are compared."""

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from compare_runs import ALPHABET, change_record, random_text, retokenise, step, write_windows
from hypothesis import given
from hypothesis import strategies as st
from simulated import Simulation, write_run

from probe.analysis.open_run import open_run
from probe.findings.compare.pair import (
    byte_places,
    bytes_per_token,
    connect_pair,
    create_rows,
    documents_of,
    far_range,
    pairing,
    places,
    same_tokenizer,
)


def made(folder, **changes):
    known = {
        "curves": {"truncate": step(32)},
        "windows": 2,
        "length": 128,
        "boundaries": (40, 64),
        "reach": 64,
    }
    return write_run(folder, Simulation(**(known | changes)))


def common(a, b, same=True):
    """How the two are paired, the documents and windows used of each."""
    with (
        open_run(a, write=False) as first,
        open_run(b, write=False) as second,
        connect_pair(first, second) as connection,
    ):
        found = pairing(connection, first, second, same)
        used = [(documents_of(connection, side), places(connection, side)) for side in "ab"]
    return found, used


@pytest.mark.slow
def test_alternatives_are_no_losses_of_the_targets(tmp_path):
    """Other texts in the targets' place, of protocol suffix, are left out."""
    name = "distractor(number=1)"
    folder = made(tmp_path / "a", curves={"truncate": step(32), name: step(32)}, noise_spread=None)
    choice = {"kind": "suffix", "prefixes": [0], "tokens": 64, "candidates": 2, "at": None}
    change_record(folder, config={"protocol": choice})
    with open_run(folder, write=False) as run, connect_pair(run, run) as connection:
        held = connection.execute("SELECT DISTINCT condition FROM b_scores").fetchall()
    assert sorted(held) == [("intact",), ("truncate",)]


@pytest.mark.slow
def test_equal_windows_are_paired(tmp_path):
    """Document, window, start, token ids and text are equal: all windows, of both."""
    found, used = common(made(tmp_path / "a"), made(tmp_path / "b"))
    assert found == "windows"
    assert [places for _, places in used] == [(16, 16), (16, 16)]
    assert used[0][0] == [f"doc{number:03d}" for number in range(8)]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["token_ids", "start", "text"])
def test_a_window_that_differs_is_left_out(tmp_path, what):
    """One other token, start or character: that window alone has no pair."""
    a, b = made(tmp_path / "a"), made(tmp_path / "b")
    windows = pq.read_table(b / "windows.parquet").to_pylist()
    last = windows[-1]
    if what == "start":  # a token in front: it holds its targets all the same
        last["start"], last["token_ids"] = last["start"] - 1, [7, *last["token_ids"]]
    elif what == "token_ids":
        last["token_ids"] = [*last["token_ids"][:-1], 7]
    else:
        last["text"] = "x" * len(last["text"])
    found, used = common(a, write_windows(b, windows))
    assert found == "windows"
    assert [places for _, places in used] == [(15, 16), (15, 16)]


@pytest.mark.slow
def test_too_few_equal_windows_pair_documents(tmp_path):
    """Equal windows of five of eight documents are too few: the documents are used, all of them."""
    a, b = made(tmp_path / "a"), made(tmp_path / "b")
    windows = pq.read_table(b / "windows.parquet").to_pylist()
    for window in windows[10:]:
        window["token_ids"] = [number + 1 for number in window["token_ids"]]
    found, used = common(a, write_windows(b, windows))
    assert found == "documents"
    assert [places for _, places in used] == [(16, 16), (16, 16)]


@pytest.mark.slow
def test_all_documents_of_a_small_run_are_enough(tmp_path):
    """Three documents that are all in the other run pair with it."""
    found, used = common(made(tmp_path / "a", documents=3), made(tmp_path / "b"))
    assert found == "windows"
    assert [places for _, places in used] == [(6, 6), (6, 16)]


@pytest.mark.slow
def test_a_piece_of_text_makes_a_document_the_same(tmp_path):
    """Other tokens over a text of which a piece stands in both."""
    found, _ = common(made(tmp_path / "a"), retokenise(made(tmp_path / "b"), 6), same=False)
    assert found == "documents"


@pytest.mark.slow
def test_equal_names_do_not_make_a_document_the_same(tmp_path):
    """The same names over other texts; the data set's word counts where the texts cannot."""
    a, b = (random_text(made(tmp_path / name), seed) for name, seed in (("a", 1), ("b", 2)))
    assert common(a, b)[0] == "none"
    for folder in (a, b):
        change_record(folder, identity={"data": {"path": "text"}})
    assert common(a, b)[0] == "documents"


@pytest.mark.slow
@pytest.mark.parametrize(("same", "expected"), [(True, "none"), (False, "documents")])
def test_other_fingerprints_count_only_for_one_tokenizer(tmp_path, same, expected):
    """Unequal ones of one tokenizer are other texts; of two they say nothing."""
    a, b = (random_text(made(tmp_path / name), seed) for name, seed in (("a", 1), ("b", 2)))
    for folder in (a, b):
        documents = [{"id": f"doc{n:03d}", "sha256": f"{folder}{n}"} for n in range(8)]
        change_record(folder, identity={"data": {"path": "text"}}, data={"documents": documents})
    assert common(a, b, same)[0] == expected


@pytest.mark.slow
def test_equal_fingerprints_are_equal_texts(tmp_path):
    """Other windows of documents whose token ids agree."""
    a, b = (random_text(made(tmp_path / name), seed) for name, seed in (("a", 1), ("b", 2)))
    for folder in (a, b):
        documents = [{"id": f"doc{number:03d}", "sha256": f"{number}"} for number in range(7)]
        change_record(folder, data={"documents": documents})
    found, used = common(a, b)
    assert found == "documents"
    assert [len(names) for names, _ in used] == [7, 7]


@pytest.mark.slow
def test_what_is_read_of_a_side(tmp_path):
    """Far lengths of rows that can answer; bytes of a token over the windows that are used."""
    a, b = made(tmp_path / "a"), made(tmp_path / "b", boundaries=(64,))
    with (
        open_run(a, write=False) as first,
        open_run(b, write=False) as second,
        connect_pair(first, second) as connection,
    ):
        pairing(connection, first, second, True)
        create_rows(connection)
        assert [far_range(connection, side) for side in "ab"] == [(40, 64), (64, 64)]
        assert bytes_per_token(connection, "a") == 4.0


def test_tokenizers_are_told_apart_by_what_ids_stand_for(tmp_path):
    """Equal ids for equal characters: the same. For others: not. Without text nothing is known."""
    a = made(tmp_path / "a")
    others = {
        made(tmp_path / "same"): True,
        retokenise(made(tmp_path / "other"), 6): False,
        made(tmp_path / "bare", text=False): None,
    }
    for folder, expected in others.items():
        with duckdb.connect() as connection:
            for side, run in (("a", a), ("b", folder)):
                windows = connection.read_parquet(str(run / "windows.parquet"))
                windows.create_view(f"{side}_windows")
            assert same_tokenizer(connection) is expected


# -- tokens as bytes of text ----------------------------------------------------------------------


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
