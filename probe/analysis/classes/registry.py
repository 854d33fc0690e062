"""The token classes by name: registering a predicate, finding one, listing all."""

import difflib
import inspect
import keyword
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from numpy.typing import NDArray

from probe.errors import UsageError

Labels = Sequence[str | bool | None] | NDArray[Any]
"""One label a token: a text, or a bool that is read as ``yes`` and ``no``; ``None`` is no class."""
Predicate = Callable[..., Labels]

BUILTINS = ("probe.analysis.classes.builtin", "probe.analysis.classes.language")
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


_entries: dict[str, Entry] = {}


def register(
    name: str, *, version: Callable[..., str] | None = None
) -> Callable[[Predicate], Predicate]:
    """Make a function on the tokens of a window a class with a name.

    The function takes a :class:`probe.analysis.classes.tokens.WindowTokens` and gives one label a
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
    if not (isinstance(name, str) and name.isidentifier()) or keyword.iskeyword(name):
        raise ValueError(f"the name of a token class must be an identifier; got {name!r}")
    if name.casefold() in RESERVED:
        raise ValueError(f"{name!r} is a column of the class table; choose another name")

    def decorate(function: Predicate) -> Predicate:
        if function.__module__ not in BUILTINS:
            load_builtins()  # so that a name of theirs is taken, whoever is imported first
        known = _entries.get(name)
        if known is not None and _origin(known.function) != _origin(function):
            raise ValueError(
                f"token class {name!r} is already {'.'.join(_origin(known.function))}; "
                f"choose another name for {'.'.join(_origin(function))}"
            )
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        parameters = _parameters(name, function)
        _entries[name] = Entry(name, function, summary, parameters, version)
        return function

    return decorate


def names() -> tuple[str, ...]:
    """Name every class that is registered, in alphabetical order."""
    load_builtins()
    return tuple(sorted(_entries))


def get(name: str) -> Entry:
    """Look a class up.

    Raises:
        UsageError: If no class has this name; the message lists those that are known.
    """
    load_builtins()
    if name in _entries:
        return _entries[name]
    nearest = difflib.get_close_matches(name, _entries, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise UsageError(
        f"unknown token class {name!r}; {hint}known: {', '.join(names())}, or a function of your"
        " own as path/to/file.py:function"
    )


def load_builtins() -> None:
    """Import the classes of this package, which registers them; once is enough."""
    for module in BUILTINS:
        import_module(module)


def _parameters(name: str, function: Predicate) -> tuple[inspect.Parameter, ...]:
    first, *others = inspect.signature(function).parameters.values() or (None,)
    keyword_only = all(other.kind is inspect.Parameter.KEYWORD_ONLY for other in others)
    if first is None or first.kind is inspect.Parameter.KEYWORD_ONLY or not keyword_only:
        raise ValueError(
            f"token class {name!r} must have the face f(window, *, **parameters) with every "
            f"parameter named; got {inspect.signature(function)}"
        )
    return tuple(others)


def _origin(function: Predicate) -> tuple[str, str]:
    # Not identity: a module that is reloaded, or a notebook cell run again, may register again.
    return function.__module__, function.__qualname__
