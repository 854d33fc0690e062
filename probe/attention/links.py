"""Patterns that hide keys and look back any way: every so many, chosen tokens, random links."""

from collections.abc import Sequence
from dataclasses import dataclass

from probe.attention.draws import grid, mixed, of_grid, one_by_one
from probe.attention.masks import Mask
from probe.attention.registry import LARGEST, Index, Truth, register
from probe.perturbations import checks

_MOST_LINKS = 1024  # what is drawn is held in memory, for every query and head


@register("strided")
@dataclass(frozen=True)
class Strided(Mask):
    """Every *stride*-th key before the query, all the way back.

    Args:
        stride: Distance between two of them.
        sinks: First tokens of the sequence that are always seen.

    Source: Child et al. 2019, section 4.2, whose other half is ``local(stride)``.
    """

    stride: int
    sinks: int = 1

    def __post_init__(self) -> None:
        checks.count("stride", self.stride, least=1, most=LARGEST)
        self._check_sinks()

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """A multiple of *stride* apart."""
        return (query - key) % self.stride == 0


@register("global")
@dataclass(frozen=True)
class Global(Mask):
    """Tokens at given positions see all keys, and all queries see them.

    Args:
        positions: Indices in the sequence, one or several.
        sinks: First tokens of the sequence that are always seen.

    Source: Beltagy et al. 2020, section 3.1; Zaheer et al. 2020.
    """

    positions: int | Sequence[int]
    sinks: int = 1

    def __post_init__(self) -> None:
        given = self.positions if isinstance(self.positions, list | tuple) else [self.positions]
        if not given:
            raise ValueError("positions must hold one index or more; got []")
        places = {checks.count("positions", place, least=0, most=LARGEST) for place in given}
        object.__setattr__(self, "positions", tuple(sorted(places)))
        self._check_sinks()

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """One of the two is at one of the positions."""
        return self._among(query) | self._among(key)

    def kept(self, key: Index, length: int) -> Truth:
        """The positions; a global query has read what stands before it by then."""
        return self._among(key) | (key < self.sinks) | (key == length - 1)

    def _among(self, index: Index) -> Truth:
        assert isinstance(self.positions, tuple)
        found = index == self.positions[0]
        for place in self.positions[1:]:
            found = found | (index == place)
        return found


@register("random")
@dataclass(frozen=True)
class Random(Mask):
    """A few keys drawn at random for each query, others in every layer and head.

    A key is drawn for query ``i`` among the indices 0 to ``i``, again and again, so a query has
    at most *links* of them and the first few queries have fewer.

    Args:
        links: Draws for each query.
        seed: Of the draws; they depend on it, layer, head and query, never on the length.
        sinks: First tokens of the sequence that are always seen.

    Source: Zaheer et al. 2020 (BigBird), section 2, whose links are of blocks.
    """

    varies = True
    links: int
    seed: int = 0
    sinks: int = 1

    def __post_init__(self) -> None:
        checks.count("links", self.links, least=1, most=_MOST_LINKS)
        checks.count("seed", self.seed, least=0, most=LARGEST)
        self._check_sinks()

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """Drawn by the query, or, where later keys are seen, by the key."""
        stream = mixed(mixed(mixed(self.seed, 1), layer), head)
        found = of_grid if grid(query, key) else one_by_one
        return found(stream, query, key, self.links)
