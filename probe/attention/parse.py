"""Attention patterns as text, `heads(local(w=64), layers=[0, 1]) + dilated(64, 1)`, and back."""

import ast
import inspect
import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

from probe.attention import term
from probe.attention.pattern import (
    ATTENTIONS,
    Pattern,
    PlacedTerm,
    Selection,
    add,
    attention_of,
    restrict,
)
from probe.calls import Call, Syntax, literal, refuse_long
from probe.errors import UsageError
from probe.text import one_line, shown

SYNTAX = Syntax(
    "pattern",
    "name, name(parameter=value), heads(pattern, layers=[...], heads=[...]), cross(pattern), or "
    "several of these with + between them",
    term.KEYWORDS,
)
MOST = 10_000
"""Conditions that one text may be written out as."""
_SELECTING = tuple(
    inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in ("layers", "heads")
)
_EACH = re.compile(r"\beach\s*\(\s*([^()]*?)\s*\)")


def parse(text: str) -> Pattern:
    """Read a pattern and check its values.

    Args:
        text: ``local(512)``, ``local(w=512, sinks=4)``, ``global(positions=[0, 9]) + local(64)``,
            ``heads(gaussian(offset=-1), layers=[3], heads=[0, 2])``; of an encoder–decoder
            ``cross(local(8)) + encoder(local(16))``, ``heads(cross(zero), layers=[0])``.

    Returns:
        The pattern with its canonical text: parameters by keyword in the order of their fields,
        defaults left out but ``sinks``, terms in alphabetical order. Parsing that gives the same.

    Raises:
        UsageError: If the text cannot be read, names something unknown, leaves out a required
            parameter or gives a value that is not allowed.
    """
    if not isinstance(text, str):
        raise UsageError(f"a pattern must be text; got {shown(text)}")
    pattern = read(SYNTAX.read(text), text)
    refuse_long(pattern.text, SYNTAX.kind)  # it must be readable too
    return pattern


def read(node: ast.expr, text: str) -> Pattern:
    """Read a pattern from its syntax tree, as a condition holds it.

    Args:
        node: The tree, in which ``global`` is called ``global_``.
        text: All of what was written, for errors.

    Raises:
        UsageError: As `parse`.
    """
    return add([placed for part in _summands(node) for placed in _read_term(part, text).placed])


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
    for match in _EACH.finditer(text):
        if not re.search(r"\b(layers|heads)\s*=\s*$", text[: match.start()]):
            raise UsageError(
                f"condition {shown(text)}: {one_line(match[0])}; allowed: as layers= or heads= of "
                "heads(...)"
            )
        if not re.fullmatch(r"[1-9][0-9]{0,8}", match[1]):
            raise UsageError(
                f"condition {shown(text)}: {one_line(match[0])}; allowed: a whole number from 1 to"
                f" {MOST:,}"
            )
        counts.append(int(match[1]))
    if (total := math.prod(counts)) > MOST:
        raise UsageError(f"condition {shown(text)} stands for {total:,}; allowed: up to {MOST:,}")
    between = _EACH.split(text)[::2]  # every second part is what an `each` holds
    return [
        between[0] + "".join(f"[{n}]{rest}" for n, rest in zip(numbers, between[1:], strict=True))
        for numbers in itertools.product(*map(range, counts))
    ]


def _summands(node: ast.expr) -> Iterator[ast.expr]:
    """What stands between the signs of addition, in the order of the text."""
    later = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        later.append(node.right)
        node = node.left
    yield node
    yield from reversed(later)


def _read_term(node: ast.expr, text: str) -> Pattern:
    call = SYNTAX.call(node, text)
    if call.name == "attend":
        raise UsageError(
            f"pattern {shown(text)}: attend(...) makes a condition of a pattern; allowed here: the "
            "pattern in it alone"
        )
    try:
        if call.name in ATTENTIONS:
            return _read_attention(call, text)
        return _read_heads(call, text) if call.name == "heads" else add([_read_call(call)])
    except (ValueError, TypeError) as error:
        if isinstance(error, UsageError) and str(error).startswith("pattern "):
            raise  # of a pattern inside of this one, which has said where it stands
        raise UsageError(f"pattern {shown(text)}: {error}") from error


def _read_call(call: Call) -> PlacedTerm:
    entry = term.get(SYNTAX.unescaped(call.name))
    call = Call(entry.name, call.values, call.keywords)
    given = call.arguments(entry.parameters, _value)
    call.refuse_missing(given, entry.parameters)
    return PlacedTerm(entry.function(**given))


def _read_heads(call: Call, text: str) -> Pattern:
    """A pattern that is put on chosen layers and heads: ``heads(local(64), layers=[0])``."""
    if len(call.values) != 1:
        raise UsageError("heads takes one pattern; allowed: heads(pattern, layers=[...])")
    (inner,) = call.values
    given = Call(call.name, (), call.keywords).arguments(_SELECTING, _value)
    layers, heads = (_selection(name, given.get(name)) for name in ("layers", "heads"))
    if layers is None and heads is None:
        raise UsageError("heads names none; allowed: layers=[...], heads=[...] or both")
    pattern = read(inner, text)
    if any(placed.layers is not None or placed.heads is not None for placed in pattern.placed):
        raise UsageError("heads stands in heads; allowed: one of them, of both layers and heads")
    return restrict(pattern, layers=layers, heads=heads)


def _read_attention(call: Call, text: str) -> Pattern:
    """A pattern that is put on one of three attentions: ``cross(local(8))``."""
    if len(call.values) != 1 or call.keywords:
        raise UsageError(f"{call.name} takes one pattern; allowed: {call.name}(pattern)")
    return attention_of(read(call.values[0], text), call.name)


def _value(name: str, node: ast.expr) -> Any:
    try:
        return literal(node)
    except ValueError as error:
        if _called(node) == "each":
            raise UsageError(
                "each(...) makes a condition for each number, in a configuration; allowed here: "
                "a number or a list of them"
            ) from error
        raise UsageError(
            f"the value of {shown(name)} must be a number or a list of them"
        ) from error


def _called(node: ast.expr) -> str:
    """The name of what a call calls, empty for anything else."""
    return str(getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""


def _selection(name: str, value: Any) -> Selection:
    """Numbers of layers or heads, rising, each once."""
    if value is None:
        return None
    given = value if isinstance(value, list | tuple) else [value]
    numbers = {number for number in given if type(number) is int and 0 <= number <= term.LARGEST}
    if not given or len(numbers) < len(set(map(repr, given))):
        raise UsageError(
            f"{name} must be integers from 0 to {term.LARGEST:,}, one or more; got {shown(value)}"
        )
    return tuple(sorted(numbers))
