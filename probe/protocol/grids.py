"""`grid`: targets are fixed, the boundary moves over a list of distances."""

from collections.abc import Sequence
from dataclasses import dataclass

from probe.errors import UsageError
from probe.protocol.runs import Run


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
