"""What conditions are compared with where every target has an intact branch of its own."""

from collections.abc import Sequence

import numpy as np
import torch

from probe.branch import Branch

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

    def keep(self, place: int, states: torch.Tensor) -> None:
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
