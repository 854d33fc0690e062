"""Every mistake in the data of a request is one line that says what is allowed."""

import copy
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_fixtures import books, byte_tokenizer, offline  # noqa: F401 (fixtures)
from datasets.exceptions import DatasetNotFoundError
from tokenizers import normalizers

from probe.corpus.dataset import DataOptions
from probe.corpus.sample import load_corpus
from probe.corpus.tokenise import Reader
from probe.errors import ProbeError, UsageError

pytestmark = [
    pytest.mark.usefixtures("offline", "books"),
    pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"]),
]


def mistake(kind: type[ProbeError], vocabulary_size: int = 300, **options: Any) -> str:
    """Return the message of a mistake, which is a line."""
    with pytest.raises(ProbeError) as caught:
        load_corpus(
            DataOptions(**options),
            Reader(byte_tokenizer(), vocabulary_size),
            minimum=30,
            seed=0,
        )
    message = str(caught.value)
    assert caught.type is kind
    assert message
    assert "\n" not in message
    return message


@pytest.fixture
def rows() -> str:
    lines = [{"text": "x", "year": 1, "ids": [1, 2], "share": [0.5]} for _ in range(2)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return "rows.jsonl"


@pytest.mark.parametrize("pattern", ["nothing*.txt", "nothing.txt", "books"])
def test_no_file(streaming: bool, pattern: str) -> None:
    """A path or glob without a file is named; a folder is no file."""
    for given in (pattern, ["books/emma.txt", pattern], {"train": [pattern]}):
        message = mistake(UsageError, path="text", data_files=given, streaming=streaming)
        assert message.startswith(f"data: {pattern!r} matches no file")


def test_no_data_files(streaming: bool) -> None:
    """A file format without files does not fall back to the working directory."""
    for given in (None, [], {"train": []}):
        message = mistake(UsageError, path="text", data_files=given, streaming=streaming)
        assert message.endswith("names no file; allowed: a path or glob, or several")


def test_no_data_set(streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown folder or hub name is named; so is one that cannot be reached."""
    message = mistake(UsageError, path="/no/such/folder", streaming=streaming)
    assert message.startswith("cannot find data set '/no/such/folder'")
    message = mistake(ProbeError, path="nobody/nothing", streaming=streaming)
    assert message.startswith("cannot read data set 'nobody/nothing'")

    def not_found(*_: Any, **__: Any) -> None:
        raise DatasetNotFoundError(
            "Dataset 'nobody/nothing' doesn't exist\non the Hub"
        ) from OSError

    monkeypatch.setattr(datasets, "load_dataset", not_found)
    message = mistake(UsageError, path="nobody/nothing", streaming=streaming)
    assert message.startswith("cannot find data set 'nobody/nothing': Dataset")


def test_missing_split(streaming: bool) -> None:
    """The splits that there are are listed."""
    files = {"train": "books/emma.txt", "validation": "books/emma.txt"}
    for split in ("test", "test[:10%]"):
        message = mistake(
            UsageError, path="text", data_files=files, split=split, streaming=streaming
        )
        assert (
            f"data.split: {split!r} selects nothing in 'text'; allowed: train, validation"
            in message
        )


@pytest.mark.parametrize("key", ["text_column", "ids_column", "group_column"])
def test_missing_column(streaming: bool, key: str, rows: str) -> None:
    """The columns that there are are listed."""
    message = mistake(
        UsageError, path="json", data_files=rows, streaming=streaming, **{key: "body"}
    )
    assert message == f"data.{key}: 'body' is not in 'json'; allowed: text, year, ids, share"


def test_not_text(streaming: bool, rows: str) -> None:
    """A text column holds text."""
    message = mistake(
        UsageError, path="json", data_files=rows, text_column="year", streaming=streaming
    )
    assert message.startswith("data.text_column: 'year' holds int in document")


@pytest.mark.parametrize("column", ["text", "year", "share"])
def test_not_ids(streaming: bool, column: str, rows: str) -> None:
    """A column of token ids holds lists of whole numbers."""
    message = mistake(
        UsageError, path="json", data_files=rows, ids_column=column, streaming=streaming
    )
    assert message.startswith(f"data.ids_column: {column!r} holds")
    assert message.endswith("allowed: lists of whole numbers")


def test_nested_ids(streaming: bool) -> None:
    """Lists of lists are no token ids."""
    pq.write_table(pa.table({"ids": [[[1], [1, 2]]]}), "nested.parquet")
    message = mistake(
        UsageError, path="parquet", data_files="*.parquet", ids_column="ids", streaming=streaming
    )
    assert "holds [[1], [1, 2]] in document" in message


def test_foreign_ids(streaming: bool, rows: str) -> None:
    """Ids of another vocabulary are found before a model meets them."""
    message = mistake(
        UsageError, 2, path="json", data_files=rows, ids_column="ids", streaming=streaming
    )
    assert "holds the token id 2; allowed: 0 to 1" in message


@pytest.mark.parametrize("wrong", [2**63, 2**64 - 1])
def test_ids_beyond_64_bits(streaming: bool, wrong: int) -> None:
    """An id that fits no int64 is named, not wrapped around nor taken for a float."""
    for ids in ([wrong], [1, 2, wrong]):
        pq.write_table(pa.table({"ids": pa.array([ids], pa.list_(pa.uint64()))}), "ids.parquet")
        message = mistake(
            UsageError,
            path="parquet",
            data_files="ids.parquet",
            ids_column="ids",
            streaming=streaming,
        )
        assert message.startswith(f"data.ids_column: 'ids' holds {wrong} in document '0'; allowed")


def test_no_token_at_all(streaming: bool) -> None:
    """Texts of characters that a tokenizer leaves out: it is told why there is nothing."""
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\0", "")
    Path("books/nul.txt").write_bytes(bytes(300))
    files = ["books/nul.txt", "books/blank.txt"]
    with pytest.raises(ProbeError, match="holds a token: 2 read, each empty or of characters"):
        load_corpus(
            DataOptions(path="text", data_files=files, streaming=streaming),
            Reader(tokenizer, 300),
            minimum=30,
            seed=0,
        )


def test_not_utf8(streaming: bool) -> None:
    """The file that is not UTF-8 is named, among many and in any text format."""
    Path("books/latin.txt").write_bytes("café".encode("latin-1"))
    message = mistake(ProbeError, path="text", data_files="books/*.txt", streaming=streaming)
    assert message.startswith("'books/latin.txt' is not UTF-8")
    Path("latin.jsonl").write_bytes('{"text": "café"}'.encode("latin-1"))
    message = mistake(ProbeError, path="json", data_files="latin.jsonl", streaming=streaming)
    assert message.startswith("'latin.jsonl' is not UTF-8")


def test_wrong_format(streaming: bool) -> None:
    """A file that is no such thing is an error of its own."""
    for path in ("json", "parquet"):
        message = mistake(ProbeError, path=path, data_files="books/emma.txt", streaming=streaming)
        assert message.startswith(f"cannot read data set {path!r}: ")


def test_options(streaming: bool) -> None:
    """An option that the format does not have, or that has a key of its own, is refused."""
    for options in ({"sample": "line"}, {"trust_remote_code": True}, {"split": "test"}):
        message = mistake(
            UsageError,
            path="text",
            data_files="books/emma.txt",
            options=options,
            streaming=streaming,
        )
        assert message.startswith("data.options: ")
        assert next(iter(options)) in message


def test_empty_data_set(streaming: bool) -> None:
    """A data set without a row says so."""
    Path("none.jsonl").touch()
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), "none.parquet")
    for path, file in (("json", "none.jsonl"), ("parquet", "none.parquet")):
        message = mistake(ProbeError, path=path, data_files=file, streaming=streaming)
        assert message == f"data set {path!r} is empty: no row in {file!r}"


def test_empty_slice(streaming: bool) -> None:
    """A slice without a row is a split that selects nothing; a stream has no slices."""
    message = mistake(
        UsageError,
        path="text",
        data_files="books/emma.txt",
        split="train[:0]",
        streaming=streaming,
    )
    assert message.startswith("data.split: 'train[:0]' selects nothing in 'text'; allowed: train")
    assert message.endswith("[:10%]") is not streaming


def test_all_too_short(streaming: bool) -> None:
    """Where no document is long enough, the longest says how far off it is."""
    message = mistake(
        ProbeError,
        path="text",
        data_files=["books/blank.txt", "books/persuasion.txt"],
        streaming=streaming,
    )
    allowed = "allowed: longer documents, shorter windows"
    assert message.endswith(f"the longest has 22 tokens, a window needs 30; {allowed}")
