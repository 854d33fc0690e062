"""`dense`: every context length from 1 to some length, for every target."""

from dataclasses import dataclass

from probe.errors import UsageError
from probe.protocol.runs import Run


@dataclass(frozen=True)
class Dense:
    """Text begins at every token in turn, so that every target is seen behind every length.

    Source: Cífka & Liutkus 2023, section 3 (context length probing).

    Args:
        length: Tokens of a window.
        context: Longest context, tokens; what a target is compared with is this one.
        count: Number of targets, the last of the window.
    """

    length: int
    context: int
    count: int

    @property
    def targets(self) -> tuple[int, int]:
        """First target, and one past the last."""
        return self.length - self.count, self.length

    @property
    def reach(self) -> int:
        """Longest distance plus one; the distance is the length of the context."""
        return self.context + 1

    def runs(self, shared: bool) -> tuple[Run, ...]:
        """One run a start, rising: of every target the longest context comes first."""
        first, stop = self.targets
        return tuple(
            Run(start, max(first, start + 1), min(start + self.context + 1, stop))
            for start in range(first - self.context, stop - 1)
        )

    def curve_start(self, shared: bool) -> int:
        """All that is measured may be shown."""
        return 0

    def within(self, length: int, extra: int) -> "Dense":
        """The same in every window: all have one length."""
        return self


def dense(length: int, context: int, count: int | None = None) -> Dense:
    """Make a dense protocol.

    Args:
        length: Tokens of a window.
        context: Longest context, tokens.
        count: Number of targets, the last of the window; all that have so long a context by
            default.

    Raises:
        UsageError: If context and targets do not fit the window.
    """
    if not 1 <= context < length:
        raise UsageError(
            f"protocol.context is {context}; allowed: 1 to {length - 1}, windows have {length} "
            "tokens"
        )
    count = length - context if count is None else count
    if not 1 <= count <= length - context:
        raise UsageError(
            f"protocol.targets is {count}; allowed: 1 to {length - context}, the tokens behind a "
            f"context of {context} in windows of {length}"
        )
    return Dense(length, context, count)
