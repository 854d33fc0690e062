"""Which files of a run folder are whole: a footer alone says nothing of the pages before it."""

import contextlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from probe.results.files import atomic_write

NAME = ".whole"
"""A line for every file that is whole: its size, when it last changed, its name."""


class WholeFiles:
    """The files of a run folder that were written or read to their end by a run.

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
        """Know a file to be whole: it has just been written, or read to its end."""
        name, state = self._line(path)
        if self._known is not None:
            self._known[name] = state
        with contextlib.suppress(OSError), (self.folder / NAME).open("a", encoding="utf-8") as file:
            file.write(f"{state} {name}\n")  # one write: several processes do so at once

    def holds(self, path: Path) -> bool:
        """Whether a file is whole; it is read where that is not known."""
        if self._known is None:
            self._known = self._read()
        with contextlib.suppress(OSError):
            name, state = self._line(path)
            if self._known.get(name) == state:
                return True
        if is_readable(path):
            self.add(path)
            return True
        return False

    def tidy(self) -> None:
        """Write down the files that are there alone, once each."""
        there = {name: state for name, state in self._read().items() if self._is_there(name)}
        with contextlib.suppress(OSError), atomic_write(self.folder / NAME) as scratch:
            scratch.write_text(
                "".join(f"{state} {name}\n" for name, state in there.items()), encoding="utf-8"
            )
        self._known = there

    def forget(self) -> None:
        """Know nothing any more: a page was found that is damaged."""
        self._known = None
        with contextlib.suppress(OSError):
            (self.folder / NAME).unlink(missing_ok=True)

    def _is_there(self, name: str) -> bool:
        return (self.folder / name).exists()

    def _line(self, path: Path) -> tuple[str, str]:
        state = path.stat()
        return path.relative_to(self.folder).as_posix(), f"{state.st_size} {state.st_mtime_ns}"

    def _read(self) -> dict[str, str]:
        try:
            lines = (self.folder / NAME).read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return {}
        parts = (line.split(" ", 2) for line in lines)
        return {name: f"{size} {changed}" for size, changed, name in filter(_is_line, parts)}


def _is_line(parts: list[str]) -> bool:
    return len(parts) == 3


def is_readable(path: Path) -> bool:
    """Read a parquet file to its end, and see whether every checksum of its pages holds."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return all(batch.num_rows >= 0 for batch in file.iter_batches())
    except (pa.ArrowException, OSError, ValueError):
        return False
