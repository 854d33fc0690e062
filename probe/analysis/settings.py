"""How a run is read: what ``analysis`` in a configuration says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from probe.analysis.tolerance import Tolerance, parse_tolerance
from probe.errors import UsageError

DEFAULT_TOLERANCES = ("1%", "2%", "5%", "10%")


@dataclass(frozen=True)
class Analysis:
    """How a run is read; no part of its identity.

    Args:
        tolerances: In the order in which they are reported.
        bins_per_octave: Bins between powers of two, from distance 8 on.
        resamples: Resamples of the documents.
        confidence: Confidence of every interval.
        seed: Seed of the resamples.
        simultaneous: Whether the bands hold for all bins of a curve at once.
        classes: Token classes to read the run by; ``None`` is the built-in ones.
    """

    tolerances: tuple[Tolerance, ...] = tuple(map(parse_tolerance, DEFAULT_TOLERANCES))
    bins_per_octave: int = 8
    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0
    simultaneous: bool = False
    classes: tuple[str, ...] | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The analysis that ``run.json`` asks for; what it does not say has its default.

        Raises:
            UsageError: If a tolerance is not understood or a number is out of range.
        """
        config = record.get("config") or {}
        asked = config.get("analysis") or {}
        tolerances = asked.get("tolerances") or DEFAULT_TOLERANCES
        classes = asked.get("classes")
        made = cls(
            tolerances=tuple(parse_tolerance(text) for text in tolerances),
            bins_per_octave=int(asked.get("bins_per_octave", 8)),
            resamples=int(asked.get("resamples", 2000)),
            confidence=float(asked.get("confidence", 0.95)),
            seed=int(config.get("seed") or 0),
            simultaneous=bool(asked.get("simultaneous", False)),
            classes=None if classes is None else tuple(map(str, classes)),
        )
        if not 0 < made.confidence < 1:
            raise UsageError(
                f"analysis.confidence is {made.confidence}: between 0 and 1 is allowed"
            )
        if made.resamples < 1:
            raise UsageError(f"analysis.resamples is {made.resamples}: at least 1 is needed")
        return made
