"""`sweep`: the boundary stands still, and every token behind it is a target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, PositiveInt, field_validator

from probe.corpus.windows import Document, Place, Window, slots, window_at
from probe.errors import ProbeError, UsageError
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
    allows_characters = True

    kind: Literal["sweep"] = "sweep"
    reach: PositiveInt | None = None
    """longest distance plus one, in windows.unit; null is half the window"""
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
        plan = SweepPlan if windows.unit == "tokens" else CharacterSweepPlan
        return plan(windows, model, reach, self.runs, self.spread, self.all_runs)


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


@dataclass(frozen=True)
class CharacterSweepPlan(SweepPlan):
    """The same sweep, its windows and boundaries at characters that any tokenizer would cut at.

    A window holds the tokens that begin in it, a boundary is the first token that begins at its
    character or behind, and so is one past the last target of a run. Before the windows are known,
    and where no window is at hand, boundaries are characters. Rows count distances in tokens: the
    curve ends where fewer than 9 in 10 windows have targets.

    Args:
        placed: The runs of the window at hand, in tokens.
        measured: Tokens of the windows, once they are known.
    """

    placed: tuple[TargetRun, ...] = ()
    measured: "_Measured | None" = None
    forwarded: ClassVar[str] = "the longest window has, in tokens,"

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """Those of the window at hand, else where they lie in characters."""
        runs = self.placed or self._runs
        return runs if shared or self.all_runs else runs[:1]

    @property
    def targets(self) -> tuple[int, int]:
        """First target of any window, and one past the last."""
        known = self.measured
        return super().targets if self.placed or not known else (known.first, known.longest)

    @property
    def reach(self) -> int:
        """Longest distance plus one that 9 in 10 windows have."""
        return self.measured.reach if self.measured else self.longest

    @property
    def longest_far(self) -> int:
        """Most tokens of a far text."""
        return self.measured.far if self.measured else super().longest_far

    @property
    def longest_forward(self) -> int | None:
        """Tokens of the longest window."""
        return self.measured.longest if self.measured else None

    def curve_start(self, shared: bool) -> int:
        """As in tokens, of the reach in tokens."""
        return self.reach // ALONE if super().curve_start(shared) else 0

    def usable(self, documents: Sequence[Document], seed: int) -> Sequence[Document]:
        """Those with a window that has tokens before its boundary and behind.

        Raises:
            ProbeError: If there is none.
        """
        if found := [document for document in documents if self.windows(document, seed)]:
            return found
        raise ProbeError(
            f"no document has a window of {self.length} characters with a token before its last "
            f"{self.longest} and one among them; allowed: longer windows"
        )

    def windows(self, document: Document, seed: int) -> list[Window]:
        """The windows of a document, numbered alike for every tokenizer."""
        found = []
        for index, begin in enumerate(self._slots(document, seed)):
            start, boundary, stop = document.first_from(
                [begin, begin + self.length - self.longest, begin + self.length]
            ).tolist()
            if start < boundary < stop:
                found.append(window_at(document, index=index, start=start, length=stop - start))
        return found

    def with_places(
        self, places: Sequence[Place], documents: Mapping[str, Document], seed: int
    ) -> Self:
        """The same, now that the tokens of every window are known."""
        boundaries = []
        for place in places:
            runs = self._in_tokens(documents[place.document], place.window, place.start, seed)
            boundaries.append([run.boundary for run in runs])
        behind = sorted(p.length - own[0] for p, own in zip(places, boundaries, strict=True))
        measured = _Measured(
            first=min(map(min, boundaries)),
            far=max(map(max, boundaries)),
            reach=behind[len(behind) // 10],
            longest=max(place.length for place in places),
        )
        return replace(self, measured=measured)

    def of_window(self, window: Window, document: Document, seed: int) -> Self:
        """The runs of a window, in tokens."""
        return replace(self, placed=self._in_tokens(document, window.index, window.start, seed))

    def _slots(self, document: Document, seed: int) -> list[int]:
        """First character of each window."""
        return slots(
            document.id,
            document.size("characters"),
            length=self.length,
            per_document=self.settings.per_document,
            skip=self.settings.skip,
            seed=seed,
        )

    def _in_tokens(
        self, document: Document, index: int, start: int, seed: int
    ) -> tuple[TargetRun, ...]:
        """The runs of a window: one with targets for each token that a boundary falls on."""
        begin = self._slots(document, seed)[index]
        characters = begin + np.array([[run.boundary, run.stop] for run in self._runs])
        runs: dict[int, TargetRun] = {}
        for boundary, stop in (document.first_from(characters) - start).tolist():
            if boundary < stop:
                runs.setdefault(boundary, TargetRun(boundary, boundary, stop))
        return tuple(runs.values())


class _Measured(NamedTuple):
    """Tokens of windows that are cut by characters.

    Args:
        first: Those before the first boundary, in the window with the fewest.
        far: Those before the last boundary, in the window with the most.
        reach: Those behind the first boundary, fewer than which one in ten windows has at most.
        longest: Those of the longest window.
    """

    first: int
    far: int
    reach: int
    longest: int


def _stagger(rank: int) -> float:
    """0, ½, ¼, ¾, …: runs of different lengths that began together would measure equal targets."""
    return int(f"{rank:b}"[::-1], 2) / (1 << rank.bit_length())
