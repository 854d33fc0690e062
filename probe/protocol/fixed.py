"""Targets that stand at the same place in every window."""

from dataclasses import dataclass

from probe.errors import UsageError


@dataclass(frozen=True)
class Fixed:
    """Some consecutive targets near the end of each window.

    Args:
        length: Tokens of a window.
        count: Number of targets.
        end_offset: How many tokens before the window's end the targets end.
        alone: Whether every target has a sequence, and so a far context, of its own; without, all
            stand in one sequence behind one boundary.
    """

    length: int
    count: int
    end_offset: int
    alone: bool

    @property
    def targets(self) -> tuple[int, int]:
        """First target, and one past the last."""
        stop = self.length - self.end_offset
        return stop - self.count, stop

    def sequences(self) -> tuple[tuple[int, int], ...]:
        """First target, and one past the last, of each sequence."""
        first, stop = self.targets
        return tuple((t, t + 1) for t in range(first, stop)) if self.alone else ((first, stop),)

    def curve_start(self, shared: bool) -> int:
        """Every condition is measured at every distance."""
        return 0

    def room(self) -> int:
        """Find out whether the targets fit the window.

        Returns:
            Tokens before the first target: the longest distance that can be asked for.

        Raises:
            UsageError: If they do not.
        """
        first, _ = self.targets
        if self.count < 1 or self.end_offset < 0 or first < 1:
            raise UsageError(
                f"protocol.targets: {self.count} targets ending {self.end_offset} tokens before "
                f"the end do not fit windows of {self.length} tokens"
            )
        return first
