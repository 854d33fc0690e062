"""Python files of the user's own, run because the user named them."""

import hashlib
import linecache
import sys
from pathlib import Path
from types import ModuleType

from probe.errors import UsageError


def run_file(file: str, what: str) -> tuple[ModuleType, str]:
    """Run a file as a module of its own.

    Args:
        file: The path, relative to the working directory.
        what: What to call it in an error.

    Returns:
        The module, and the SHA-256 of the file's content.

    Raises:
        UsageError: If it cannot be read or run.
    """
    path = Path(file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{what}: {file!r} cannot be read: {error.strerror or error}") from error
    place = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()
    module = ModuleType(f"probe_user_{place[:16]}")
    module.__file__ = str(path)
    linecache.checkcache(str(path))
    # The very bytes that were read: Python's own cache may hold an older version of the file.
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        exec(compile(content, str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise UsageError(f"{what} cannot be loaded: {one_line(error)}") from error
    return module, hashlib.sha256(content).hexdigest()


def one_line(error: BaseException) -> str:
    """An error of somebody else's code on one line: its type and what it says."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
