"""A token class as it is written, `frequency(top=0.2)`: its name and its parameters."""

import ast
import inspect
from typing import Any

from probe.errors import UsageError
from probe.printable import shown
from probe.registry import refuse_long

FORMS = "name, name(parameter=value), or path/to/file.py:function"
_KINDS: dict[str, tuple[type, ...]] = {"a number": (int, float), "a text": (str,)}


def read_call(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the parameters that are given; nothing is evaluated but literals.

    Args:
        text: Such as ``frequency(top=0.2)``.

    Raises:
        UsageError: If it has another form, or gives a parameter twice.
    """
    refuse_long(text, "token class")
    try:
        node = ast.parse(text, mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        if not isinstance(call.func, ast.Name) or call.args:
            raise ValueError(text)
        given = {str(word.arg): listed(ast.literal_eval(word.value)) for word in call.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise UsageError(f"token class {shown(text)} cannot be read; allowed: {FORMS}") from error
    names = [word.arg for word in call.keywords]
    if twice := [name for name in given if names.count(name) > 1]:
        raise UsageError(f"token class {shown(text)}: parameter {shown(twice[0])} is given twice")
    return call.func.id, given


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
