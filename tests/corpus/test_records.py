"""Records: what a data set holds, under which names, in which order."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_fixtures import books, offline  # noqa: F401 (fixtures)

from probe.corpus.dataset import DataOptions
from probe.corpus.records import Record, records, shuffled

pytestmark = pytest.mark.usefixtures("offline", "books")

STREAMING = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(seed: int = 0, **options: Any) -> list[Record]:
    return list(records(DataOptions(**options), seed=seed))


def texts(found: Sequence[Record]) -> dict[str, str | None]:
    assert len({record.id for record in found}) == len(found)
    return {record.id: record.text for record in found}


@STREAMING
class TestText:
    def test_folder_of_texts(self, streaming: bool, tmp_path: Path) -> None:
        """A folder of nothing but text files is read as they are, not line by line."""
        folder = tmp_path / "own [1]"
        folder.mkdir()
        (folder / "a.txt").write_text("one\ntwo\n", encoding="utf-8")
        (folder / "b.txt").write_text("three\n", encoding="utf-8")
        found = texts(read(path=str(folder), streaming=streaming))
        assert found == {"a.txt": "one\ntwo\n", "b.txt": "three\n"}

    def test_file_is_document(self, streaming: bool) -> None:
        """A file is one document under its own name; line ends are read as Python reads them."""
        found = texts(read(path="text", data_files=["books/*.txt"], streaming=streaming))
        assert found == {
            "emma.txt": "Emma Woodhouse,\nhandsome, clever, and rich",
            "blank.txt": "",
            "persuasion.txt": "Sir Walter — a café",
        }

    def test_names_stay_unique(self, streaming: bool) -> None:
        """Files of the same name go by their path; the signs of a glob in a name are no glob."""
        found = texts(read(path="text", data_files="books/**/*.txt", streaming=streaming))
        assert set(found) == {
            "books/emma.txt",
            "books/more [1]/emma.txt",
            "blank.txt",
            "persuasion.txt",
            "sand[2].txt",
        }
        assert found["sand[2].txt"] == "A gentleman and a lady"

    def test_two_spellings(self, streaming: bool, tmp_path: Path) -> None:
        """A file that is named twice, by another path or by a link, is one document."""
        (tmp_path / "a link to emma.txt").symlink_to(tmp_path / "books" / "emma.txt")
        spelled = ["books/emma.txt", "./books/emma.txt", "books/../books/emma.txt"]
        spelled += [str(tmp_path / "books" / "emma.txt"), "books/e*.txt", "a link to emma.txt"]
        spelled += [f"file://{tmp_path / 'books' / 'emma.txt'}"]
        found = texts(read(path="text", data_files=spelled, streaming=streaming))
        assert found == {"emma.txt": "Emma Woodhouse,\nhandsome, clever, and rich"}

    def test_literal_path(self, streaming: bool) -> None:
        """A path is read as it stands, absolute or not, and once if it is given twice."""
        path = Path("books/more [1]/sand[2].txt")
        files = [str(path), f"./{path}"]
        assert list(texts(read(path="text", data_files=files, streaming=streaming))) == [path.name]
        files = [str(path.absolute())]
        assert list(texts(read(path="text", data_files=files, streaming=streaming))) == [path.name]

    def test_split_of_files(self, streaming: bool) -> None:
        """A mapping gives the files of each split."""
        files = {"train": "books/emma.txt", "test": ["books/p*.txt"]}
        found = read(path="text", data_files=files, split="test", streaming=streaming)
        assert list(texts(found)) == ["persuasion.txt"]

    def test_lines(self, streaming: bool) -> None:
        """The user's own sample_by wins; a document is then named by its row."""
        found = read(
            path="text",
            data_files="books/emma.txt",
            options={"sample_by": "line"},
            streaming=streaming,
        )
        assert texts(found) == {"0": "Emma Woodhouse,", "1": "handsome, clever, and rich"}

    def test_encoding(self, streaming: bool) -> None:
        """Another encoding than UTF-8 is read when it is named."""
        Path("latin.txt").write_bytes("café".encode("latin-1"))
        found = read(
            path="text",
            data_files="latin.txt",
            options={"encoding": "latin-1"},
            streaming=streaming,
        )
        assert texts(found) == {"latin.txt": "café"}


@STREAMING
class TestRows:
    def test_json(self, streaming: bool) -> None:
        """A row is a document named by its index; a missing text is an empty document."""
        file = write_jsonl(Path("a.jsonl"), [{"body": "x", "year": 1815}, {"body": None}])
        found = read(
            path="json",
            data_files=file,
            text_column="body",
            group_column="year",
            streaming=streaming,
        )
        assert texts(found) == {"0": "x", "1": ""}
        assert {record.id: record.group for record in found} == {"0": "1815", "1": None}

    @pytest.mark.parametrize("type_", [pa.int32(), pa.int64(), pa.uint16()], ids=str)
    def test_parquet_ids(self, streaming: bool, type_: pa.DataType) -> None:
        """Token ids come as int64 without a text, whatever their width in the file."""
        table = pa.table({"ids": pa.array([[5, 6, 7], [], None], pa.list_(type_))})
        pq.write_table(table, "a.parquet")
        found = read(path="parquet", data_files="a.parquet", ids_column="ids", streaming=streaming)
        assert all(record.text is None for record in found)
        ids = {record.id: record.ids for record in found}
        assert {name: value.tolist() for name, value in ids.items()} == {
            "0": [5, 6, 7],
            "1": [],
            "2": [],
        }
        assert {value.dtype for value in ids.values()} == {np.dtype(np.int64)}

    def test_local_folder(self, streaming: bool) -> None:
        """A folder is read as the data set that it is."""
        folder = Path("set")
        folder.mkdir()
        write_jsonl(folder / "test.jsonl", [{"text": "held out"}])
        found = read(path=str(folder), split="test", streaming=streaming)
        assert texts(found) == {"0": "held out"}

    def test_seed_gives_the_order(self, streaming: bool) -> None:
        """A seed permutes the rows and changes no name."""
        file = write_jsonl(Path("a.jsonl"), [{"text": f"row {row}"} for row in range(50)])
        one, two, again = (
            texts(read(seed, path="json", data_files=file, streaming=streaming))
            for seed in (1, 2, 1)
        )
        assert one == two == {str(row): f"row {row}" for row in range(50)}
        assert list(one) == list(again)
        assert list(one) != list(two)
        assert list(one) != sorted(one, key=int)


def test_slice() -> None:
    """A slice of a split is read like a split."""
    file = write_jsonl(Path("a.jsonl"), [{"text": f"row {row}"} for row in range(10)])
    found = texts(read(path="json", data_files=file, split="train[:20%]"))
    assert found == {"0": "row 0", "1": "row 1"}


@pytest.mark.parametrize("seed", range(4))
def test_stream_of_shards(seed: int) -> None:
    """In a stream of several shards a name holds the shard, and survives the shuffle."""
    files = [
        write_jsonl(Path(f"{shard}.jsonl"), [{"text": f"{shard}:{row}"} for row in range(3)])
        for shard in range(4)
    ]
    found = texts(read(seed, path="json", data_files=files, streaming=True))
    assert len(found) == 12
    assert all(name == text for name, text in found.items())


@pytest.mark.parametrize("size", [1, 3, 20, 30])
def test_shuffled_loses_nothing(size: int) -> None:
    """A buffer of any size yields each row once, none before it was read."""
    rows = [(str(index), {}) for index in range(20)]
    found = [int(name) for name, _ in shuffled(rows, np.random.default_rng(0), size=size)]
    assert sorted(found) == list(range(20))
    assert all(name < place + size + 1 for place, name in enumerate(found))
