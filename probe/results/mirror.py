"""The copy of a run folder at an address of fsspec, such as ``s3://bucket/runs/mine``."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from probe.errors import ProbeError, UsageError
from probe.text import one_line

PAUSES = (1.0, 5.0)
"""Seconds before an upload is tried once more."""
_FILES = ("run.json", "windows.parquet", "frequencies.parquet", "population.parquet")


def is_address(text: str) -> bool:
    """Whether a text is an address of fsspec, and no path of this machine's disk."""
    return re.match(r"[a-z0-9+.-]+://", text) is not None and not text.startswith("file://")


class Mirror:
    """The copy of a run folder, to which every file that is finished goes.

    A store of objects has no rename: a file is put there by one upload under its final name, and is
    there whole or not at all.

    Args:
        address: Where the copy is.

    Raises:
        UsageError: If no installed file system knows such addresses.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        try:
            self._system, self._root = fsspec.core.url_to_fs(self.address)
        except Exception as error:  # no such file system, no key for it, no such place
            raise UsageError(f"{self.address}: {one_line(error)}") from error
        self._root = self._root.rstrip("/")

    def __str__(self) -> str:
        return self.address

    def put(self, folder: Path, path: Path) -> None:
        """Upload a file of *folder*; ProbeError where that fails."""
        with self._one_line("write"):
            at = self._at(folder, path)
            self._system.makedirs(at.rpartition("/")[0], exist_ok=True)
            for pause in (*PAUSES, None):
                try:
                    self._system.put_file(str(path), at)
                    break
                except Exception:  # whatever it is, a moment later it may go well
                    if pause is None:
                        raise
                    time.sleep(pause)

    def remove(self, folder: Path, path: Path) -> None:
        """Remove the copy of a file of *folder* that is no more; ProbeError where that fails."""
        with self._one_line("write"):
            at = self._at(folder, path)
            if self._system.exists(at):
                self._system.rm_file(at)

    def fetch(self, folder: Path) -> None:
        """Download what is there into *folder*; ProbeError where that fails."""
        with self._one_line("read"):
            self._system.invalidate_cache()
            for at in self._files():
                path = folder / at.removeprefix(f"{self._root}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                self._system.get_file(at, str(path))

    def folders(self) -> list["Mirror"]:
        """The run folders that an address means, in which ``*`` may stand; UsageError for none."""
        with self._one_line("read"):
            self._system.invalidate_cache()
            found = sorted(self._system.glob(f"{self._root}/run.json"))
        if not found:
            raise UsageError(f"no run folder at {self.address}: there is no run.json")
        roots = [at.rpartition("/")[0] for at in found]
        return [Mirror(str(self._system.unstrip_protocol(root))) for root in roots]

    def _files(self) -> Iterator[str]:
        yield from (at for name in _FILES if self._system.exists(at := f"{self._root}/{name}"))
        yield from sorted(self._system.glob(f"{self._root}/scores/*.parquet"))

    def _at(self, folder: Path, path: Path) -> str:
        return f"{self._root}/{path.relative_to(folder).as_posix()}"

    @contextmanager
    def _one_line(self, doing: str) -> Iterator[Any]:
        try:
            yield
        except Exception as error:  # every file system has errors of its own
            raise ProbeError(
                f"cannot {doing} {self.address}: {one_line(error) or type(error).__name__}; "
                "everything that is there is kept: run the same command again to resume"
            ) from error
