"""Masks of links drawn at random, and the draws, which no length or order of queries changes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from probe.attention.term import Bounds, Index, Natural, Truth, register
from probe.attention.terms.mask import Mask

if TYPE_CHECKING:  # parsing a pattern needs no torch
    import torch

_MOST_LINKS = 1024  # what is drawn is held in memory, for every query and head
_BITS = 0x7FFFFFFF  # a product of two such numbers fits into 63 bits, in numpy and in torch


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
    array = isinstance(query, np.ndarray)
    draws = np.arange(links) if array else query.new_tensor(range(links))
    by_query = drawn(stream, query, draws[None])  # (…, queries, links)
    by_key = drawn(stream, key, draws[:, None])  # (…, links, keys)
    written = _written if array else _written_torch
    shape = (*by_query.shape[:-2], query.shape[0], key.shape[1])
    return written(by_query - key[0, 0], shape, -1) | written(by_key - query[0, 0], shape, -2)


def _written(places: Any, shape: tuple[int, ...], axis: int) -> Any:
    """A table that is true at *places* along an axis; those that lie outside are left out."""
    size = shape[axis]
    places = np.where((places >= 0) & (places < size), places, size)
    table = np.zeros(_longer(shape, axis), dtype=bool)
    np.put_along_axis(table, places, True, axis)
    return np.take(table, range(size), axis)


def _written_torch(places: "torch.Tensor", shape: tuple[int, ...], axis: int) -> "torch.Tensor":
    size = shape[axis]
    places = places.masked_fill((places < 0) | (places >= size), size)
    table = places.new_zeros(_longer(shape, axis), dtype=bool)  # type: ignore[call-overload]
    table = table.scatter_(axis, places, True)
    written: torch.Tensor = table.narrow(axis, 0, size)
    return written


def _longer(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """With one more place along an axis, for what lies outside."""
    longer = list(shape)
    longer[axis] += 1
    return tuple(longer)
