"""`sweep`: the boundary stands still, and every token behind it is a target."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from probe.errors import UsageError
from probe.protocols.base import ANY_MODEL, ModelFacts, Plan, Protocol, WindowsConfig
from probe.protocols.branches import TargetRun
from probe.protocols.registry import register

DEFAULT_RUNS: Mapping[int, int] = {1: 1, 4: 2, 8: 2, 64: 16}
ALONE = 8  # the long run alone is shown from reach / ALONE on


@register
class SweepProtocol(Protocol):
    """The boundary stands still, every token behind it is a target."""

    order = 10
    allows_patterns = True

    kind: Literal["sweep"] = "sweep"
    reach: PositiveInt | None = None
    """longest distance plus one, tokens; null is half the window"""
    runs: dict[PositiveInt, PositiveInt] = Field(default_factory=lambda: dict(DEFAULT_RUNS))
    """how many boundaries have reach / key targets each, by key"""
    spread: Annotated[float, Field(ge=0, le=1)] = 0.25
    """over which share of reach behind the first boundary the short runs begin"""
    all_runs: bool = False
    """short runs also for conditions that share no far text between boundaries"""
    insist: bool = False
    """allow a reach beyond half the window"""

    @field_validator("runs")
    @classmethod
    def _long_run(cls, runs: dict[int, int]) -> dict[int, int]:
        if runs.get(1) != 1:
            raise ValueError("allowed: {1: 1, …}, one long run over the whole reach, then others")
        return runs

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "SweepPlan":
        """What is measured of such windows.

        Raises:
            UsageError: If the reach does not fit them.
        """
        length = windows.fixed
        reach = length // 2 if self.reach is None else self.reach
        most = length - 1 if self.insist else length // 2
        if not 1 <= reach <= most:
            hint = "" if self.insist else ", half the window; `insist: true` allows more"
            raise UsageError(f"protocol.reach is {reach}; allowed: 1 to {most}{hint}")
        return SweepPlan(windows, model, reach, self.runs, self.spread, self.all_runs)


@dataclass(frozen=True)
class SweepPlan(Plan):
    """One long run holds each distance once; shorter runs fill the short distances.

    The shorter ones are spread over the text behind the first boundary. Source: ours, the default.

    Args:
        longest: Tokens of the long run: the longest distance plus one.
        counts: How many runs of ``longest / key`` tokens, by key; holds ``{1: 1}``.
        spread: Over which share of *longest* behind the first boundary the short runs begin. Far
            context is forwarded up to the last boundary, so a wide spread costs tokens.
        all_runs: Let conditions that share nothing between boundaries have the short runs too.
    """

    longest: int
    counts: Mapping[int, int]
    spread: float = 0.25
    all_runs: bool = False

    @cached_property
    def _runs(self) -> tuple[TargetRun, ...]:
        start = self.length - self.longest
        taken: set[int] = set()
        runs = []
        for rank, (divisor, count) in enumerate(sorted(self.counts.items()), start=-1):
            targets = self.longest // divisor
            if targets < 1:
                continue
            width = min(round(self.spread * self.longest), self.longest - targets)
            for number in range(count):
                place = 0 if divisor == 1 else (number + 1 - _stagger(rank)) * width / count
                boundary = start + round(place)
                while boundary in taken:  # an equal boundary would measure the same targets twice
                    boundary += 1
                if boundary + targets <= self.length:
                    taken.add(boundary)
                    runs.append(TargetRun(boundary, boundary, boundary + targets))
        return tuple(runs)

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """The long run, and the short ones where their far context is shared."""
        return self._runs if shared or self.all_runs else self._runs[:1]

    def curve_start(self, shared: bool) -> int:
        """The long run alone measures a short distance too seldom to be shown."""
        alone = len(self.counts) > 1 and not (shared or self.all_runs)
        return self.longest // ALONE if alone else 0


def _stagger(rank: int) -> float:
    """0, ½, ¼, ¾, …: runs of different lengths that began together would measure equal targets."""
    return int(f"{rank:b}"[::-1], 2) / (1 << rank.bit_length())
