"""Patterns as text, `heads(local(w=64), layers=[0, 1]) + dilated(64, 1)`, read and never run."""

import ast
import inspect
import itertools
import re
from collections.abc import Iterator
from typing import Any

from probe.attention import registry
from probe.attention.patterns import Chosen, Pattern, Placed, add, restrict
from probe.errors import UsageError
from probe.registry import refuse_long
from probe.text import one_line, shown

FORMS = (
    "name, name(parameter=value), heads(pattern, layers=[...], heads=[...]), or several of these "
    "with + between them"
)
_GLOBAL = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|\bglobal(?=\s*\()""")
_UNREADABLE = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)


def parse(text: str) -> Pattern:
    """Read a pattern and check its values.

    Args:
        text: ``local(512)``, ``local(w=512, sinks=4)``, ``global(positions=[0, 9]) + local(64)``,
            ``heads(gaussian(offset=-1), layers=[3], heads=[0, 2])``.

    Returns:
        The pattern with its canonical text: parameters by keyword in the order of their fields,
        defaults left out but ``sinks``, terms in alphabetical order. Parsing that gives the same.

    Raises:
        UsageError: If the text cannot be read, names something unknown, leaves out a required
            parameter or gives a value that is not allowed.
    """
    if not isinstance(text, str):
        raise UsageError(f"a pattern must be text; got {shown(text)}")
    refuse_long(text, "pattern")
    try:
        tree = ast.parse(readable(text), mode="eval").body
    except _UNREADABLE as error:
        raise UsageError(f"pattern {shown(text)} cannot be read; allowed: {FORMS}") from error
    pattern = read(tree, text)
    refuse_long(pattern.text, "pattern")  # it must be readable too
    return pattern


def readable(text: str) -> str:
    """Write a text as Python reads it, which keeps the word ``global`` for itself."""
    return _GLOBAL.sub(lambda found: found[1] or "global_", text.strip())


def read(node: ast.expr, text: str) -> Pattern:
    """Read a pattern from its syntax tree, as a condition holds it.

    Args:
        node: The tree, in which ``global`` is called ``global_``.
        text: All of what was written, for errors.

    Raises:
        UsageError: As `parse`.
    """
    return add([placed for term in _terms(node) for placed in _read_term(term, text).placed])


def _terms(node: ast.expr) -> Iterator[ast.expr]:
    sums = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sums.append(node.right)
        node = node.left
    yield node
    yield from reversed(sums)


def _read_term(node: ast.expr, text: str) -> Pattern:
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name):
        raise UsageError(f"pattern {shown(text)} cannot be read; allowed: {FORMS}")
    name = "global" if call.func.id == "global_" else call.func.id
    if name == "attend":
        raise UsageError(
            f"pattern {shown(text)}: attend(...) makes a condition of a pattern; allowed here: the "
            "pattern in it alone"
        )
    try:
        return _read_heads(call, text) if name == "heads" else add([_read_call(name, call)])
    except UsageError as error:
        told = str(error).startswith("pattern ")
        raise error if told else UsageError(f"pattern {shown(text)}: {error}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"pattern {shown(text)}: {error}") from error


def _read_call(name: str, call: ast.Call) -> Placed:
    entry = registry.get(name)
    given = _arguments(call, [parameter.name for parameter in entry.parameters], entry)
    for parameter in entry.parameters:
        if parameter.name not in given and parameter.default is inspect.Parameter.empty:
            raise UsageError(_mistake(f"parameter {parameter.name!r} is required", entry))
    return Placed(entry.function(**given))


def _read_heads(call: ast.Call, text: str) -> Pattern:
    if len(call.args) != 1:
        raise UsageError("heads takes one pattern; allowed: heads(pattern, layers=[...])")
    if any(_name(term) == "heads" for term in _terms(call.args[0])):
        raise UsageError("heads stands in heads; allowed: one of them, of both layers and heads")
    given = _arguments(ast.Call(call.func, [], call.keywords), ["layers", "heads"], None)
    chosen = {name: _chosen(name, given.get(name)) for name in ("layers", "heads")}
    if chosen["layers"] is None and chosen["heads"] is None:
        raise UsageError("heads names none; allowed: layers=[...], heads=[...] or both")
    return restrict(read(call.args[0], text), **chosen)


def _arguments(call: ast.Call, known: list[str], entry: registry.Entry | None) -> dict[str, Any]:
    if len(call.args) > len(known):
        raise UsageError(_mistake(f"too many values ({len(call.args)})", entry))
    pairs = [
        *zip(known, call.args, strict=False),
        *((word.arg, word.value) for word in call.keywords),
    ]
    given: dict[str, Any] = {}
    for name, node in pairs:
        if name is None or name not in known:
            raise UsageError(_mistake(f"unknown parameter {shown(name)}", entry))
        if name in given:
            raise UsageError(_mistake(f"parameter {shown(name)} is given twice", entry))
        given[name] = _literal(name, node)
    return given


def _literal(name: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except _UNREADABLE as error:
        if _name(node) == "each":
            raise UsageError(
                "each(...) makes a condition for each number, in a configuration; allowed here: "
                "a number or a list of them"
            ) from error
        raise UsageError(
            f"the value of {shown(name)} must be a number or a list of them"
        ) from error


def _name(node: ast.expr) -> str:
    """The name of what a call calls, empty for anything else."""
    return str(getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""


def _chosen(name: str, value: Any) -> Chosen:
    if value is None:
        return None
    some = value if isinstance(value, list | tuple) else [value]
    numbers = {one for one in some if type(one) is int and 0 <= one <= registry.LARGEST}
    if not some or len(numbers) < len(set(map(repr, some))):
        raise UsageError(
            f"{name} must be integers from 0 to {registry.LARGEST:,}, one or more; got "
            f"{shown(value)}"
        )
    return tuple(sorted(numbers))


def _mistake(what: str, entry: registry.Entry | None) -> str:
    if entry is None:
        return f"{what}; parameters of heads: layers, heads"
    plain = (one.replace(annotation=inspect.Parameter.empty) for one in entry.parameters)
    return f"{what}; parameters of {entry.name}: {', '.join(map(str, plain)) or 'none'}"


_EACH = re.compile(r"\beach\s*\(\s*([^()]*?)\s*\)")
MOST = 10_000  # conditions out of one text


def expand(text: str) -> list[str]:
    """Write a condition out once for each number below what ``each`` says, in all combinations.

    Args:
        text: A condition.

    Returns:
        Conditions, each with a list of one number in place of every ``each(n)``; *text* alone where
        there is none.

    Raises:
        UsageError: If ``each`` holds no number of at least 1, or they are too many together.

    Example:
        >>> expand("attend(heads(zero, layers=[3], heads=each(2)))")
        ['attend(heads(zero, layers=[3], heads=[0]))', 'attend(heads(zero, layers=[3], heads=[1]))']
    """
    refuse_long(text, "condition")
    counts = []
    for found in _EACH.finditer(text):
        if not re.search(r"\b(layers|heads)\s*=\s*$", text[: found.start()]):
            raise UsageError(
                f"condition {shown(text)}: {one_line(found[0])}; allowed: as layers= or heads= of "
                "heads(...)"
            )
        if not re.fullmatch(r"[1-9][0-9]{0,8}", found[1]):
            raise UsageError(
                f"condition {shown(text)}: {one_line(found[0])}; allowed: a whole number from 1 to"
                f" {MOST:,}"
            )
        counts.append(int(found[1]))
    total = 1
    for count in counts:
        total *= count
    if total > MOST:
        raise UsageError(f"condition {shown(text)} stands for {total:,}; allowed: up to {MOST:,}")
    written = []
    for numbers in itertools.product(*map(range, counts)):
        left = iter(numbers)
        written.append(_EACH.sub(lambda _, left=left: f"[{next(left)}]", text))  # type: ignore[misc]
    return written
