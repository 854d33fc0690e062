"""Files are whole or not there, wherever a name leads; in CSV no spreadsheet finds a formula."""

import csv
import errno
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.results.files import csv_text, read_csv, write_bytes, write_text

ROOT = Path(__file__).parents[2]
SIGNS = ("=", "+", "-", "@", "\t", "\r")
FORMULAS = ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "=", "'=1", "''-1"]


def test_a_new_file(tmp_path: Path) -> None:
    """The folders on the way are made, and nothing is left beside it."""
    path = tmp_path / "a" / "b" / "c.txt"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays(tmp_path: Path) -> None:
    """What it leads to is written, whether it is there yet or not."""
    held, link = tmp_path / "held" / "file", tmp_path / "link"
    link.symlink_to(held)
    for content in (b"one", b"two"):
        write_bytes(link, content)
        assert link.is_symlink()
        assert held.read_bytes() == content


def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up leaves what was there before, and the error names the file."""
    path = tmp_path / "file"
    path.write_bytes(b"before")
    write = Path.write_bytes

    def half(self: Path, content: bytes) -> int:
        write(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes(path, b"behind")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
def test_devices() -> None:
    """They are written as they are and stay; one that is full is named."""
    write_bytes(Path("/dev/null"), b"gone")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes(Path("/dev/full"), b"too much")
    assert caught.value.filename == "/dev/full"
    assert Path("/dev/full").is_char_device()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    """A folder, and a path through a file: the error names what was asked for."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "x.csv"):
        with pytest.raises(OSError, match=r"directory|exists") as caught:
            write_bytes(path, b"content")
        assert caught.value.filename == str(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
@given(st.lists(st.text("=+-@'\t\r\n, \"ax1"), min_size=1, max_size=5))
def test_no_cell_begins_as_a_formula(texts: list[str]) -> None:
    """Read by Python's own reader, each text stands behind an apostrophe or as it is."""
    table = pd.DataFrame({"=name": texts, "delta": [-0.5] * len(texts)})
    head, *rows = csv.reader(io.StringIO(csv_text(table), newline=""))
    assert head == ["'=name", "delta"]
    for (cell, number), text in zip(rows, texts, strict=True):
        assert not cell.startswith(SIGNS)
        assert cell in (text, f"'{text}")
        assert number == "-0.5"


@pytest.mark.parametrize("kind", ["object", "str", "category"])
def test_what_is_written_is_read(kind: str, tmp_path: Path) -> None:
    """Texts, numbers and what is missing come back as they were, also what has apostrophes."""
    texts = [*FORMULAS, "plain", "it's", "'quoted'", "a=b", "− 3", None]
    table = pd.DataFrame(
        {
            "=text": pd.Series(texts, dtype=kind),
            "delta": [-1.25 * number for number in range(len(texts))],
            "length": pd.Series([-3, *range(len(texts) - 1)], dtype="Int64"),
        }
    )
    before = table.copy()
    write_text(tmp_path / "a.csv", csv_text(table))
    pd.testing.assert_frame_equal(table, before)
    found = read_csv(tmp_path / "a.csv")
    assert [*found["=text"]][:-1] == texts[:-1]
    assert pd.isna(found["=text"].iloc[-1])
    assert [*found["delta"]] == [*table["delta"]]
    assert [*found["length"]] == [*table["length"]]


def test_a_table_without_formulas_is_as_pandas_writes_it() -> None:
    """Nothing else about a file is ours."""
    table = pd.DataFrame(
        {
            "condition": pd.Categorical(["truncate", "replace(source='document')"]),
            "delta": [0.123456789, -1e-9],
            "grey": [True, False],
            "short": ["> 640", "–"],
        }
    )
    plain = table.to_csv(index=False, float_format="%.8g", lineterminator="\n")
    assert csv_text(table) == plain
    assert "0.123456789" in csv_text(table, digits=None)


def test_every_file_is_written_there() -> None:
    """No other module writes or reads CSV by itself."""
    files = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("probe/**/*.py")
        if {"to_csv", "read_csv"} & set(path.read_text("utf-8").replace("(", ".").split("."))
    }
    assert files == {"probe/results/files.py"}
