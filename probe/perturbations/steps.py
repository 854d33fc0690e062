"""One perturbation with its parameters, and its text, `shuffle(span=20)`, read and written."""

import ast
import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from probe.attention.parse import parse as parse_pattern
from probe.attention.parse import read as read_pattern
from probe.attention.pattern import Pattern
from probe.attention.term import KEYWORDS
from probe.calls import Call, Syntax, literal
from probe.errors import UsageError
from probe.perturbations import registry
from probe.perturbations.ids import Kind
from probe.perturbations.samplers import Sampler, any_sources
from probe.perturbations.units import synthetic_inputs
from probe.text import shown

FORMS = "name, name(parameter=value), or a list of these: [drop(rate=0.5), shuffle]"
SYNTAX = Syntax("condition", FORMS, KEYWORDS)
OF = "of"
"""What every perturbation may be given where a model has an encoder: which text it is done to."""
PARTS = ("source", "target")
REPLACE = "replace"
ATTEND = "attend"
"""The condition that leaves the text alone and limits attention by a pattern."""


@dataclass(frozen=True)
class Step:
    """A perturbation and the parameters that it is called with.

    Args:
        name: A registered name.
        parameters: The parameters that differ from their defaults, in the signature's order.
        of: Whether the far part of the source or of the target is changed; ``None`` where a model
            has no encoder.
    """

    name: str
    parameters: Mapping[str, Any]
    of: str | None = None

    def __str__(self) -> str:
        if self.name == ATTEND:  # a pattern is written as it is, not as a text in quotes
            return f"{self.name}({self.parameters['pattern']})"
        given = dict(self.parameters) | ({} if self.of is None else {OF: self.of})
        arguments = ", ".join(f"{key}={value!r}" for key, value in given.items())
        return f"{self.name}({arguments})" if arguments else self.name

    @property
    def source(self) -> str | None:
        """The name that must be bound to a sampler, ``None`` if there is none."""
        source = self.parameters.get("source")
        return source if isinstance(source, str) else None

    @property
    def shared(self) -> int | None:
        """How many texts ``replace`` draws for all windows, ``None`` where it is not asked."""
        return self.parameters.get("shared") if self.name == REPLACE else None

    @property
    def pattern(self) -> Pattern | None:
        """The attention pattern of ``attend``, ``None`` for a perturbation of the text."""
        return parse_pattern(self.parameters["pattern"]) if self.name == ATTEND else None

    @property
    def keeps_positions(self) -> bool:
        """Whether what is left keeps its position ids."""
        asked = self.parameters.get("positions") == "kept"
        return registry.get(self.name).keeps_positions or asked

    @property
    def needs_text(self) -> bool:
        """Whether it cannot do without the text of the far context, with these parameters."""
        entry = registry.get(self.name)
        if "text" not in entry.reads:
            return False
        declared = entry.declares("needs_text", dict(self.parameters))
        return self.tried_needs_text() if declared is None else declared

    def tried_needs_text(self) -> bool:
        """See whether it refuses to work without a text, and works with one."""
        inputs = synthetic_inputs(2)
        return self._refuses(inputs | {"text": None}) and not self._refuses(inputs)

    def _refuses(self, handed: Mapping[str, Any]) -> bool:
        try:
            self.call([1, 2], np.random.default_rng(0), any_sources(), handed)
        except ValueError:
            return True
        return False

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
    tree = SYNTAX.read(text)
    for node in tree.elts if isinstance(tree, ast.List) else [tree]:
        call = SYNTAX.call(node, text)
        try:
            step = _read_step(call, text)
        except UsageError as error:
            raise UsageError(f"condition {shown(text)}: {error}") from error
        yield step


def _read_step(call: Call, text: str) -> Step:
    entry = registry.get(call.name)
    if entry.name == ATTEND:
        return Step(entry.name, {"pattern": _pattern(call, text)})
    call, of = _without_part(call, [parameter.name for parameter in entry.parameters])
    given = call.arguments(entry.parameters, _value)
    call.refuse_missing(given, entry.parameters)
    parameters = {}
    for parameter in entry.parameters:
        if parameter.name in given:
            value = _as_declared(given[parameter.name], parameter)
            if value != parameter.default or type(value) is not type(parameter.default):
                parameters[parameter.name] = value
    return Step(entry.name, parameters, of)


def _without_part(call: Call, own: Sequence[str]) -> tuple[Call, str | None]:
    """A call without ``of``, and what that was; a perturbation may have a parameter of that name.

    Raises:
        UsageError: If it is neither ``source`` nor ``target``.
    """
    given = [_value(OF, node) for name, node in call.keywords if name == OF]
    if OF in own or not given:
        return call, None
    if len(given) > 1 or given[0] not in PARTS:
        raise UsageError(f"of is {shown(given[-1])}; allowed, once: 'source', 'target'")
    rest = tuple((name, node) for name, node in call.keywords if name != OF)
    return replace(call, keywords=rest), given[0]


def part_of(text: str) -> str | None:
    """What a condition says under ``of``, read off its canonical text."""
    return next((part for part in PARTS if f"{OF}={part!r})" in text), None)


def shared_of(text: str) -> int | None:
    """How many texts a condition draws for all windows, read off its canonical text."""
    found = re.fullmatch(r"replace\(source='document', shared=(\d+)\)", text)
    return int(found[1]) if found else None


def _pattern(call: Call, text: str) -> str:
    """The canonical text of the pattern that ``attend`` was given."""
    given = [*call.values, *(node for name, node in call.keywords if name == "pattern")]
    if len(given) != 1 or len(call.values) + len(call.keywords) != 1:
        raise UsageError("attend takes one pattern, as in attend(local(512))")
    (node,) = given
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return parse_pattern(node.value).text
    # The pattern's own part of the text is what its errors quote.
    written = ast.get_source_segment(SYNTAX.escaped(text), node) or ""
    return read_pattern(node, written.replace("global_(", "global(")).text


def _value(name: str, node: ast.expr) -> Any:
    try:
        value = literal(node)
    except ValueError:
        value = ...  # nothing that a text may hold
    if not _is_plain(value):
        raise UsageError(
            f"the value of {shown(name)} must be a number, a text in quotes, True, False, None, or "
            "a list or tuple of these"
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
