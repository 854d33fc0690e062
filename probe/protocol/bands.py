"""`band`: only the tokens of a band of distances are perturbed, what lies further stays intact."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from probe.errors import UsageError
from probe.protocol.fixed import Fixed
from probe.protocol.runs import Run
from probe.text import shown


@dataclass(frozen=True)
class Band(Fixed):
    """Targets are fixed, and each band of distances before them is perturbed in turn.

    Source: Khandelwal et al. 2018, section 5; O'Connor & Andreas 2021, section 3.

    Args:
        edges: Distances between which the bands lie, tokens, rising: ``[0, 64, 256]`` are the
            bands 0–63 and 64–255. Distance 0 is the token right before the first target.
    """

    edges: Sequence[int] = (0, 1)

    @property
    def reach(self) -> int:
        """Longest distance of a boundary plus one."""
        return self.edges[-2] + (1 if self.alone else self.count)

    def runs(self, shared: bool) -> tuple[Run, ...]:
        """One run a band and sequence, the furthest band first: its prefix is the shortest."""
        return tuple(
            Run(first - near, first, stop, start=max(0, first - far))
            for near, far in reversed(list(pairwise(self.edges)))
            for first, stop in self.sequences()
        )

    def within(self, length: int, extra: int) -> "Band":
        """The same in every window: all have one length."""
        return self


def band(
    length: int,
    edges: Sequence[int],
    *,
    count: int = 10,
    end_offset: int = 40,
    alone: bool = False,
) -> Band:
    """Make a band protocol.

    Args:
        length: Tokens of a window.
        edges: See :class:`Band`.
        count: Number of targets.
        end_offset: How many tokens before the window's end the targets end.
        alone: Whether every target has a sequence of its own.

    Raises:
        UsageError: If targets or bands do not fit the window.
    """
    plan = Band(length, count, end_offset, alone, tuple(edges))
    most = plan.room()
    rising = all(near < far for near, far in pairwise(edges))
    if len(edges) < 2 or not rising or edges[0] < 0 or edges[-1] > most:
        raise UsageError(
            f"protocol.edges is {shown(list(edges))}; allowed: two or more rising distances from 0 "
            f"to {most}, what stands before the first target"
        )
    return plan
