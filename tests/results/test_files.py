"""A file that a user names is written whole or not at all, wherever its name leads."""

import errno
from pathlib import Path

import pytest

from probe.results.files import write_bytes


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
