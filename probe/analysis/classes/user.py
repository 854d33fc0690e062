"""A class of the user's own: a function of a Python file, `path/to/file.py:function`."""

import inspect

from probe.analysis.classes.registry import Predicate
from probe.errors import UsageError
from probe.printable import shown
from probe.userfile import run_file


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
    module, digest = run_file(file, f"token class {shown(text)}")
    function = getattr(module, name, None)
    if not callable(function):
        found = [
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        known = ", ".join(found) or "no function"
        raise UsageError(
            f"token class {shown(text)}: no function {shown(name)} there; the file has {known}"
        )
    return function, f"sha256 {digest}"
