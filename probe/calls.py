"""Calls as text, `shuffle(span=20)`: names, parameters and literals, read and never run.

Conditions, attention patterns and token classes are written this way.
"""

import ast
import inspect
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from probe.errors import UsageError
from probe.text import shown, suggestion

LIMITS = {"characters": 10_000, "signs of addition": 500}
"""How much of each such a text may have: nobody writes more by hand."""

# What Python's parser raises of a text that is none of its own, such as 5,000 brackets.
_UNREADABLE = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)
_QUOTED = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""


@dataclass(frozen=True)
class Syntax:
    """How one kind of text is written.

    Args:
        kind: What such a text is called in messages, such as ``condition``.
        forms: What the message about an unreadable text allows.
        keywords: Words that Python keeps for itself and that may be called nevertheless, such as
            ``global``.
    """

    kind: str
    forms: str
    keywords: frozenset[str] = frozenset()

    def read(self, text: str) -> ast.expr:
        """Read a text as one expression; of it nothing is run.

        Args:
            text: What was written.

        Returns:
            Its syntax tree.

        Raises:
            UsageError: If it is too long, or no expression.
        """
        refuse_long(text, self.kind)
        try:
            return ast.parse(self.escaped(text), mode="eval").body
        except _UNREADABLE as error:
            raise self.unreadable(text) from error

    def call(self, node: ast.expr, text: str) -> "Call":
        """What a part of a text calls; a name alone is called without parameters.

        Args:
            node: The part's syntax tree.
            text: All of what was written, for an error.

        Raises:
            UsageError: If it calls nothing by a plain name.
        """
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        if not isinstance(call.func, ast.Name):
            raise self.unreadable(text)
        keywords = tuple((word.arg, word.value) for word in call.keywords)
        return Call(call.func.id, tuple(call.args), keywords)

    def escaped(self, text: str) -> str:
        """Write a text as Python can read it: ``global_(…)`` for ``global(…)``."""
        text = text.strip()
        if not self.keywords:
            return text
        words = rf"{_QUOTED}|\b({'|'.join(sorted(self.keywords))})(?=\s*\()"
        return re.sub(words, lambda match: match[1] or f"{match[2]}_", text)

    def unescaped(self, name: str) -> str:
        """The name that was written, of one in the tree: ``global`` for ``global_``."""
        written = name.removesuffix("_")
        return written if written in self.keywords else name

    def unreadable(self, text: str) -> UsageError:
        """The error of a text that has another form."""
        return UsageError(f"{self.kind} {shown(text)} cannot be read; allowed: {self.forms}")


@dataclass(frozen=True)
class Call:
    """A name with what stands in the brackets behind it.

    Args:
        name: What is called.
        values: The values without a name.
        keywords: The values with one, which is ``None`` for ``**``.
    """

    name: str
    values: tuple[ast.expr, ...] = ()
    keywords: tuple[tuple[str | None, ast.expr], ...] = ()

    def arguments(
        self, parameters: Sequence[inspect.Parameter], value_of: Callable[[str, ast.expr], Any]
    ) -> dict[str, Any]:
        """The values by the name of their parameter.

        Args:
            parameters: Those that there are, in the order of values without a name.
            value_of: Reads a value of a parameter.

        Raises:
            UsageError: If there are too many, one has an unknown name or one is given twice.
        """
        if len(self.values) > len(parameters):
            raise self.mistake(f"too many values ({len(self.values)})", parameters)
        known = [parameter.name for parameter in parameters]
        given: dict[str, Any] = {}
        for name, node in [*zip(known, self.values, strict=False), *self.keywords]:
            if name is None:
                raise self.mistake("'**' is not allowed", parameters)
            if name not in known:
                raise self.mistake(f"unknown parameter {shown(name)}", parameters, meant=name)
            if name in given:
                raise self.mistake(f"parameter {shown(name)} is given twice", parameters)
            given[name] = value_of(name, node)
        return given

    def refuse_missing(
        self, given: Collection[str], parameters: Sequence[inspect.Parameter]
    ) -> None:
        """Refuse a call without a value that it needs.

        Raises:
            UsageError: Naming the first parameter without a default that is not *given*.
        """
        for parameter in parameters:
            if parameter.name not in given and parameter.default is inspect.Parameter.empty:
                raise self.mistake(f"parameter {parameter.name!r} is required", parameters)

    def mistake(
        self, what: str, parameters: Sequence[inspect.Parameter], *, meant: str = ""
    ) -> UsageError:
        """An error that ends with the parameters that there are, the nearest to *meant* first."""
        there = f"parameters of {self.name}: {listed(parameters) or 'none'}"
        return UsageError(f"{what}{suggestion(meant, [one.name for one in parameters], there)}")


def literal(node: ast.expr) -> Any:
    """The value of a literal.

    Raises:
        ValueError: If it is none.
    """
    try:
        return ast.literal_eval(node)
    except _UNREADABLE as error:
        raise ValueError("no literal") from error


def listed(parameters: Sequence[inspect.Parameter]) -> str:
    """Parameters with their defaults, without their types: ``span=None, unit='token'``."""
    return ", ".join(
        str(parameter.replace(annotation=inspect.Parameter.empty)) for parameter in parameters
    )


def refuse_long(text: str, kind: str) -> None:
    """Refuse a text that is too long to be read, before anything is done with it.

    Args:
        text: What was written.
        kind: What it is, for the error.

    Raises:
        UsageError: If it has more of something than ``LIMITS`` allow.
    """
    for (what, most), count in zip(LIMITS.items(), (len(text), text.count("+")), strict=True):
        if count > most:
            raise UsageError(f"{kind} {shown(text)} has {count:,} {what}; allowed: up to {most:,}")
