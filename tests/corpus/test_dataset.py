"""Data sets have the names that people call them by; a path and files are not both given."""

from pathlib import Path
from typing import Any

import pytest

from probe.corpus.dataset import DataOptions, data_name

HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"path": "stdlib"}, "stdlib"),
        ({"path": "emozilla/pg19-test"}, "pg19-test"),
        ({"path": "org/wikitext", "name": "wikitext-2-raw-v1"}, "wikitext (wikitext-2-raw-v1)"),
        ({"path": "org/books", "data_files": "parts/*.parquet"}, "books"),
        ({"path": "shelf/books"}, "books"),
        ({"path": "./shelf/books/"}, "books"),
        ({"path": "./shelf/test"}, "shelf/test"),
        ({"path": f"./datasets--org--pg19/snapshots/{HASH}"}, "pg19"),
        ({"path": "/far/away/books"}, "books"),
        ({"path": "shelf/books/*.txt"}, "books"),
        ({"path": "shelf/books/**/*.txt.gz"}, "books"),
        ({"path": "shelf/books/a*.txt"}, "books/a*.txt"),
        ({"path": "*.txt"}, "here"),
        ({"path": "emma.txt"}, "emma.txt"),
        ({"path": "/far/away/shelf/emma.txt"}, "shelf/emma.txt"),
        ({"path": "json", "data_files": "hf://datasets/org/name/*.jsonl"}, "name"),
        ({"path": "json", "data_files": "https://host/shelf/a.jsonl"}, "shelf/a.jsonl"),
        ({"path": "json", "data_files": ["a/1.jsonl", "a/2.jsonl"]}, "a/1.jsonl and 1 more"),
        ({"path": "json", "data_files": {"train": "a/1.jsonl", "test": "a/2.jsonl"}}, "a/1.jsonl"),
        (
            {"path": "json", "data_files": {"train": "x", "test": ["b/*.jsonl"]}, "split": "test"},
            "b",
        ),
        (
            {"path": "json", "data_files": {"a": "1.json", "b": ["2.json"]}, "split": "all[:1%]"},
            "1.json and 1 more",
        ),
        ({"path": "parquet", "options": {"data_dir": "shelf/books"}}, "shelf/books"),
        ({"path": "text", "data_files": "books/*.txt", "label": "eight novels"}, "eight novels"),
    ],
    ids=str,
)
def test_names(
    options: dict[str, Any], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The label, or what tells of folder, files and repository."""
    (tmp_path / "here" / "shelf" / "books").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert data_name(DataOptions(**options)) == name


@pytest.mark.parametrize("label", ["", "  ", "two\nlines", "\x1b[31mred", "x" * 201])
def test_labels_can_be_shown(label: str) -> None:
    """A label is text on one line."""
    with pytest.raises(ValueError, match="label"):
        DataOptions(path="stdlib", label=label)


@pytest.mark.parametrize("path", ["books/*.txt", "emma.txt"])
def test_files_are_named_once(path: str) -> None:
    """Files by path and by data_files are refused before anything is looked for on the hub."""
    with pytest.raises(ValueError, match=f"path: '{path[:5]}.* names files, and so does data_fi"):
        DataOptions(path=path, data_files={"train": "books/*.txt"})
