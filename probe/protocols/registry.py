"""What reading a run must know of its protocol, by kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from probe.results.views import Reading


@dataclass(frozen=True)
class Facts:
    """What the answer of a protocol rests on.

    Args:
        finding: Name of the finding that answers it.
        has_length: Whether all that lies further than a distance is perturbed.
        has_same_targets: Whether the same targets are measured at every distance.
    """

    finding: str = "curve"
    has_length: bool = True
    has_same_targets: bool = False


_FACTS = {
    "grid": Facts(has_same_targets=True),
    "band": Facts("bands", False),
    "passages": Facts("passages", False),
    "suffix": Facts("suffix", False),
    "longppl": Facts("longppl"),
    "dense": Facts("dense"),
}


def facts(kind: str | None) -> Facts:
    """What is known of a kind; one that is not known is read as a curve."""
    return _FACTS.get(str(kind), Facts())


def reading(record: Mapping[str, Any]) -> Reading:
    """How the rows of a run are read."""
    protocol = (record.get("config") or {}).get("protocol") or {}
    kind, context = protocol.get("kind"), protocol.get("context")
    if kind == "dense" and type(context) is int:
        return Reading(far_tokens=f"{context} - distance")
    if kind == "suffix":
        return Reading(alternatives="distractor(number=")
    return Reading(needs_far_start=kind in ("band", "passages"))
