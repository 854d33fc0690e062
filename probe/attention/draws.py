"""Numbers that look drawn at random, and keys drawn by them: alike in int, numpy and torch."""

from typing import TYPE_CHECKING, Any

import numpy as np

from probe.attention.registry import Index, Truth

if TYPE_CHECKING:  # counting keys needs no torch
    import torch

BITS = 0x7FFFFFFF  # a product of two such numbers fits into 63 bits, in numpy and in torch


def mixed(state: Index, part: Index) -> Index:
    """A number below 2**31 that depends on two others and looks like none of them."""
    found = (state ^ (part * 0x9E3779B1)) & BITS
    for factor in (0x45D9F3B, 0x119DE1F3):
        found = ((found ^ (found >> 16)) * factor) & BITS
    return found ^ (found >> 15)


def drawn(stream: Index, index: Index, draw: Index) -> Index:
    """The indices, from 0 to its own, that an index draws.

    Args:
        stream: Where the draws come from, below 2**31.
        index: Who draws.
        draw: The number of the draw.
    """
    return mixed(mixed(stream, draw), index) % (index + 1)


def one_by_one(stream: Index, query: Index, key: Index, links: int) -> Truth:
    """Whether either of two draws the other; all shapes broadcast."""
    found = query < 0
    for draw in range(links):
        found = found | (drawn(stream, query, draw) == key)
        found = found | (drawn(stream, key, draw) == query)
    return found


def grid(query: Index, key: Index) -> bool:
    """Whether two indices are a column and a row of consecutive numbers, numpy's or torch's."""
    return all(
        hasattr(one, "ndim")
        and one.ndim == 2
        and one.shape[1 - axis] == 1
        and int(one.max()) - int(one.min()) + 1 == one.shape[axis]
        and int(one.reshape(-1)[0]) == int(one.min())
        for axis, one in enumerate((query, key))
    )


def of_grid(stream: Index, query: Index, key: Index, links: int) -> Truth:
    """What `one_by_one` says of a grid, by writing what is drawn into a table.

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
    found: torch.Tensor = table.narrow(axis, 0, size)
    return found


def _longer(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """With one more place along an axis, for what lies outside."""
    longer = list(shape)
    longer[axis] += 1
    return tuple(longer)
