"""`grid`: targets are fixed, the boundary moves over a list of distances."""

from collections.abc import Sequence
from dataclasses import dataclass

from probe.errors import UsageError
from probe.protocol.fixed import Fixed
from probe.protocol.runs import Run
from probe.text import shown


@dataclass(frozen=True)
class Grid(Fixed):
    """Targets are fixed, the boundary moves over a list of distances (Sun et al. 2021).

    Args:
        distances: Distances of the first target of a sequence from the boundary, tokens.
    """

    distances: Sequence[int] = (0,)

    @property
    def reach(self) -> int:
        """Longest distance plus one."""
        return max(self.distances) + (1 if self.alone else self.count)

    def runs(self, shared: bool) -> tuple[Run, ...]:
        """One boundary a distance, the longest distance first, so that nested far texts share."""
        return tuple(
            Run(first - d, first, stop)
            for d in sorted(set(self.distances), reverse=True)
            for first, stop in self.sequences()
        )

    def within(self, length: int, extra: int) -> "Grid":
        """The same in every window: all have one length."""
        return self


def grid(
    length: int,
    distances: Sequence[int],
    *,
    count: int = 10,
    end_offset: int = 40,
    alone: bool = False,
) -> Grid:
    """Make a grid.

    Args:
        length: Tokens of a window.
        distances: See :class:`Grid`.
        count: Number of targets.
        end_offset: How many tokens before the window's end the targets end.
        alone: Whether every target has a sequence of its own.

    Raises:
        UsageError: If targets or distances do not fit the window.
    """
    plan = Grid(length, count, end_offset, alone, tuple(distances))
    most = plan.room()
    bad = [d for d in distances if not 0 <= d < most]
    if bad or not distances:
        raise UsageError(
            f"protocol.distances is {shown(list(distances))}; allowed: one or more from 0 to "
            f"{most - 1}, what stands before the first target"
        )
    return plan
