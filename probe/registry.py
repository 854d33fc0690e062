"""Functions by name: registering one, finding one, listing all; running a file that has some."""

import hashlib
import inspect
import keyword
import linecache
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

from probe.errors import UsageError
from probe.text import one_line, shown, suggestion

Function = Callable[..., Any]
_MARKED = re.compile(r"(`+)(.+?)\1|(?<![\w*])\*([^\s*]+)\*(?!\*)")
"""Code, and a parameter, in a docstring."""


class Named(Protocol):
    """What a registry holds of a function, at least."""

    @property
    def function(self) -> Function:
        """The function, with the module and the name that it was written with."""


Registered = TypeVar("Registered", bound=Named)


@dataclass(eq=False)
class Registry(Generic[Registered]):
    """Functions of one kind by name.

    Args:
        kind: What one of them is called in messages, such as ``perturbation``.
        face: The signature that they have, such as ``f(far, *, rng, **parameters)``.
        builtins: Modules that register those of this package.
        others: What the message about an unknown name allows beside the names.
        entries: What is registered, by name.
    """

    kind: str
    face: str
    builtins: tuple[str, ...]
    others: str = ""
    entries: dict[str, Registered] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """All names that are registered, in alphabetical order."""
        self.load_builtins()
        return tuple(sorted(self.entries))

    def get(self, name: str) -> Registered:
        """What is registered under a name.

        Raises:
            UsageError: If nothing has this name; the message lists those that are known.
        """
        if name not in self.entries:
            self.load_builtins()
        if name in self.entries:
            return self.entries[name]
        known = f"known: {', '.join(self.names())}{self.others}"
        hint = suggestion(name, self.entries, known)
        raise UsageError(f"unknown {self.kind} {shown(name)}{hint}")

    def load_builtins(self) -> None:
        """Import the modules of this package that register; once is enough."""
        for module in self.builtins:
            import_module(module)

    def check_name(self, name: str) -> None:
        """See that a name can be written in a configuration.

        Raises:
            ValueError: If it is no identifier.
        """
        if not (isinstance(name, str) and name.isidentifier()) or keyword.iskeyword(name):
            article = "an" if self.kind[0] in "aeiou" else "a"
            raise ValueError(
                f"the name of {article} {self.kind} must be an identifier; got {shown(name)}"
            )

    def check_free(self, name: str, function: Function) -> None:
        """See that a name is free for a function, or its own already.

        Raises:
            ValueError: If it belongs to another function.
        """
        if function.__module__ not in self.builtins:
            self.load_builtins()  # so that a name of theirs is taken, whoever is imported first
        known = self.entries.get(name)
        if known is not None and _origin(known.function) != _origin(function):
            raise ValueError(
                f"{self.kind} {name!r} is already {'.'.join(_origin(known.function))}; "
                f"choose another name for {'.'.join(_origin(function))}"
            )

    def parameters(
        self, name: str, function: Function, *, first: str | None = None, needs: str | None = None
    ) -> tuple[inspect.Parameter, ...]:
        """The parameters that a function is given by name, without the one in front.

        Args:
            name: The name that it is to have.
            function: The function.
            first: What the parameter in front must be called, if that matters.
            needs: A parameter by name that it must have; it is not among those given back.

        Raises:
            ValueError: If the function has another face.
        """
        front, *others = inspect.signature(function).parameters.values() or (None,)
        keyword_only = inspect.Parameter.KEYWORD_ONLY
        named = {other.name: other for other in others if other.kind is keyword_only}
        if (
            front is None
            or front.kind is keyword_only
            or first not in (None, front.name)
            or len(named) < len(others)
            or (needs is not None and named.pop(needs, None) is None)
        ):
            raise ValueError(
                f"{self.kind} {name!r} must have the face {self.face} with every "
                f"parameter named; got {inspect.signature(function)}"
            )
        return tuple(named.values())


def summary(function: Function) -> str:
    """The first line of a function's docstring, or of a class's, without its marks of code."""
    line = (inspect.getdoc(function) or "").partition("\n")[0]
    return _MARKED.sub(r"\2\3", line)


def _origin(function: Function) -> tuple[str, str]:
    # Not identity: a module that is reloaded, or a notebook cell run again, may register again.
    return function.__module__, function.__qualname__


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
