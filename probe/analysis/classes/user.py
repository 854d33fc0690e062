"""A class of the user's own: a function of a Python file, `path/to/file.py:function`."""

import hashlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

from probe.analysis.classes.registry import Predicate
from probe.errors import UsageError


def is_user(text: str) -> bool:
    """Whether a class is written as a function of a file."""
    return text.rpartition(":")[0].endswith(".py")


def load_user(text: str) -> tuple[Predicate, str]:
    """Load the function that a user named; its file is run for that.

    Args:
        text: ``path/to/file.py:function``; the path is relative to the working directory.

    Returns:
        The function, and a version that changes with the content of the file.

    Raises:
        UsageError: If the file cannot be read or run, or has no such function.
    """
    file, _, name = text.rpartition(":")
    path = Path(file)
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"token class {text!r}: {file!r} cannot be read: {reason}") from error
    digest = hashlib.sha256(content).hexdigest()
    place = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()
    module = _run(path, content, f"probe_user_{place[:16]}", text)
    function = getattr(module, name, None)
    if not callable(function):
        found = [
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        known = ", ".join(found) or "no function"
        raise UsageError(f"token class {text!r}: no function {name!r} there; the file has {known}")
    return function, f"sha256 {digest}"


def _run(path: Path, content: bytes, name: str, text: str) -> ModuleType:
    """Run the very bytes that were read: Python's cache may hold an older version of the file."""
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        exec(compile(content, str(path), "exec"), vars(module))
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"token class {text!r} cannot be loaded: {one_line(error)}") from error
    return module


def one_line(error: BaseException) -> str:
    """An error of somebody else's code on one line: its type and what it says."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
