"""A class as text, `frequency(top=0.2)` or `my.py:rare`, made ready to be called on windows."""

import functools
import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probe.calls import Syntax, literal
from probe.classes import registry
from probe.classes.registry import Predicate
from probe.classes.tokens import WindowTokens
from probe.errors import ProbeError, UsageError
from probe.registry import run_file
from probe.text import one_line, shown

Columns = Mapping[str, Mapping[str, str]]
"""Metadata columns: the label of each document by column."""
NONE: Columns = {}


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
                f"token classes {shown(known[text.casefold()])} and {shown(text)} differ only in "
                "the case of"
                " their letters; rename one"
            )
    return tuple(chosen.values())


def check_columns(columns: Sequence[str]) -> None:
    """See that metadata columns can be classes beside those that are registered.

    Raises:
        UsageError: If a name is empty, stands there twice, or is that of a class or of another
            column of the class table; also in other letters, upper or lower.
    """
    registered = {name.casefold(): name for name in registry.names()}
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
                " than"
                f" {known}"
            )
        if bare in registry.RESERVED:
            raise UsageError(
                f"{shown(column)} is a column of the class table; allowed: a column of another name"
                " than"
                f" {', '.join(registry.RESERVED)}"
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
        return Chosen(text, *load_user(text))
    name, given = read_call(text)
    try:
        entry = registry.get(name)
    except UsageError as error:
        there = f" ({', '.join(columns)})" if columns else ""
        raise UsageError(f"{error}, or one of data.metadata_columns{there}") from error
    known = {parameter.name: parameter for parameter in entry.parameters}
    if unknown := sorted(given.keys() - known):
        allowed = ", ".join(known) or "none"
        raise UsageError(
            f"token class {shown(text)}: unknown parameter {shown(unknown[0])}; parameters of"
            f" {name}:"
            f" {allowed}"
        )
    for parameter in known.values():
        if parameter.name in given:
            check_kind(text, parameter, given[parameter.name])
        if parameter.default is inspect.Parameter.empty and parameter.name not in given:
            raise UsageError(f"token class {shown(text)}: parameter {parameter.name!r} is required")
    other = {
        key: given[key]
        for key, parameter in known.items()
        if key in given and given[key] != listed(parameter.default)
    }
    arguments = ", ".join(f"{key}={value!r}" for key, value in other.items())
    canonical = f"{name}({arguments})" if arguments else name
    version = None if entry.version is None else entry.version(**other)
    return Chosen(canonical, functools.partial(entry.function, **other), version)


def _label(value: Any, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    raise ProbeError(
        f"{where}: a label is a {type(value).__name__}; allowed: a text, True, False, None"
    )


SYNTAX = Syntax("token class", "name, name(parameter=value), or path/to/file.py:function")
_KINDS: dict[str, tuple[type, ...]] = {"a number": (int, float), "a text": (str,)}


def read_call(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the parameters that are given; nothing is evaluated but literals.

    Args:
        text: Such as ``frequency(top=0.2)``.

    Raises:
        UsageError: If it has another form, or gives a parameter twice.
    """
    call = SYNTAX.call(SYNTAX.read(text), text)
    if call.values:
        raise SYNTAX.unreadable(text)
    given: dict[str, Any] = {}
    for name, node in call.keywords:
        try:
            value = listed(literal(node))
        except (ValueError, RecursionError) as error:
            raise SYNTAX.unreadable(text) from error
        given.setdefault(str(name), []).append(value)
    if twice := [name for name, values in given.items() if len(values) > 1]:
        raise UsageError(f"token class {shown(text)}: parameter {shown(twice[0])} is given twice")
    return call.name, {name: value for name, (value,) in given.items()}


def check_kind(text: str, parameter: inspect.Parameter, value: Any) -> None:
    """See that a value is of the kind of its default, which shows what a predicate can take.

    Args:
        text: The class as it was written.
        parameter: The parameter.
        value: Its value.

    Raises:
        UsageError: If it is not.
    """
    default = parameter.default
    for kind, types in _KINDS.items():
        if isinstance(default, types) and type(default) is not bool:
            if not isinstance(value, types) or type(value) is bool:
                raise UsageError(
                    f"token class {shown(text)}: {parameter.name} is {shown(value)}; allowed: "
                    f"{kind}, as {parameter.name}={default!r}"
                )
            return


def listed(value: Any) -> Any:
    """A tuple as a list: both are one class, so they must be one text."""
    return list(map(listed, value)) if isinstance(value, list | tuple) else value


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
