"""Protocols: which boundaries and which targets of a window are measured.

All indices here count the window's own tokens from 0; the kept first token is the business of
``probe.branches``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from probe.errors import UsageError

DEFAULT_RUNS: Mapping[int, int] = {1: 1, 4: 2, 8: 2, 64: 16}
ALONE = 8  # the long run alone is shown from reach / ALONE on


class Run(NamedTuple):
    """One boundary and the consecutive targets measured behind it.

    Args:
        boundary: Index of the first intact token.
        first: Index of the first target.
        stop: One past the last target.
    """

    boundary: int
    first: int
    stop: int


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


@dataclass(frozen=True)
class Grid:
    """Targets are fixed, the boundary moves over a list of distances (Sun et al. 2021).

    Args:
        length: Tokens of a window.
        distances: Distances of the first target from the boundary, tokens.
        count: Number of targets.
        end_offset: How many tokens before the window's end the targets end.
    """

    length: int
    distances: Sequence[int]
    count: int
    end_offset: int

    @property
    def targets(self) -> tuple[int, int]:
        """The fixed targets."""
        stop = self.length - self.end_offset
        return stop - self.count, stop

    @property
    def reach(self) -> int:
        """Longest distance plus one."""
        return max(self.distances) + self.count

    def runs(self, shared: bool) -> tuple[Run, ...]:
        """One boundary a distance, the longest distance first, so that nested far texts share."""
        first, stop = self.targets
        return tuple(Run(first - d, first, stop) for d in sorted(set(self.distances), reverse=True))

    def curve_start(self, shared: bool) -> int:
        """Every condition is measured at every distance."""
        return 0

    def within(self, length: int, extra: int) -> "Grid":
        """The same in every window: all have one length."""
        return self


@dataclass(frozen=True)
class LongPPL:
    """A short context slides over the whole document (Fang et al. 2025 and their code).

    Every token behind the first *context* is a target once, behind ``context`` to ``context +
    stride - 1`` tokens. The first short context is the document's own beginning: nothing is cut
    off there, and its targets can be no key tokens.

    Args:
        length: Tokens of a window, which is a document or its beginning.
        context: Fewest tokens of a short context, K.
        stride: By how many tokens it moves, and targets of each.
        extra: Tokens put in front of the window (a BOS); the published indices count them.
    """

    length: int
    context: int
    stride: int
    extra: int = 0

    @property
    def targets(self) -> tuple[int, int]:
        """Every token: keys of another tokenizer may lie anywhere."""
        return 0, self.length

    @property
    def reach(self) -> int:
        """Longest distance plus one."""
        return self.context + self.stride

    def runs(self, shared: bool) -> tuple[Run, ...]:
        """One boundary a short context, from the document's first token on."""
        stop = self.length + self.extra
        return tuple(
            Run(
                max(0, start - self.extra),
                start + self.context - self.extra,
                min(start + self.reach, stop) - self.extra,
            )
            for start in range(0, stop - self.context, self.stride)
        )

    def curve_start(self, shared: bool) -> int:
        """All that is measured may be shown."""
        return 0

    def within(self, length: int, extra: int) -> "LongPPL":
        """The same in a window of *length* tokens with *extra* tokens in front of it."""
        return replace(self, length=length, extra=extra)


Plan = Sweep | Grid | LongPPL


def _stagger(rank: int) -> float:
    """0, ½, ¼, ¾, …: runs of different lengths that began together would measure equal targets."""
    return int(f"{rank:b}"[::-1], 2) / (1 << rank.bit_length())


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
            f"protocol.runs is {runs}; allowed: {{1: 1, …}}, one long run, then others"
        )
    if not 0 <= spread <= 1:
        raise UsageError(f"protocol.spread is {spread}; allowed: 0 to 1")
    return Sweep(length, reach, runs, spread, all_runs)


def grid(length: int, distances: Sequence[int], *, count: int = 10, end_offset: int = 40) -> Grid:
    """Make a grid.

    Args:
        length: Tokens of a window.
        distances: Distances of the first target from the boundary, tokens.
        count: Number of targets.
        end_offset: How many tokens before the window's end the targets end.

    Raises:
        UsageError: If targets or distances do not fit the window.
    """
    first = length - end_offset - count
    if count < 1 or end_offset < 0 or first < 1:
        raise UsageError(
            f"protocol.targets: {count} targets ending {end_offset} tokens before the end do not "
            f"fit windows of {length} tokens"
        )
    bad = [d for d in distances if not 0 <= d < first]
    if bad or not distances:
        raise UsageError(
            f"protocol.distances is {list(distances)}; allowed: one or more from 0 to {first - 1}, "
            "what stands before the first target"
        )
    return Grid(length, tuple(distances), count, end_offset)


def longppl(length: int | None, context: int = 4096, stride: int = 1024) -> LongPPL:
    """Make a LongPPL protocol.

    Args:
        length: Longest window, ``None`` where nothing limits it.
        context: Fewest tokens of a short context.
        stride: By how many tokens it moves; at least 2.

    Raises:
        UsageError: If no short context fits.
    """
    if stride < 2:
        raise UsageError(f"protocol.stride is {stride}; allowed: at least 2")
    longest = context + 2 * stride if length is None else length
    if not 1 <= context <= longest - 2:
        raise UsageError(
            f"protocol.context is {context}; allowed: 1 to {longest - 2}, windows have up to "
            f"{longest} tokens"
        )
    return LongPPL(longest, context, stride)
