"""Metadata columns: read beside a document, kept in run.json, no part of a run's identity."""

import json
from pathlib import Path
from typing import Any

import pytest
from corpus_fixtures import byte_tokenizer
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    configured,
    model_folders,
    no_network,
    parts,
    score,
    text_folder,
    text_of,
)

from probe.corpus.dataset import DataOptions
from probe.corpus.records import LONGEST, described
from probe.corpus.sample import Corpus, load_corpus
from probe.corpus.tokenise import Reader
from probe.errors import UsageError

ROWS = [
    {"text": text_of(80, 1), "genre": "fiction", "year": 1815, "poem": True, "share": 0.5},
    {"text": text_of(80, 2), "genre": "<b>non-fiction</b>", "year": None, "poem": False},
    {"text": text_of(80, 3), "genre": "  ", "year": 1818, "poem": None, "share": float("nan")},
]


@pytest.fixture(name="rows")
def rows_file(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    return str(path)


def load(file: str, *columns: str, **options: Any) -> Corpus:
    given = DataOptions(path="json", data_files=file, metadata_columns=columns, **options)
    return load_corpus(given, Reader(byte_tokenizer(), 257), minimum=1, seed=0)


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
def test_values(rows: str, streaming: bool) -> None:
    """Text, numbers and truth values as text; what is missing, blank or NaN has no entry."""
    found = load(rows, "genre", "year", "poem", "share", streaming=streaming)
    assert {
        document.id: document.metadata for document in found.documents if document.metadata
    } == {
        "0": {"genre": "fiction", "year": "1815", "poem": "yes", "share": "0.5"},
        "1": {"genre": "<b>non-fiction</b>", "poem": "no"},
        "2": {"year": "1818"},
    }
    without = load(rows, streaming=streaming).documents
    assert not any(document.metadata for document in without)
    assert [document.id for document in found.documents] == [document.id for document in without]


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
def test_a_missing_column(rows: str, streaming: bool) -> None:
    """The columns that there are are listed."""
    with pytest.raises(UsageError) as caught:
        load(rows, "genre", "author", streaming=streaming)
    assert str(caught.value) == (
        "data.metadata_columns: 'author' is not in 'json'; allowed: text, genre, year, poem, share"
    )


def test_values_that_describe_nothing() -> None:
    """Lists and long texts are refused with the document that has them."""
    for value, said in (
        ([1], "'a' holds list in document 'x'; allowed: text, numbers, true and false"),
        ({"b": 1}, "'a' holds dict in document"),
        ("b" * (LONGEST + 1), "'a' holds 201 characters in document 'x'; allowed: up to 200"),
    ):
        with pytest.raises(UsageError) as caught:
            described({"a": value}, ["a"], document="x")
        assert said in str(caught.value)
        assert str(caught.value).startswith("data.metadata_columns: ")
    assert described({"a": "b" * LONGEST, "c": 1}, ["a"], document="x") == {"a": "b" * LONGEST}


def test_data_without_columns(tmp_path: Path) -> None:
    """Python's own sources have none, text files have their text alone."""
    for options, said in (
        (
            DataOptions(path="stdlib", metadata_columns=("a",)),
            "metadata_columns cannot be set where",
        ),
        (
            DataOptions(path="text", data_files=str(tmp_path / "a.txt"), metadata_columns=("a",)),
            "data.metadata_columns: 'a' is not in 'text'; allowed: text",
        ),
    ):
        (tmp_path / "a.txt").write_text("a text", encoding="utf-8")
        with pytest.raises(UsageError, match=said):
            load_corpus(options, Reader(byte_tokenizer(), 257), minimum=1, seed=0)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["frequency"], "'frequency' is the name of a token class; allowed: a column of another"),
        (["Copy"], "'Copy' is the name of a token class"),
        (["copy (edges=[1])"], "is the name of a token class"),
        (["my.py:rare"], "is the name of a token class"),
        (["document"], "'document' is a column of the class table; allowed: a column of another"),
        (["Window"], "is a column of the class table"),
        (["genre", "Genre"], "'Genre' stands there twice; allowed: each column once"),
        ([" genre"], "cannot be a token class; allowed: a printable name without blanks"),
        (["a\x1b[31m"], "cannot be a token class"),
        ([""], "cannot be a token class"),
        (["text"], "'text' holds the documents themselves; allowed: other columns"),
        ("genre", "allowed: a list of columns; got 'genre'"),
        ([1], "allowed: a list of columns"),
    ],
)
def test_names_that_are_refused(base: dict[str, Any], columns: Any, said: str) -> None:
    """A mistake of the configuration like any other, before anything is read."""
    with pytest.raises(UsageError) as caught:
        configured(base, data__metadata_columns=columns)
    first, line = str(caught.value).splitlines()
    assert first == "configuration has 1 mistake(s):"
    assert line.startswith("  data.metadata_columns: ")
    assert said in line


def test_columns_come_later(base: dict[str, Any], tmp_path: Path) -> None:
    """A finished run takes them on and scores nothing; without any its record is as before."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    data = {"path": "json", "data_files": str(path)}
    folder = score(base, tmp_path, data=data, conditions=["truncate"])
    before, held = json.loads((folder / "run.json").read_text("utf-8")), parts(folder)
    assert all("metadata" not in document for document in before["data"]["documents"])
    assert "metadata_columns" not in before["identity"]["data"]
    for columns in (["genre"], ["genre", "year"], []):
        changed = {**data, "metadata_columns": columns}
        score(base, tmp_path, data=changed, conditions=["truncate"])
        record = json.loads((folder / "run.json").read_text("utf-8"))
        found = {
            document["id"]: document.get("metadata", {}) for document in record["data"]["documents"]
        }
        assert found == {
            str(number): {
                column: str(row[column]) for column in columns if str(row[column] or "").strip()
            }
            for number, row in enumerate(ROWS)
        }
        assert parts(folder) == held
        assert record["identity"] == before["identity"]
    assert record["data"] == before["data"]
