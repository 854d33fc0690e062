"""The run folder: a file is there whole or not at all, and belongs to one process."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from probe.corpus.windows import Window
from probe.errors import ProbeError
from probe.results.footer import HOLDS, held_keys, text_of
from probe.results.scores import SCHEMA, Store

HERE = Path(__file__).parent
OTHER_PROCESS = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
KEYS = [("a — b", 0, "intact", 0), ("a — b", 0, "shuffle(span=20)", 1)]
COUNT = 5
# A file system of 64 KiB, then what a user sees and what is left.
FULL = """
set -e
mount -t tmpfs -o size=64k tmpfs "$1"
shift
"$@"
"""
FILL = """
import sys
from pathlib import Path
from test_scores import KEYS, columns
from probe.errors import ProbeError
from probe.results.scores import Store
store = Store(Path(sys.argv[1]))
store.write_part(columns(), KEYS)
try:
    store.write_part(columns(50_000), [("b", 0, "intact", 0)])
except ProbeError as error:
    print(error)
print(len(store.held()[0]), *store.held()[1], *store.folder.rglob("*.tmp"))
store.write_part(columns(), [("b", 0, "intact", 0)])
print(len(store.held()[0]))
"""
SECOND = """
import sys
from pathlib import Path
from probe.errors import ProbeError
from probe.results.scores import Store
try:
    with Store(Path(sys.argv[1])).locked():
        print("held")
except ProbeError as error:
    print(error)
"""


def columns(count: int = COUNT, **others: Any) -> dict[str, Any]:
    """Rows that do not compress."""
    rng = np.random.default_rng(count)
    return {
        "document": np.full(count, "a — b", dtype=object),
        "window": np.zeros(count),
        "position": np.arange(count),
        "far_start": np.full(count, -1),
        "boundary": np.full(count, -1),
        "distance": np.full(count, -1),
        "condition": np.full(count, "intact", dtype=object),
        "repeat": np.zeros(count),
        "nll": rng.random(count),
        "nll_intact": rng.random(count),
        **others,
    }


def window(document: str = "a", text: str | None = "abc") -> Window:
    offsets = np.arange(4, dtype=np.int32) if text else np.empty(0, dtype=np.int32)
    return Window(document, 1, 7, np.array([5, 6, 2**31 - 1]), text, offsets[:-1], offsets[1:])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results" / "run")


def parts(store: Store) -> dict[str, bytes]:
    return {part.name: part.read_bytes() for part in store.scores.glob("*.parquet")}


def broken_writer(error: OSError) -> Callable[..., None]:
    """A writer that fails when half of the file is there."""
    write = pq.ParquetWriter.write_table

    def half(writer: pq.ParquetWriter, table: pa.Table, *options: Any, **more: Any) -> None:
        write(writer, table.slice(0, len(table) // 2), *options, **more)
        raise error

    return half


# -- the contract of design §4 ----------------------------------------------------------------


def test_scores_schema(store: Store) -> None:
    """Names and types of the columns, in order, are those of the contract."""
    store.write_part(columns(), KEYS)
    (part,) = store.scores.glob("*.parquet")
    text = pa.dictionary(pa.int32(), pa.string())
    expected = [
        ("document", text),
        ("window", pa.int32()),
        ("position", pa.int32()),
        ("far_start", pa.int32()),
        ("boundary", pa.int32()),
        ("distance", pa.int32()),
        ("condition", text),
        ("repeat", pa.int16()),
        ("nll", pa.float32()),
        ("nll_intact", pa.float32()),
    ]
    assert [(field.name, field.type) for field in pq.read_schema(part)] == expected
    assert pq.ParquetFile(part).metadata.row_group(0).column(0).compression == "ZSTD"
    optional = {"kl": np.ones(COUNT), "top1": np.ones(COUNT, bool), "entropy": np.ones(COUNT)}
    store.write_part(columns(**optional), KEYS)
    expected += [("kl", pa.float32()), ("top1", pa.bool_()), ("entropy", pa.float32())]
    assert [(field.name, field.type) for field in pq.read_schema(part)] == expected


def test_windows_schema(store: Store) -> None:
    """Windows are kept with their tokens, offsets and text; token ids alone have no text."""
    store.write_windows([window("a"), window("b", text=None)])
    table = pq.read_table(store.folder / "windows.parquet")
    ints = pa.list_(pa.int32())
    assert [(field.name, field.type) for field in table.schema] == [
        ("document", pa.string()),
        ("window", pa.int32()),
        ("start", pa.int32()),
        ("token_ids", ints),
        ("char_start", ints),
        ("char_end", ints),
        ("text", pa.string()),
    ]
    first, second = table.to_pylist()
    assert first == {
        "document": "a",
        "window": 1,
        "start": 7,
        "token_ids": [5, 6, 2**31 - 1],
        "char_start": [0, 1, 2],
        "char_end": [1, 2, 3],
        "text": "abc",
    }
    assert second == first | {"document": "b", "char_start": [], "char_end": [], "text": None}
    found = {place: ids.tolist() for place, ids in store.read_windows().items()}
    assert found == {(d, 1): first["token_ids"] for d in "ab"}


def test_frequencies_schema(store: Store) -> None:
    """Occurrences of the token ids that occur; written once, and not counted again for nothing."""
    store.write_frequencies(lambda: np.array([0, 3, 0, 2**40]))
    path = store.folder / "frequencies.parquet"
    table = pq.read_table(path)
    assert [(field.name, field.type) for field in table.schema] == [
        ("token_id", pa.int32()),
        ("count", pa.int64()),
    ]
    assert table.to_pylist() == [{"token_id": 1, "count": 3}, {"token_id": 3, "count": 2**40}]
    before = path.read_bytes()
    store.write_frequencies(lambda: pytest.fail("counted again"))
    assert path.read_bytes() == before


# -- parts --------------------------------------------------------------------------------------


def test_rows(store: Store) -> None:
    """What is read is what was written."""
    given = columns()
    store.write_part(given, KEYS)
    (part,) = store.scores.glob("*.parquet")
    found = pq.read_table(part).to_pydict()
    for name, values in given.items():
        if name.startswith("nll"):
            values = values.astype(np.float32)
        assert found[name] == values.tolist()


def test_held(store: Store) -> None:
    """A part holds what it was written for, even without a row of it; one key twice is one."""
    assert store.held() == (set(), [])
    store.write_part(columns(), KEYS)
    store.write_part(columns(0), [("b", 3, "intact", 0)])
    store.write_part(columns(), KEYS)
    assert store.held() == ({*KEYS, ("b", 3, "intact", 0)}, [])
    assert len(parts(store)) == 2


def test_same_rows_same_bytes(store: Store, tmp_path: Path) -> None:
    """A unit that is scored again replaces itself with the same bytes."""
    other = Store(tmp_path / "other")
    store.write_part(columns(), KEYS)
    other.write_part(columns(), KEYS)
    assert parts(store) == parts(other)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_whole_or_not_at_all(store: Store, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing that fails half-way leaves nothing of it, and all that was there before."""
    store.write_part(columns(), KEYS)
    store.write_windows([window()])
    store.write_record({"a": 1})
    before = {path: path.read_bytes() for path in store.folder.rglob("*.*")}
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", broken_writer(OSError(number, "it failed")))
        for write in (
            lambda: store.write_part(columns(7), [("b", 0, "intact", 0)]),
            lambda: store.write_part(columns(7), KEYS),  # instead of one that is there
            lambda: store.write_windows([window("b")]),
            lambda: store.write_frequencies(lambda: np.ones(3, dtype=np.int64)),
        ):
            with pytest.raises(ProbeError) as caught:
                write()
            message = str(caught.value)
            assert "\n" not in message
            assert message.startswith("no space left" if number == errno.ENOSPC else "cannot write")
            assert {path: path.read_bytes() for path in store.folder.rglob("*.*")} == before
    store.write_part(columns(7), [("b", 0, "intact", 0)])
    assert len(store.held()[0]) == 3


@pytest.mark.slow
def test_full_disk(tmp_path: Path) -> None:
    """On a file system without space left: one line, the earlier part kept, and on it goes."""
    place = tmp_path / "full"
    place.mkdir()
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FULL, "sh", str(place)]
    try:
        allowed = subprocess.run([*inside, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("this system has no unshare, by which a full disk is simulated")
    if allowed.returncode:
        pytest.skip("a user may mount no file system here")
    done = subprocess.run(
        [*inside, sys.executable, "-c", FILL, str(place / "run")],
        capture_output=True,
        text=True,
        check=True,
        env=OTHER_PROCESS,
    )
    told, after, later = done.stdout.splitlines()
    assert told.startswith(f"no space left for {place}")
    assert "run the same command again" in told
    assert (after, later) == ("2", "3")


def test_unreadable_parts_are_put_aside(store: Store) -> None:
    """A part that is cut off, empty or foreign is kept under another name and holds nothing."""
    store.write_part(columns(), KEYS)
    (good,) = store.scores.glob("*.parquet")
    whole = good.read_bytes()
    (store.scores / "part-cut.parquet").write_bytes(whole[: len(whole) // 2])
    (store.scores / "part-empty.parquet").touch()
    pq.write_table(pa.table({"a": [1]}), store.scores / "part-foreign.parquet")
    assert store.held()[0] == set(KEYS)
    aside = [store.scores / f"part-{name}.unreadable" for name in ("cut", "empty", "foreign")]
    assert store.clean() == aside
    assert aside[0].read_bytes() == whole[: len(whole) // 2]
    assert store.held() == (set(KEYS), [])
    assert store.clean() == []


def test_one_bit_puts_a_part_aside(store: Store) -> None:
    """Pages have checksums, so that losses that still look like some are not taken for good."""
    store.write_part(columns(), KEYS)
    (part,) = store.scores.glob("*.parquet")
    column = pq.read_metadata(part).row_group(0).column(SCHEMA.names.index("nll"))
    content = bytearray(part.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    part.write_bytes(content)
    assert store.clean() == [part.with_suffix(".unreadable")]


@pytest.mark.parametrize("said", [b"{bad", b"\xff", b"null", b'["abcd"]', b'[["a", 0, "b", true]]'])
def test_a_footer_that_holds_something_else(store: Store, said: bytes) -> None:
    """A part that does not say what it holds holds nothing, and is put aside."""
    store.write_part(columns(), KEYS)
    (part,) = store.scores.glob("*.parquet")
    table = pq.read_table(part).replace_schema_metadata({HOLDS: said})
    pq.write_table(table, part)
    assert store.held() == (set(), [part])
    assert store.clean() == [part.with_suffix(".unreadable")]


GOOD = ["é", -1, "", 2**70]


@pytest.mark.parametrize(
    "said",
    [
        *([], [GOOD], [GOOD, ["b", 0, "shuffle", 1]], [[]], [GOOD, ["abcd"]], ["abcd"], [None]),
        *([GOOD[:3]], [[*GOOD, 0]], [["a", 0, "b", True]], [["a", 0, "b", 1.0]], [[1, 0, "b", 1]]),
        *([["a", "0", "b", 1]], [["a", 0, None, 1]], [GOOD, {"a": 1}], [[GOOD]], None, 1, "a", {}),
    ],
)
def test_keys_of_a_footer(said: Any) -> None:
    """As the plain reading of the JSON gives them, and nothing that only looks like some."""
    text = json.dumps(said, ensure_ascii=False).encode()
    schema = pa.schema([], metadata={HOLDS: text})
    kinds = [str, int, str, int]
    if isinstance(said, list) and all(
        isinstance(key, list) and [type(part) for part in key] == kinds for key in said
    ):
        keys = [tuple(key) for key in said]
        assert held_keys(schema) == keys
        assert text_of(keys).encode() == text
    else:
        with pytest.raises(ValueError, match="its footer holds no list of document, window, "):
            held_keys(schema)


@pytest.mark.parametrize("said", [{}, {HOLDS: b""}, {HOLDS: b"[["}, {HOLDS: b"\xff"}])
def test_a_footer_that_says_nothing(said: dict[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="its footer does not say what it holds"):
        held_keys(pa.schema([], metadata=said))


def test_every_file_has_checksums(store: Store) -> None:
    """One flipped bit in the last page of windows or frequencies is an error of reading."""
    store.write_windows([window()])
    store.write_frequencies(lambda: np.arange(5))
    for path in (store.folder / "windows.parquet", store.folder / "frequencies.parquet"):
        assert pq.read_table(path, page_checksum_verification=True).num_rows
        group = pq.read_metadata(path).row_group(0)
        last = group.column(group.num_columns - 1)
        first = last.dictionary_page_offset or last.data_page_offset
        content = bytearray(path.read_bytes())
        content[first + last.total_compressed_size - 1] ^= 1
        path.write_bytes(content)
        with pytest.raises(OSError, match="CRC"):
            pq.read_table(path, page_checksum_verification=True)


def test_leftovers_are_removed(store: Store) -> None:
    """What a killed process left half-written goes away; a file that is not ours does not."""
    store.write_part(columns(), KEYS)
    store.write_record({"a": 1})
    figures = store.folder / "figures"
    figures.mkdir()
    (figures / "mine.tmp").write_bytes(b"1")
    before = {path: path.read_bytes() for path in store.folder.rglob("*.*")}
    for path in (store.scores / "part-x.parquet", store.folder / "run.json"):
        path.with_name(f"{path.name}.tmp").write_bytes(b"PAR1")
    assert store.clean() == []
    assert {path: path.read_bytes() for path in store.folder.rglob("*.*")} == before


# -- run.json, and the lock -----------------------------------------------------------------------


def test_record(store: Store) -> None:
    """run.json is plain UTF-8 JSON; without one there is no record."""
    assert store.read_record() is None
    assert store.read_windows() == {}
    record = {"name": "é — 1", "costs": {"tokens": 3}}
    store.write_record(record)
    assert store.read_record() == record
    text = (store.folder / "run.json").read_text(encoding="utf-8")
    assert json.loads(text) == record
    assert "é — 1" in text


def test_no_windows(store: Store) -> None:
    """A file without rows is one without windows."""
    store.write_windows([])
    assert store.read_windows() == {}


def test_unreadable_record(store: Store) -> None:
    """A run.json or windows.parquet that somebody broke is named by who reads it."""
    store.write_record({})
    for name, read in (("run.json", store.read_record), ("windows.parquet", store.read_windows)):
        (store.folder / name).write_bytes(b'{"name": ')
        with pytest.raises(ProbeError, match=f"{name} cannot be read") as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_one_process(store: Store) -> None:
    """While one process writes, another is refused with one line; afterwards it is not."""

    def second() -> str:
        command = [sys.executable, "-c", SECOND, str(store.folder)]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=OTHER_PROCESS
        ).stdout

    with store.locked():
        assert second() == f"{store.folder}: another run is writing into it\n"
    assert second() == "held\n"


def test_no_folder(tmp_path: Path) -> None:
    """A file where the run folder should be is told."""
    (tmp_path / "run").touch()
    with pytest.raises(ProbeError, match=r"cannot write .*run: "), Store(tmp_path / "run").locked():
        pass
