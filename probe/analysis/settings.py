"""How a run is read: what ``analysis`` in a configuration says."""

from dataclasses import dataclass
from typing import Self

from probe.results.record import Record
from probe.results.tolerance import Tolerance, parse_tolerance

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
        predict: Whether what is known of documents that were not scored narrows the intervals.
    """

    tolerances: tuple[Tolerance, ...] = tuple(map(parse_tolerance, DEFAULT_TOLERANCES))
    bins_per_octave: int = 8
    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0
    simultaneous: bool = False
    classes: tuple[str, ...] | None = None
    predict: bool = True

    @classmethod
    def from_record(cls, facts: Record) -> Self:
        """The analysis that ``run.json`` asks for; what it does not say has its default.

        Of a run that stops once an interval is narrow, the confidence is that of the last look.
        """
        asked = facts.config.analysis
        said = {
            name: getattr(asked, name)
            for name in ("bins_per_octave", "resamples", "confidence", "simultaneous", "predict")
            if getattr(asked, name) is not None
        }
        if facts.precision is not None and facts.precision.looks:
            said["confidence"] = facts.precision.looks[-1].confidence
        return cls(
            tolerances=tuple(map(parse_tolerance, asked.tolerances or DEFAULT_TOLERANCES)),
            seed=facts.config.seed or 0,
            classes=None if asked.classes is None else tuple(asked.classes),
            **said,
        )
