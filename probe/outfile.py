"""A file written whole or not at all, wherever its name leads."""

import os
import stat
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by way of a temporary name; missing folders are made.

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
            _replace(Path(os.path.realpath(path)), content)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _is_stream(path: Path) -> bool:
    """Whether it is there and no regular file, or is one only behind ``/dev/stdout``."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) or path.is_relative_to("/dev")


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".probe.{os.getpid()}.tmp")  # short: the name may be a long one
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
