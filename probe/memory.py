"""Giving freed memory back to the system between the branches of a window."""

import ctypes
import functools
from collections.abc import Callable


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """The C library's ``malloc_trim``, ``None`` where there is none (macOS, Windows, musl)."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return trim


def release() -> None:
    """Return free pages of the heap to the system.

    A cache grows by new tensors, each longer than the one it replaces: the holes that the old ones
    leave are too small for the next, and without this the heap grows to several times what lives.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
