"""Patterns that hide keys: windows, blocks, strides, global tokens, links drawn at random.

Each is a function of two indices. Their relation is symmetric: what it is in an encoder. In a
decoder the keys after a query are hidden as well, so that ``local(w)`` sees
``0 <= query - key < w``. The functions are made of operators alone, so that ints, numpy arrays and
torch tensors can be given.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from probe import checks
from probe.attention.term import (
    LARGEST,
    Bounds,
    Index,
    Natural,
    Positive,
    Term,
    Truth,
    register,
)

_MOST_LINKS = 1024  # what is drawn is held in memory, for every query and head
_BITS = 0x7FFFFFFF  # a product of two such numbers fits into 63 bits, in numpy and in torch


class Mask(Term):
    """What all masks have: sinks, and that a query always sees its own key.

    Without its own key a query might see none, and a softmax over nothing is no number.
    """

    sinks: int

    @abstractmethod
    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """The pattern's own relation, which `allowed` completes; symmetric in query and key."""

    @property
    def reach(self) -> int | None:
        """How many keys back a later query may look, its own included; ``None`` is any number."""
        return None

    def allowed(
        self,
        query: Index,
        key: Index,
        *,
        layer: Index = 0,
        head: Index = 0,
        symmetric: bool = False,
    ) -> Truth:
        """Which queries see which keys.

        Args:
            query: Indices of queries in the sequence, int64, to broadcast with *key*.
            key: Indices of keys.
            layer: Number of the layer.
            head: Numbers of the query heads, to broadcast too.
            symmetric: Whether later keys may be seen, as in encoders.

        Returns:
            bool, of the broadcast shape.
        """
        seen = (
            self.relates(query, key, layer=layer, head=head) | (key < self.sinks) | (query == key)
        )
        return seen if symmetric else seen & (key <= query)

    def cached(self, key: Index, length: int) -> Truth:
        """Which keys a cache must hold after *length* tokens for what may come.

        Args:
            key: Indices of keys, below *length*.
            length: Tokens so far.
        """
        reach = length if self.reach is None else self.reach
        return (key >= length - reach) | (key < self.sinks)


@register("local")
@dataclass(frozen=True)
class Local(Mask):
    """The last *w* keys, the query's own included, in encoders as many ahead, and the sinks.

    Args:
        w: Keys in the window, as transformers counts ``sliding_window``.
        sinks: First tokens of the sequence that are always seen.

    Source: Child et al. 2019 and Beltagy et al. 2020; with sinks Xiao et al. 2024.
    """

    w: Positive
    sinks: Natural = 1

    @property
    def reach(self) -> int:
        """The window."""
        return self.w

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """Closer than *w*."""
        return abs(query - key) < self.w


@register("blocks")
@dataclass(frozen=True)
class Blocks(Mask):
    """The keys of the query's own block, and the sinks: a document cut into chunks.

    Args:
        size: Tokens of a block; the first begins with the sequence.
        sinks: First tokens of the sequence that are always seen.

    Source: Qiu et al. 2020, block-local attention.
    """

    size: Positive
    sinks: Natural = 1

    @property
    def reach(self) -> int:
        """A whole block: what must be kept at its end."""
        return self.size

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """In the same block."""
        return query // self.size == key // self.size


@register("dilated")
@dataclass(frozen=True)
class Dilated(Mask):
    """A window of *w* keys with *gap* keys left out between two of them.

    Args:
        w: Keys in the window, the query's own included.
        gap: Keys left out between two; 0 is ``local(w)``. Longformer's dilation is *gap* + 1.
        sinks: First tokens of the sequence that are always seen.

    Source: Beltagy et al. 2020, section 3.1.
    """

    w: Positive
    gap: Natural
    sinks: Natural = 1

    @property
    def reach(self) -> int:
        """From the query's own key to the farthest."""
        return (self.w - 1) * (self.gap + 1) + 1

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """A multiple of *gap* + 1 apart, fewer than *w* of them."""
        step = self.gap + 1
        return (abs(query - key) < self.w * step) & ((query - key) % step == 0)


@register("strided")
@dataclass(frozen=True)
class Strided(Mask):
    """Every *stride*-th key before the query, all the way back.

    Args:
        stride: Distance between two of them.
        sinks: First tokens of the sequence that are always seen.

    Source: Child et al. 2019, section 4.2, whose other half is ``local(stride)``.
    """

    stride: Positive
    sinks: Natural = 1

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
    sinks: Natural = 1

    def __post_init__(self) -> None:
        given = self.positions if isinstance(self.positions, list | tuple) else [self.positions]
        if not given:
            raise ValueError("positions must hold one index or more; got []")
        places = {checks.count("positions", place, least=0, most=LARGEST) for place in given}
        object.__setattr__(self, "positions", tuple(sorted(places)))
        super().__post_init__()

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """One of the two is at one of the positions."""
        return self._among(query) | self._among(key)

    def cached(self, key: Index, length: int) -> Truth:
        """The positions; a global query has read what stands before it by then."""
        return self._among(key) | (key < self.sinks) | (key == length - 1)

    def _among(self, index: Index) -> Truth:
        assert isinstance(self.positions, tuple)
        among = index == self.positions[0]
        for place in self.positions[1:]:
            among = among | (index == place)
        return among


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
    links: Annotated[int, Bounds(1, _MOST_LINKS)]
    seed: Natural = 0
    sinks: Natural = 1

    def relates(self, query: Index, key: Index, *, layer: Index = 0, head: Index = 0) -> Truth:
        """Drawn by the query, or, where later keys are seen, by the key."""
        stream = hashed(hashed(hashed(self.seed, 1), layer), head)
        linked = links_of_grid if is_grid(query, key) else links_one_by_one
        return linked(stream, query, key, self.links)


def hashed(state: Index, part: Index) -> Index:
    """A number below 2**31 that depends on two others and looks like none of them."""
    # Made of operators that numpy and torch share, since neither has the other's generators.
    value = (state ^ (part * 0x9E3779B1)) & _BITS
    for factor in (0x45D9F3B, 0x119DE1F3):
        value = ((value ^ (value >> 16)) * factor) & _BITS
    return value ^ (value >> 15)


def drawn(stream: Index, index: Index, draw: Index) -> Index:
    """The indices, from 0 to its own, that an index draws.

    Args:
        stream: Where the draws come from, below 2**31.
        index: Who draws.
        draw: The number of the draw.
    """
    return hashed(hashed(stream, draw), index) % (index + 1)


def links_one_by_one(stream: Index, query: Index, key: Index, links: int) -> Truth:
    """Whether either of two draws the other; all shapes broadcast."""
    linked = query < 0
    for draw in range(links):
        linked = linked | (drawn(stream, query, draw) == key)
        linked = linked | (drawn(stream, key, draw) == query)
    return linked


def is_grid(query: Index, key: Index) -> bool:
    """Whether two indices are a column and a row of consecutive numbers, numpy's or torch's."""
    return all(
        hasattr(index, "ndim")
        and index.ndim == 2
        and index.shape[1 - axis] == 1
        and int(index.max()) - int(index.min()) + 1 == index.shape[axis]
        and int(index.reshape(-1)[0]) == int(index.min())
        for axis, index in enumerate((query, key))
    )


def links_of_grid(stream: Index, query: Index, key: Index, links: int) -> Truth:
    """What `links_one_by_one` says of a grid, by writing what is drawn into a table.

    Args:
        stream: An int, or of shape ``(heads, 1, 1)``.
        query: Shape ``(queries, 1)``, consecutive.
        key: Shape ``(1, keys)``, consecutive.
        links: Draws of each.

    Returns:
        bool, shape ``(queries, keys)``, or with the heads before.
    """
    draws = np.arange(links) if isinstance(query, np.ndarray) else query.new_tensor(range(links))
    by_query = drawn(stream, query, draws)  # (…, queries, links)
    by_key = drawn(stream, key.T, draws)  # (…, keys, links)
    linked = _written(by_query - key[0, 0], key.shape[1])
    return linked | _written(by_key - query[0, 0], query.shape[0]).mT


def _written(places: Any, size: int) -> Any:
    """A table of *size* columns, true at the *places* of each row that lie inside."""
    inside = (places >= 0) & (places < size)
    places = places * inside + size * ~inside  # one more column takes those that lie outside
    shape = (*places.shape[:-1], size + 1)
    if isinstance(places, np.ndarray):
        table = np.zeros(shape, dtype=bool)
        np.put_along_axis(table, places, True, -1)
    else:
        table = places.new_zeros(shape, dtype=bool).scatter_(-1, places, True)
    return table[..., :size]
