"""One perturbation with its parameters as text, `shuffle(span=20)`, and back.

The text is read, never evaluated: names, calls and literals are all that it may hold.
"""

import ast
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.random import Generator

from probe.attention.patterns import Pattern
from probe.attention.text import parse as parse_pattern
from probe.attention.text import read as read_pattern
from probe.attention.text import readable
from probe.errors import UsageError
from probe.perturbations import registry
from probe.perturbations.ids import Kind
from probe.perturbations.samplers import Sampler, any_sources
from probe.perturbations.text import MadeUp, TokenText
from probe.registry import refuse_long
from probe.text import shown

FORMS = "name, name(parameter=value), or a list of these: [drop(rate=0.5), shuffle]"
ATTEND = "attend"
"""The condition that leaves the text alone and limits attention by a pattern."""
_UNREADABLE = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)


@dataclass(frozen=True)
class Step:
    """A perturbation and the parameters that it is called with.

    Args:
        name: A registered name.
        parameters: The parameters that differ from their defaults, in the signature's order.
    """

    name: str
    parameters: Mapping[str, Any]

    @property
    def source(self) -> str | None:
        """The name that must be bound to a sampler, ``None`` if there is none."""
        source = self.parameters.get("source")
        return source if isinstance(source, str) else None

    @property
    def keeps_positions(self) -> bool:
        """Whether what is left keeps its position ids."""
        asked = self.parameters.get("positions") == "kept"
        return registry.get(self.name).keeps_positions or asked

    @property
    def needs_text(self) -> bool:
        """Whether it cannot do without the text of the far context, with these parameters."""
        if "text" not in registry.get(self.name).reads:
            return False
        return self._refuses(None) and not self._refuses(MadeUp(2))

    def call(
        self,
        far: Kind,
        rng: Generator,
        sources: Mapping[str, Sampler],
        handed: Mapping[str, Any],
    ) -> Kind:
        """Apply the perturbation.

        Args:
            far: Token ids of the far context.
            rng: Source of every draw.
            sources: Samplers by name.
            handed: Values of ``text``, ``targets`` and ``passage``, as far as they are known.
        """
        parameters: dict[str, Any] = dict(self.parameters)
        if self.source is not None:
            parameters["source"] = sources[self.source]
        entry = registry.get(self.name)
        parameters |= {name: handed[name] for name in entry.reads if handed.get(name) is not None}
        return entry.function(far, rng=rng, **parameters)

    def _refuses(self, text: TokenText | None) -> bool:
        handed = {"text": text, "targets": np.array([2]), "passage": slice(0, 1)}
        try:
            self.call([1, 2], np.random.default_rng(0), any_sources(), handed)
        except ValueError:
            return True
        return False

    @property
    def pattern(self) -> Pattern | None:
        """The attention pattern of ``attend``, ``None`` for a perturbation of the text."""
        return parse_pattern(self.parameters["pattern"]) if self.name == ATTEND else None

    def __str__(self) -> str:
        if self.name == ATTEND:  # a pattern is written as it is, not as a text in quotes
            return f"{self.name}({self.parameters['pattern']})"
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.parameters.items())
        return f"{self.name}({arguments})" if arguments else self.name


def read_steps(text: str) -> Iterator[Step]:
    """Read the steps of a condition, in the order in which they are applied.

    Args:
        text: One call or a list of calls.

    Yields:
        Each step in its canonical form; the values of its parameters are not judged here.

    Raises:
        UsageError: If *text* has another form, or names an unknown perturbation or parameter, or
            leaves a required one out.
    """
    refuse_long(text, "condition")
    try:
        tree = ast.parse(readable(text), mode="eval").body
    except _UNREADABLE as error:
        raise UsageError(f"condition {shown(text)} cannot be read; allowed: {FORMS}") from error
    for node in tree.elts if isinstance(tree, ast.List) else [tree]:
        yield _read_step(node, text)


def _read_step(node: ast.expr, text: str) -> Step:
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name):
        raise UsageError(f"condition {shown(text)} cannot be read; allowed: {FORMS}")
    try:
        entry = registry.get(call.func.id)
    except UsageError as error:
        raise UsageError(f"condition {shown(text)}: {error}") from error
    if entry.name == ATTEND:
        return Step(entry.name, {"pattern": _pattern(call, text)})
    given = _arguments(call, entry, text)
    parameters = {}
    for parameter in entry.parameters:
        if parameter.name in given:
            value = _as_declared(given[parameter.name], parameter)
            if value != parameter.default or type(value) is not type(parameter.default):
                parameters[parameter.name] = value
        elif parameter.default is inspect.Parameter.empty:
            _refuse(text, entry, f"parameter {parameter.name!r} is required")
    return Step(entry.name, parameters)


def _arguments(call: ast.Call, entry: registry.Entry, text: str) -> dict[str, Any]:
    known = [parameter.name for parameter in entry.parameters]
    if len(call.args) > len(known):
        _refuse(text, entry, f"too many values ({len(call.args)})")
    pairs = [
        *zip(known, call.args, strict=False),
        *((word.arg, word.value) for word in call.keywords),
    ]
    given: dict[str, Any] = {}
    for name, node in pairs:
        if name not in known:
            _refuse(
                text, entry, f"unknown parameter {shown(name)}" if name else "'**' is not allowed"
            )
        if name in given:
            _refuse(text, entry, f"parameter {shown(name)} is given twice")
        given[name] = _literal(name, node, text)
    return given


def _pattern(call: ast.Call, text: str) -> str:
    """The canonical text of the pattern that ``attend`` was given."""
    given = [*call.args, *(word.value for word in call.keywords if word.arg == "pattern")]
    if len(given) != 1 or len(call.args) + len(call.keywords) != 1:
        raise UsageError(
            f"condition {shown(text)}: attend takes one pattern, as in attend(local(512))"
        )
    node = given[0]
    try:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return parse_pattern(node.value).text
        written = ast.get_source_segment(readable(text), node) or ""
        return read_pattern(node, written.replace("global_(", "global(")).text
    except UsageError as error:
        raise UsageError(f"condition {shown(text)}: {error}") from error


def _literal(name: str, node: ast.expr, text: str) -> Any:
    try:
        value = ast.literal_eval(node)
    except _UNREADABLE:
        value = ...  # nothing that a text may hold
    if not _is_plain(value):
        raise UsageError(
            f"condition {shown(text)}: the value of {shown(name)} must be a number, a text in "
            f"quotes, True, False, None, or a list or tuple of these"
        )
    return value


def _is_plain(value: Any) -> bool:
    # Only values whose repr is the same in every process and reads back as the value.
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or isinstance(value, str)


def _as_declared(value: Any, parameter: inspect.Parameter) -> Any:
    # rate=1 and rate=1.0 are one condition, so they must be one text.
    is_float = parameter.annotation in (float, "float", float | None, "float | None")
    return float(value) if is_float and type(value) is int else value


def _refuse(text: str, entry: registry.Entry, what: str) -> NoReturn:
    plain = (
        parameter.replace(annotation=inspect.Parameter.empty) for parameter in entry.parameters
    )
    allowed = ", ".join(map(str, plain)) or "none"
    raise UsageError(f"condition {shown(text)}: {what}; parameters of {entry.name}: {allowed}")
