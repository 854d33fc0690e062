"""The terms that attention patterns are made of: what a term is, and each kind by its name."""

import dataclasses
import inspect
from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, get_type_hints

from probe import checks
from probe.registry import Registry, summary

BUILTINS = (
    "probe.attention.terms.mask",
    "probe.attention.terms.hardcoded",
    "probe.attention.terms.lowrank",
)
KEYWORDS = frozenset({"global"})
"""Names of patterns that Python keeps for itself; the parser reads them nevertheless."""

LARGEST = 2**31 - 1
"""The largest number that a pattern takes: indices and their products fit into 63 bits."""
Index = Any
"""Whole numbers that broadcast: an int, an int64 array or an int64 tensor."""
Truth = Any
"""What a comparison of such indices gives: a bool, or a bool array or tensor."""


class Bounds(NamedTuple):
    """The least and the largest whole number that a parameter takes."""

    least: int
    most: int = LARGEST


Positive = Annotated[int, Bounds(1)]
Natural = Annotated[int, Bounds(0)]


class Term(ABC):
    """One pattern with its parameters: a frozen dataclass of plain values with a name.

    Whole numbers are checked by the `Bounds` that their types name.

    Equal where the text is, which names the parameters that differ from their defaults, and
    ``sinks`` always: a mask without sinks measures their removal.
    """

    name: ClassVar[str]
    varies: ClassVar[bool] = False
    """Whether two layers or heads may see different keys."""
    needs_boundary: ClassVar[bool] = False
    """Whether it tells far from near."""
    bidirectional: ClassVar[bool] = False
    """Whether it has a meaning in encoders only."""
    goes_by_query: ClassVar[bool] = True
    """Whether what a query sees depends on where it stands."""
    crosses: ClassVar[bool] = True
    """Whether it has a meaning where a decoder attends to a source."""

    def __post_init__(self) -> None:
        bounds = _bounds(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # each is a dataclass
            if field.name in bounds:
                checks.count(field.name, getattr(self, field.name), **bounds[field.name]._asdict())

    @property
    def turns_keys(self) -> bool:
        """Whether keys are turned out of their rotary positions."""
        return False

    def __str__(self) -> str:
        written = []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.name == "sinks" or value != field.default:
                plain = list(value) if isinstance(value, tuple) else value
                written.append(f"{field.name}={plain!r}")
        return f"{self.name}({', '.join(written)})" if written else self.name


@dataclass(frozen=True)
class TermEntry:
    """What is known of a kind of pattern.

    Args:
        name: The name it has in a text.
        function: The dataclass, which makes a term of parameters.
        summary: First line of its docstring.
        parameters: Its parameters in the order of the fields.
    """

    name: str
    function: type[Term]
    summary: str
    parameters: tuple[inspect.Parameter, ...]


REGISTRY = Registry[TermEntry](
    "pattern",
    "a frozen dataclass",
    BUILTINS,
    ", and heads(pattern, layers=[...], heads=[...]), cross(pattern), encoder(pattern), "
    "decoder(pattern)",
)
names, get = REGISTRY.names, REGISTRY.get
TermType = TypeVar("TermType", bound=Term)


def register(name: str) -> Callable[[type[TermType]], type[TermType]]:
    """Give a kind of pattern its name.

    Args:
        name: The name in texts.

    Returns:
        The decorator of a frozen dataclass; its fields take plain values, and its
        ``__post_init__`` refuses wrong ones with a ValueError.

    Raises:
        ValueError: If *name* is no identifier or belongs to another pattern.
    """
    if name not in KEYWORDS:
        REGISTRY.check_name(name)

    def decorate(kind: type[TermType]) -> type[TermType]:
        REGISTRY.check_free(name, kind)
        kind.name = name
        parameters = tuple(inspect.signature(kind).parameters.values())
        REGISTRY.entries[name] = TermEntry(name, kind, summary(kind), parameters)
        return kind

    return decorate


@cache
def _bounds(kind: type[Term]) -> dict[str, Bounds]:
    """The bounds of a kind's whole numbers, by the name of the parameter."""
    hints = get_type_hints(kind, include_extras=True)
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: mark[0] for name, mark in marks.items() if mark and isinstance(mark[0], Bounds)}
