"""Perturbations of the user's own: files that register them, and marks of what they were."""

import hashlib
import inspect
from collections.abc import Iterable

from probe.language import pipeline_version
from probe.perturbations import registry
from probe.perturbations.condition import Condition
from probe.perturbations.filters import pipeline_of
from probe.userfile import run_file


def load_file(file: str, what: str = "") -> str:
    """Run a Python file, which registers its perturbations.

    Args:
        file: The path, relative to the working directory.
        what: What named it, for an error.

    Returns:
        The same path.

    Raises:
        UsageError: If it cannot be read or run.
    """
    run_file(file, what)
    return file


def marks(conditions: Iterable[Condition]) -> dict[str, str]:
    """What changes with code that is not ours: the user's own perturbations, and spaCy.

    Args:
        conditions: The conditions.

    Returns:
        A hash of the source by name, none where its source is not to be had; what the function
        calls is not in it. The versions of spaCy and a pipeline, by the perturbation that asks it.
    """
    steps = [step for condition in conditions for step in condition.steps]
    found = {}
    for step in steps:
        model = pipeline_of(step.name, step.parameters)
        if model is not None:
            found[f"{step.name}(model={model!r})"] = pipeline_version(model)
    for name in sorted({step.name for step in steps}):
        function = inspect.unwrap(registry.get(name).function)
        if function.__module__ in registry.BUILTINS:
            continue
        source = registry.source_of(function)
        if source:
            found[name] = hashlib.sha256(source.encode()).hexdigest()
    return found
