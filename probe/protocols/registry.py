"""Protocols by kind: registering one, finding one, listing all; and how rows of each are read."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from probe.protocols.base import Protocol
from probe.results.record import Reading
from probe.text import shown

PACKAGE = "probe.protocols"
Kind = TypeVar("Kind", bound=Protocol)

_KINDS: dict[str, type[Protocol]] = {}


def register(protocol: type[Kind]) -> type[Kind]:
    """Register a protocol under its kind, in this package or in a file of the user's own.

    Raises:
        ValueError: If ``kind`` has no default, or belongs to another protocol.
    """
    kind = protocol.model_fields["kind"].default
    if not isinstance(kind, str):
        raise ValueError(
            f"{protocol.__qualname__} has no kind; allowed: kind: Literal['name'] = 'name'"
        )
    if not is_builtin(protocol):
        _import_builtins()  # so that a kind of theirs is taken, whoever is imported first
    known = _KINDS.get(kind)
    # Not identity: a module that is reloaded, or a notebook cell run again, may register again.
    if known is not None and _origin(known) != _origin(protocol):
        raise ValueError(
            f"protocol {kind!r} is already {_origin(known)}; choose another kind for "
            f"{_origin(protocol)}"
        )
    _KINDS[kind] = protocol
    return protocol


def protocols() -> tuple[type[Protocol], ...]:
    """All that are registered, in the order in which they are listed."""
    _import_builtins()
    return tuple(sorted(_KINDS.values(), key=lambda protocol: protocol.order))


def kinds(has: Callable[[type[Protocol]], bool] = lambda _: True) -> tuple[str, ...]:
    """The kinds of all that are registered, in the order in which they are listed.

    Args:
        has: What a protocol must have.
    """
    return tuple(kind_of(protocol) for protocol in protocols() if has(protocol))


def kind_of(protocol: type[Protocol]) -> str:
    """The name of a protocol in configurations."""
    return str(protocol.model_fields["kind"].default)


def protocol_of(kind: object) -> type[Protocol] | None:
    """The protocol of a kind, ``None`` where none is registered in this process."""
    _import_builtins()
    return _KINDS.get(kind) if isinstance(kind, str) else None


def is_builtin(protocol: type[Protocol]) -> bool:
    """Whether a protocol is one of this package."""
    return protocol.__module__.rpartition(".")[0] == PACKAGE


def facts(kind: str | None) -> type[Protocol]:
    """What is known of a kind; one that is not registered is read as a curve."""
    return protocol_of(kind) or Protocol


def needs(kind: str | None) -> Mapping[str, int]:
    """What must stand in ``run.json`` under ``config.protocol`` for its rows to be read.

    Returns:
        Whole numbers by key, each with the lowest that is allowed.
    """
    return facts(kind).needs


def reading(record: Mapping[str, Any]) -> Reading:
    """How the rows of a run are read.

    Args:
        record: Content of its ``run.json``.
    """
    options = (record.get("config") or {}).get("protocol") or {}
    kind = options.get("kind")
    if kind is not None and protocol_of(kind) is None:
        return Reading(
            caveat=f"protocol {shown(kind)} is not registered here: what it measured is read as a "
            "curve"
        )
    return facts(kind).reading(options)


@cache
def _import_builtins() -> None:
    """Import the modules of this package, which register their protocols."""
    for module in iter_modules(import_module(PACKAGE).__path__):
        import_module(f"{PACKAGE}.{module.name}")


def _origin(protocol: type[Protocol]) -> str:
    return f"{protocol.__module__}.{protocol.__qualname__}"
