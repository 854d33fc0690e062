"""Which files of a run folder were read to their end: a footer says nothing of the pages before."""

import contextlib
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from probe.results.files import atomic_write

NAME = ".verified"
"""A line for every file that is known to be readable: its size, when it last changed, its name."""


class VerifiedFiles:
    """The files of a run folder that a run has written, or read to their end.

    Each is told by its size and by when it last changed, so that a resume reads none again. It is
    a help alone: a line that is cut off, or of a file that has changed since, counts for nothing,
    and where nothing can be written files are read.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, str] | None = None

    def add(self, path: Path) -> None:
        """Know a file to be readable that has just been written."""
        with contextlib.suppress(OSError):  # another shard may have merged it into a larger one
            self._add(path, _state(path))

    def knows(self, path: Path) -> bool:
        """Whether a file is known to be readable, and has not changed since; it is not read."""
        if self._known is None:
            self._known = _states(self._read())
        with contextlib.suppress(OSError):
            return self._known.get(self._name(path)) == _state(path)
        return False

    def holds(self, path: Path) -> bool:
        """Whether a file is readable; it is read where that is not known."""
        if self.knows(path):
            return True
        with contextlib.suppress(OSError):
            state = _state(path)  # before it is read: it may change meanwhile
            if is_readable(path):
                self._add(path, state)
                return True
        return False

    def tidy(self) -> None:
        """Write down the files that are there alone, once each."""
        before = self._read()
        files = chain(self.folder.glob("*.parquet"), self.folder.glob("*/*.parquet"))
        names = set(map(self._name, files))
        self._known = {name: state for name, state in _states(before).items() if name in names}
        text = "".join(f"{state} {name}\n" for name, state in self._known.items())
        if text != before:
            with contextlib.suppress(OSError), atomic_write(self.folder / NAME) as scratch:
                scratch.write_text(text, encoding="utf-8")

    def forget(self) -> None:
        """Know nothing any more: a page was found that is damaged."""
        self._known = None
        with contextlib.suppress(OSError):
            (self.folder / NAME).unlink(missing_ok=True)

    def _add(self, path: Path, state: str) -> None:
        if self._known is not None:
            self._known[self._name(path)] = state
        with contextlib.suppress(OSError), (self.folder / NAME).open("a", encoding="utf-8") as file:
            file.write(
                f"{state} {self._name(path)}\n"
            )  # one write: several processes do so at once

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _read(self) -> str:
        try:
            return (self.folder / NAME).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def is_readable(path: Path) -> bool:
    """Read a parquet file to its end, and see whether every checksum of its pages holds."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return all(batch.num_rows >= 0 for batch in file.iter_batches())
    except (pa.ArrowException, OSError, ValueError):
        return False


def _state(path: Path) -> str:
    state = path.stat()
    return f"{state.st_size} {state.st_mtime_ns}"


def _states(text: str) -> dict[str, str]:
    """The state of each file, by its name, as the lines of the list say."""
    parts = (line.split(" ", 2) for line in text.split("\n"))
    whole = (part for part in parts if len(part) == 3)
    return {name: f"{size} {changed}" for size, changed, name in whole}
