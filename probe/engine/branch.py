"""What the engine scores: a sequence of tokens, what attention may see, the span of its targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.attention.pattern import Pattern

MOST_BRANCHES = 64
"""Branches of one prefix tree: of more, comparing them would take its time."""
References = int | Sequence[int] | None
"""The number of the intact branch, or of several, each the reference of its own targets."""


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
    numbers: dict[Attention | None, list[int]] = {None: []}
    for number, branch in enumerate(branches):
        numbers.setdefault(branch.attention, []).append(number)
    return {attention: group for attention, group in numbers.items() if group}


def has_several(references: References) -> bool:
    """Whether targets have intact branches of their own."""
    return isinstance(references, Sequence) and len(references) > 1


def tree_groups(branches: Sequence[Branch], references: References) -> list[list[int]]:
    """Which branches go through one prefix tree: all, or, of very many, some after the others.

    Args:
        branches: The branches of a window.
        references: Which of them are intact. With one of them all belong together; with several,
            branches next to each other whose tokens are the same do.

    Returns:
        Numbers of branches, in order.
    """
    if not has_several(references):
        return [list(range(len(branches)))]
    groups: list[list[int]] = [[]]
    for number, branch in enumerate(branches):
        full = len(groups[-1]) >= MOST_BRANCHES
        if full and not np.array_equal(branch.keys, branches[number - 1].keys):
            groups.append([])
        groups[-1].append(number)
    return groups
