"""Perturbations of the user's own: files that register them, and a mark of what they were."""

import hashlib
import inspect
from collections.abc import Iterable, Sequence

from probe.perturbations import registry
from probe.perturbations.condition import Condition
from probe.userfile import run_file


def load_files(files: Sequence[str]) -> list[str]:
    """Run Python files, which register their perturbations.

    Args:
        files: Paths, relative to the working directory.

    Returns:
        The same paths.

    Raises:
        UsageError: If a file cannot be read or run, or registers nothing.
    """
    for file in files:
        run_file(file, f"perturbations: {file!r}")
    return list(files)


def marks(conditions: Iterable[Condition]) -> dict[str, str]:
    """What changes with the code of the user's own perturbations in some conditions.

    Args:
        conditions: The conditions.

    Returns:
        A hash of the source by name, empty where none is the user's own or its source is not to be
        had. What the function calls is not in it.
    """
    names = {step.name for condition in conditions for step in condition.steps}
    found = {}
    for name in sorted(names):
        function = inspect.unwrap(registry.get(name).function)
        if function.__module__ in registry.BUILTINS:
            continue
        source = registry.source_of(function)
        if source:
            found[name] = hashlib.sha256(source.encode()).hexdigest()
    return found
