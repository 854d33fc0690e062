"""Files of a run folder: atomic writes, tables as CSV; a failing disk, or damage, is one line."""

import contextlib
import csv
import errno
import os
import re
import secrets
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from probe.errors import ProbeError, UnwrittenWarning

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_GUARDED = re.compile(r"''*[=+\-@\t\r\n]")
_BYTES = 1 << 22
"""What is decoded at once of a file whose checksums are verified."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, and rename it when everything is on disk.

    Args:
        path: The file that is to be there; its folder is made.

    Yields:
        The temporary name beside it, which is gone behind the ``with``.

    Raises:
        OSError: If it cannot be written.
    """
    # Short, as the name may be a long one, and nobody else's, on this machine or another.
    scratch = path.with_name(f".probe.{secrets.token_hex(8)}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield scratch
        with scratch.open("rb") as stream:
            os.fsync(stream.fileno())
        scratch.replace(path)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a failing disk into one line.

    Args:
        path: What is being written.

    Raises:
        ProbeError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ProbeError(
                f"no space left for {path}: everything scored before is kept; free some "
                "space and run the same command again to resume"
            ) from error
        raise ProbeError(f"cannot write {path}: {error.strerror or error}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that a user names; missing folders are made.

    What a link leads to is replaced, and the link stays. A device or a pipe is written as it is.

    Args:
        path: The file.
        content: What it shall hold.

    Raises:
        OSError: If it cannot be written; it names *path*, whatever it was that failed.
    """
    try:
        if _is_stream(path):
            path.write_bytes(content)
        else:
            with atomic_write(Path(os.path.realpath(path))) as scratch:
                scratch.write_bytes(content)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write a file of a run folder that may be somebody else's, read-only, or on a full disk.

    That costs the file alone, and is a :class:`probe.errors.UnwrittenWarning`.

    Args:
        path: The file.
        text: What it shall hold; a lone surrogate, of a folder's name, is escaped.
    """
    try:
        with atomic_write(path) as scratch:
            scratch.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        warn_unwritten(path, error)


def warn_unwritten(path: Path, error: OSError) -> None:
    """Warn that a file could not be written."""
    # In pyarrow's own words a temporary name stands.
    reason = os.strerror(error.errno) if error.errno else str(error)
    warnings.warn(f"cannot write {path}: {reason}", UnwrittenWarning, stacklevel=3)


def csv_text(table: pd.DataFrame, *, digits: int | None = 8) -> str:
    """A table as CSV in which no spreadsheet finds a formula; :func:`read_csv` reads it.

    Args:
        table: The table, without its index.
        digits: Digits of a float; ``None`` is as many as it has.

    Returns:
        The text. A cell or column name that begins as a formula does stands behind an apostrophe;
        numbers stay numbers.
    """
    table = table.rename(columns=_guarded)
    for name in table.select_dtypes(exclude="number").columns:
        table[name] = table[name].map(_guarded, na_action="ignore")
    form = None if digits is None else f"%.{digits}g"
    text = table.to_csv(index=False, float_format=form, lineterminator="\n")
    if "\r" in text:  # Python's writer leaves it bare, and every reader takes it for a line's end
        text = table.to_csv(
            index=False, float_format=form, lineterminator="\n", quoting=csv.QUOTE_ALL
        )
    return text


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table that was written as :func:`csv_text` writes it, without its apostrophes."""
    table = pd.read_csv(path).rename(columns=_unguarded)
    for name in table.select_dtypes(exclude="number").columns:
        table[name] = table[name].map(_unguarded, na_action="ignore")
    return table


def _guarded(value: Any) -> Any:
    """A text behind one more apostrophe where a spreadsheet, or our reader, would change it."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _unguarded(value: Any) -> Any:
    return value[1:] if isinstance(value, str) and _GUARDED.match(value) else value


def damaged_pages(path: Path) -> str | None:
    """What is wrong with the pages of a parquet file, by the checksums that they carry.

    A page is verified as it is decoded, which DuckDB does not do at all.

    Args:
        path: The file.

    Returns:
        One line, ``None`` where all checksums hold or the file was written without them.

    Raises:
        OSError: If the file cannot be opened.
    """
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
        row = sum(group.total_byte_size for group in groups) // max(file.metadata.num_rows, 1)
        for name in file.schema_arrow.names:  # one by one takes no longer, and little memory
            try:
                for _ in file.iter_batches(
                    max(1, _BYTES // max(row, 1)), columns=[name], use_threads=False
                ):
                    pass
            except (OSError, pa.ArrowException) as error:
                changed = "CRC" in str(error)
                what = "has another checksum than when it was written" if changed else "is damaged"
                return f"a page of its column {name} {what}"
    pa.default_memory_pool().release_unused()
    return None


def _is_stream(path: Path) -> bool:
    """Whether it is there and no regular file, or is one only behind ``/dev/stdout``."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) or path.is_relative_to("/dev")
