"""Patterns of upper layers alone: the layers beneath them are forwarded once for a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from probe.branch import Attention, Branch, columns


@dataclass(frozen=True)
class Beneath:
    """One text that several patterns leave alone up to a layer.

    Args:
        branch: Number of a branch that holds it.
        first: The first layer that each pattern says something about, at least 1.
    """

    branch: int
    first: dict[Attention, int]

    @property
    def kept(self) -> frozenset[int]:
        """Numbers of the layers whose outputs are needed."""
        return frozenset(first - 1 for first in self.first.values())


def beneath(
    batch: Sequence[Sequence[Branch]], groups: Mapping[Attention | None, list[int]], layers: int
) -> list[Beneath]:
    """Which texts to forward once more, so that patterns need not forward their lower layers.

    Args:
        batch: Branches of windows that are walked together.
        groups: Their numbers by what attention may see.
        layers: Number of the model's layers.

    Returns:
        Those texts for which less is forwarded that way.
    """
    texts: dict[bytes, Beneath] = {}
    for attention, numbers in groups.items():
        if attention is None or len(numbers) != 1 or not attention.pattern.first_layer:
            continue
        text = columns([window[numbers[0]] for window in batch]).tobytes()
        found = texts.setdefault(text, Beneath(numbers[0], {}))
        found.first[attention] = min(attention.pattern.first_layer, layers)
    return [one for one in texts.values() if sum(one.first.values()) > layers]


def share(first: int, layers: int) -> float:
    """The part of a forward that is left where the layers below *first* are left out."""
    return 1 - first / layers if layers else 1.0
