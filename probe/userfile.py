"""Python files of the user's own, run because the user named them."""

import hashlib
import linecache
import sys
from pathlib import Path
from types import ModuleType

from probe.errors import UsageError
from probe.printable import one_line, shown


def run_file(file: str, what: str = "") -> tuple[ModuleType, str]:
    """Run a file as a module of its own.

    Args:
        file: The path, relative to the working directory.
        what: What named it, for an error.

    Returns:
        The module, and the SHA-256 of the file's content.

    Raises:
        UsageError: If it cannot be read or run.
    """
    path, named = Path(file), f"{what}: {shown(file)}" if what else shown(file)
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # a name may hold NUL
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{named} cannot be read: {reason}") from error
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
        reason = one_line(f"{type(error).__name__}: {error}")
        raise UsageError(f"{named} cannot be loaded: {reason}") from error
    return module, hashlib.sha256(content).hexdigest()
