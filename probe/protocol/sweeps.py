"""`sweep`: the boundary stands still, and every token behind it is a target."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from probe.errors import UsageError
from probe.protocol.runs import Run
from probe.text import shown

DEFAULT_RUNS: Mapping[int, int] = {1: 1, 4: 2, 8: 2, 64: 16}
ALONE = 8  # the long run alone is shown from reach / ALONE on


@dataclass(frozen=True)
class Sweep:
    """The boundary stands still and every token behind it is a target (design: ours, the default).

    One long run holds each distance below *reach* once; shorter runs, spread over the text behind
    the first boundary, fill the short distances.

    Args:
        length: Tokens of a window.
        reach: Longest distance plus one.
        lengths: How many runs of ``reach / key`` tokens, by key; must hold ``{1: 1}``.
        spread: Over which share of *reach* behind the first boundary the short runs begin. Far
            context is forwarded up to the last boundary, so a wide spread costs tokens.
        all_runs: Let conditions that share nothing between boundaries have the short runs too.
    """

    length: int
    reach: int
    lengths: Mapping[int, int]
    spread: float = 0.25
    all_runs: bool = False

    @cached_property
    def _runs(self) -> tuple[Run, ...]:
        start = self.length - self.reach
        taken: set[int] = set()
        runs = []
        for rank, (divisor, count) in enumerate(sorted(self.lengths.items()), start=-1):
            targets = self.reach // divisor
            if targets < 1:
                continue
            room = min(round(self.spread * self.reach), self.reach - targets)
            for number in range(count):
                place = 0 if divisor == 1 else (number + 1 - _stagger(rank)) * room / count
                boundary = start + round(place)
                while boundary in taken:  # an equal boundary would measure the same targets twice
                    boundary += 1
                if boundary + targets <= self.length:
                    taken.add(boundary)
                    runs.append(Run(boundary, boundary, boundary + targets))
        return tuple(runs)

    def runs(self, shared: bool) -> tuple[Run, ...]:
        """The long run, and the short ones where their far context is shared."""
        return self._runs if shared or self.all_runs else self._runs[:1]

    @property
    def targets(self) -> tuple[int, int]:
        """Every token behind the first boundary."""
        return self.length - self.reach, self.length

    def curve_start(self, shared: bool) -> int:
        """The long run alone measures a short distance too seldom to be shown."""
        alone = len(self.lengths) > 1 and not (shared or self.all_runs)
        return self.reach // ALONE if alone else 0

    def within(self, length: int, extra: int) -> "Sweep":
        """The same in every window: all have one length."""
        return self


def sweep(
    length: int,
    reach: int | None = None,
    *,
    lengths: Mapping[int, int] | None = None,
    spread: float = 0.25,
    all_runs: bool = False,
    insist: bool = False,
) -> Sweep:
    """Make a sweep.

    Args:
        length: Tokens of a window.
        reach: Longest distance plus one; half the window by default.
        lengths: Runs, see :class:`Sweep`; one near run of R, 2 of R/4, 2 of R/8 and 16 of R/64 by
            default.
        spread: See :class:`Sweep`.
        all_runs: See :class:`Sweep`.
        insist: Allow a *reach* beyond half the window, where far becomes shorter than near.

    Raises:
        UsageError: If the reach does not fit the window.
    """
    reach = length // 2 if reach is None else reach
    most = length - 1 if insist else length // 2
    if not 1 <= reach <= most:
        hint = "" if insist else ", half the window; `insist: true` allows more"
        raise UsageError(f"protocol.reach is {reach}; allowed: 1 to {most}{hint}")
    runs = dict(DEFAULT_RUNS if lengths is None else lengths)
    if runs.get(1) != 1 or min(runs) < 1 or min(runs.values()) < 1:
        raise UsageError(
            f"protocol.runs is {shown(runs)}; allowed: {{1: 1, …}}, one long run, then others"
        )
    if not 0 <= spread <= 1:
        raise UsageError(f"protocol.spread is {spread}; allowed: 0 to 1")
    return Sweep(length, reach, runs, spread, all_runs)


def _stagger(rank: int) -> float:
    """0, ½, ¼, ¾, …: runs of different lengths that began together would measure equal targets."""
    return int(f"{rank:b}"[::-1], 2) / (1 << rank.bit_length())
