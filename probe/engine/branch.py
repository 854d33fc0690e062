"""What the engine scores: a sequence of tokens, what attention may see, the span of its targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probe.attention.patterns import Pattern

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Attention:
    """How a sequence is attended to.

    Args:
        pattern: The pattern.
        boundary: Index of the first near token in the sequence, where the pattern tells far from
            near.
    """

    pattern: Pattern
    boundary: int | None = None


@dataclass(frozen=True, eq=False)
class Branch:
    """Token ids at positions 0, 1, 2, …, and the targets among them.

    Args:
        ids: Token ids, shape ``(n,)``, int64.
        keys: What decides sharing, shape ``(n,)``, int64: two branches share a prefix where
            their keys agree. Equal to ``ids`` unless a branch must not be shared (``noise``).
        first: Index of the first target in ``ids``, at least 1: a target needs a token before it.
        stop: One past the last target.
        origin: Where the first target stands in the window; the same target of two branches
            has the same place, so KL compares like with like.
        positions: Position ids where they are not 0, 1, 2, …, shape ``(n,)``, int64.
        attention: What attention may see; ``None`` is the model's own.
    """

    ids: NDArray[np.int64]
    keys: NDArray[np.int64]
    first: int
    stop: int
    origin: int
    positions: NDArray[np.int64] | None = None
    attention: Attention | None = None

    @property
    def places(self) -> NDArray[np.int64]:
        """Position ids, shape ``(n,)``."""
        return np.arange(len(self.ids)) if self.positions is None else self.positions

    @property
    def shape(self) -> tuple[object, ...]:
        """Equal where windows can be walked together: length, targets, positions, attention."""
        places = None if self.positions is None else self.positions.tobytes()
        return len(self.ids), self.first, self.stop, self.origin, places, self.attention

    @property
    def targets(self) -> int:
        """Number of targets."""
        return self.stop - self.first

    @property
    def labels(self) -> NDArray[np.int64]:
        """Ids of the targets, shape ``(targets,)``."""
        return self.ids[self.first : self.stop]


def columns(branches: Sequence[Branch]) -> NDArray[np.int64]:
    """What decides which tokens are shared: one column a token, keys above, positions below.

    Args:
        branches: The same branch of several windows, of equal length and positions.

    Returns:
        Shape ``(windows + 1, n)``.
    """
    return np.stack([*(branch.keys for branch in branches), branches[0].places])


def by_attention(branches: Sequence[Branch]) -> dict[Attention | None, list[int]]:
    """Numbers of the branches by what attention may see: no others can share a token.

    Those with the model's own attention come first, the intact text among them, which ``kl``
    compares with.
    """
    found: dict[Attention | None, list[int]] = {None: []}
    for number, branch in enumerate(branches):
        found.setdefault(branch.attention, []).append(number)
    return {attention: numbers for attention, numbers in found.items() if numbers}


TOGETHER = 64  # branches of one prefix tree: of more, comparing them would take its time
Reference = int | Sequence[int] | None


class Intact:
    """Hidden states of the intact text by a target's place in the window.

    Args:
        branches: The intact branches.
        windows: Windows walked together.
    """

    def __init__(self, branches: Sequence[Branch], windows: int) -> None:
        self.windows = windows
        self.low = min(branch.origin for branch in branches)
        high = max(branch.origin + branch.targets for branch in branches)
        self.known = np.zeros(high - self.low, dtype=bool)
        self.states: torch.Tensor | None = None

    def keep(self, place: int, states: "torch.Tensor") -> None:
        """Keep what predicts consecutive targets.

        Args:
            place: Place of the first of them.
            states: Shape ``(windows, m, d)``.
        """
        if self.states is None:
            shape = (self.windows, len(self.known), states.shape[-1])
            self.states = states.new_empty(shape)
        rows = self.rows(place, states.shape[1])
        self.states[:, rows] = states
        self.known[rows] = True

    def rows(self, place: int, count: int) -> slice:
        """Where consecutive targets stand in ``states``."""
        return slice(place - self.low, place - self.low + count)

    def holds(self, place: int, count: int) -> bool:
        """Whether all of some consecutive targets are known."""
        return bool(self.known[self.rows(place, count)].all())

    def numbers(self, place: int, count: int) -> np.ndarray:
        """Rows of consecutive targets in all windows' states, one window behind the other.

        Returns:
            Shape ``(windows * count,)``, int64.
        """
        rows = np.arange(place - self.low, place - self.low + count)
        return (np.arange(self.windows)[:, None] * len(self.known) + rows).ravel()


def several(reference: Reference) -> bool:
    """Whether targets have intact branches of their own."""
    return isinstance(reference, Sequence) and len(reference) > 1


def together(branches: Sequence[Branch], reference: Reference) -> list[list[int]]:
    """Which branches go through one prefix tree: all, or, of very many, some after the others.

    Args:
        branches: The branches of a window.
        reference: Which of them are intact. With one of them all belong together; with several,
            branches next to each other whose tokens are the same do.

    Returns:
        Numbers of branches, in order.
    """
    if not several(reference):
        return [list(range(len(branches)))]
    parts: list[list[int]] = [[]]
    for number, branch in enumerate(branches):
        full = len(parts[-1]) >= TOGETHER
        if full and not np.array_equal(branch.keys, branches[number - 1].keys):
            parts.append([])
        parts[-1].append(number)
    return parts
