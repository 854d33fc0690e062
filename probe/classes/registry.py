"""The token classes by name: registering a predicate, finding one, listing all."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from probe.registry import Registry, summary

Labels = Sequence[str | bool | None] | NDArray[Any]
"""One label a token: a text, or a bool that is read as ``yes`` and ``no``; ``None`` is no class."""
Predicate = Callable[..., Labels]

BUILTINS = ("probe.classes.builtin", "probe.classes.builtin")
RESERVED = (
    "document",
    "window",
    "position",
    "last_occurrence_distance",
    "copy_length",
    "copy_distance",
)
"""Columns of the class table that are no classes."""


@dataclass(frozen=True)
class Entry:
    """What is known of a class.

    Args:
        name: The name it has in a configuration.
        function: The predicate.
        summary: First line of its docstring.
        parameters: Its parameters in the order of the signature, without the window.
        version: Gives, for the parameters, a text that changes with what the predicate would say,
            empty where this machine cannot tell and what was kept has to do; ``None`` for a class
            that is worked out each time.
    """

    name: str
    function: Predicate
    summary: str
    parameters: tuple[inspect.Parameter, ...]
    version: Callable[..., str] | None = None


REGISTRY = Registry[Entry](
    "token class",
    "f(window, *, **parameters)",
    BUILTINS,
    others=", or a function of your own as path/to/file.py:function",
)
names, get, load_builtins = REGISTRY.names, REGISTRY.get, REGISTRY.load_builtins


def register(
    name: str, *, version: Callable[..., str] | None = None
) -> Callable[[Predicate], Predicate]:
    """Make a function on the tokens of a window a class with a name.

    The function takes a :class:`probe.classes.tokens.WindowTokens` and gives one label a
    token: a text, a bool (``yes`` and ``no``), or ``None`` for a token in no class::

        @register("long")
        def long(window: WindowTokens, *, least: int = 5) -> Labels:
            return [text and len(text) >= least for text in window.texts]

    A class of a notebook is worked out anew in each call, for nothing says whether its code is
    still the same.

    Args:
        name: The name, a Python identifier.
        version: See :class:`Entry`.

    Returns:
        The decorator; it gives the function back as it is.

    Raises:
        ValueError: If *name* is no identifier, is the name of another column, or belongs to another
            function, or if the function has not the face ``f(window, *, **parameters)``.
    """
    REGISTRY.check_name(name)
    if name.casefold() in RESERVED:
        raise ValueError(f"{name!r} is a column of the class table; choose another name")

    def decorate(function: Predicate) -> Predicate:
        REGISTRY.check_free(name, function)
        parameters = REGISTRY.parameters(name, function)
        REGISTRY.entries[name] = Entry(name, function, summary(function), parameters, version)
        return function

    return decorate
