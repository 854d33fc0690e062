"""The token classes by name, and as text: `frequency(top=0.2)`, or `my.py:rare` of a user."""

import ast
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.calls import Call, Syntax, literal
from probe.classes.tokens import WindowTokens
from probe.errors import ProbeError, UsageError
from probe.registry import Registry, run_file, summary
from probe.text import one_line, shown

Labels = Sequence[str | bool | None] | NDArray[Any]
"""One label a token: a text, or a bool that is read as ``yes`` and ``no``; ``None`` is no class."""
Predicate = Callable[..., Labels]

DISTANCES = ("last_occurrence_distance", "copy_distance")
"""Columns of the class table that hold tokens back, −1 for nowhere."""
RESERVED = ("document", "window", "position", DISTANCES[0], "copy_length", DISTANCES[1])
"""Columns of the class table that are no classes."""
Columns = Mapping[str, Mapping[str, str]]
"""Metadata columns: the label of each document by column."""
NONE: Columns = {}
SYNTAX = Syntax("token class", "name, name(parameter=value), or path/to/file.py:function")
_KINDS: dict[str, tuple[type, ...]] = {"a number": (int, float), "a text": (str,)}


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
    ("probe.classes.builtin",),
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


@dataclass(frozen=True, eq=False)
class Chosen:
    """A class with its parameters.

    Args:
        text: Its canonical text, the name of its column.
        predicate: The function, its parameters bound.
        version: Changes with what the predicate would say; empty where this machine cannot tell,
            ``None`` where nothing can.
    """

    text: str
    predicate: Predicate
    version: str | None

    def is_kept(self, versions: Mapping[str, str | None]) -> bool:
        """Whether a table with these versions by class holds what this class would say."""
        if self.version is None or self.text not in versions:
            return False
        return versions[self.text] == self.version or not self.version

    def labels(self, window: WindowTokens) -> list[str | None]:
        """The label of each token.

        Raises:
            ProbeError: If the predicate fails, or gives another number of labels or other values
                than texts, bools and ``None``.
        """
        where = f"token class {shown(self.text)}, window {window.window} of {window.document!r}"
        try:
            given = self.predicate(window)
            values: list[Any] = given.tolist() if isinstance(given, np.ndarray) else list(given)
        except ProbeError:
            raise
        except (Exception, SystemExit) as error:
            reason = one_line(f"{type(error).__name__}: {error}")
            raise ProbeError(f"{where}: {reason}") from error
        if len(values) != len(window):
            raise ProbeError(f"{where}: {len(values)} labels for {len(window)} tokens; one each")
        if set(map(type, values)) <= {str, type(None)}:
            return values
        return [_label(value, where) for value in values]


def choose(names: Sequence[str], columns: Columns = NONE) -> tuple[Chosen, ...]:
    """Read classes as a configuration names them; a class that is named twice is one.

    Args:
        names: Texts such as ``frequency(top=0.2)``.
        columns: Metadata columns of the data, which are classes under their own names.

    Returns:
        The classes in order.

    Raises:
        UsageError: If a text has another form, or names an unknown class, parameter, file or
            function, or if two differ in nothing but the case of their letters.
    """
    chosen = {one.text: one for one in (_choose(name, columns) for name in names)}
    known: dict[str, str] = {}
    for text in chosen:
        # The columns of a table in SQL are told apart without regard to case.
        if known.setdefault(text.casefold(), text) != text:
            raise UsageError(
                f"token classes {shown(known[text.casefold()])} and {shown(text)} differ only in"
                " the case of their letters; rename one"
            )
    return tuple(chosen.values())


def check_columns(columns: Sequence[str]) -> None:
    """See that metadata columns can be classes beside those that are registered.

    Raises:
        UsageError: If a name is empty, stands there twice, or is that of a class or of another
            column of the class table; also in other letters, upper or lower.
    """
    registered = {name.casefold(): name for name in REGISTRY.names()}
    seen: set[str] = set()
    for column in columns:
        if not column or column != column.strip() or not column.isprintable():
            raise UsageError(
                f"{shown(column)} cannot be a token class; allowed: a printable name without blanks"
                " around it"
            )
        bare = column.partition("(")[0].strip().casefold()
        if bare in registered or is_user(column):
            known = ", ".join(registered.values())
            raise UsageError(
                f"{shown(column)} is the name of a token class; allowed: a column of another name"
                f" than {known}"
            )
        if bare in RESERVED:
            raise UsageError(
                f"{shown(column)} is a column of the class table; allowed: a column of another name"
                f" than {', '.join(RESERVED)}"
            )
        if column.casefold() in seen:
            raise UsageError(f"{shown(column)} stands there twice; allowed: each column once")
        seen.add(column.casefold())


def _of_column(column: str, labels: Mapping[str, str]) -> Chosen:
    """The class of a metadata column: all tokens of a document have its label."""
    check_columns([column])
    held = json.dumps(dict(labels), sort_keys=True).encode()

    def predicate(window: WindowTokens) -> list[str | None]:
        return [labels.get(window.document)] * len(window)

    return Chosen(column, predicate, f"sha256 {hashlib.sha256(held).hexdigest()}")


def _choose(text: str, columns: Columns) -> Chosen:
    text = str(text).strip()
    if text in columns:
        return _of_column(text, columns[text])
    if is_user(text):
        return Chosen(text, *_load_user(text))
    call = SYNTAX.call(SYNTAX.read(text), text)
    if call.values:
        raise SYNTAX.unreadable(text)
    try:
        entry = get(call.name)
    except UsageError as error:
        there = f" ({', '.join(columns)})" if columns else ""
        raise UsageError(f"{error}, or one of data.metadata_columns{there}") from error
    try:
        other = _parameters(call, entry)
    except UsageError as error:
        raise UsageError(f"token class {shown(text)}: {error}") from error
    arguments = ", ".join(f"{key}={value!r}" for key, value in other.items())
    canonical = f"{entry.name}({arguments})" if arguments else entry.name
    version = None if entry.version is None else entry.version(**other)
    return Chosen(canonical, functools.partial(entry.function, **other), version)


def _parameters(call: Call, entry: Entry) -> dict[str, Any]:
    """The parameters that differ from their defaults, in the order of the signature."""
    given = call.arguments(entry.parameters, _read_value)
    call.refuse_missing(given, entry.parameters)
    known = {one.name: one for one in entry.parameters if one.name in given}
    for name, parameter in known.items():
        _check_kind(parameter, given[name])
    return {
        name: given[name]
        for name, parameter in known.items()
        if given[name] != _listed(parameter.default)
    }


def _label(value: Any, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    raise ProbeError(
        f"{where}: a label is a {type(value).__name__}; allowed: a text, True, False, None"
    )


def _read_value(name: str, node: ast.expr) -> Any:
    try:
        return _listed(literal(node))
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the value of {shown(name)} cannot be read; allowed: a number, a text in quotes, True,"
            " False, None, or a list of these"
        ) from error


def _check_kind(parameter: inspect.Parameter, value: Any) -> None:
    """See that a value is of the kind of its default, which shows what a predicate can take."""
    default = parameter.default
    for kind, types in _KINDS.items():
        if isinstance(default, types) and type(default) is not bool:
            if not isinstance(value, types) or type(value) is bool:
                raise UsageError(
                    f"{parameter.name} is {shown(value)}; allowed: {kind}, as"
                    f" {parameter.name}={default!r}"
                )
            return


def _listed(value: Any) -> Any:
    """A tuple as a list: both are one class, so they must be one text."""
    return list(map(_listed, value)) if isinstance(value, list | tuple) else value


def is_user(text: str) -> bool:
    """Whether a class is written as a function of a file."""
    return text.rpartition(":")[0].endswith(".py")


def _load_user(text: str) -> tuple[Predicate, str]:
    """The function of a file, which is run for that, and a version that changes with the file."""
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
