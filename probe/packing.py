"""Short leaves of the prefix tree that share a forward: as rows of a batch, or behind one mask."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from probe.tree import Node

SHORT = 288  # longest leaf that shares a forward: longer ones fill one alone
TOGETHER = 1024  # tokens of short leaves in one forward


def by_length(leaves: Sequence[Node]) -> Iterator[list[Node]]:
    """Group leaves off one prefix by length, so that they can be rows of a batch."""
    lengths: dict[int, list[Node]] = {}
    for leaf in leaves:
        lengths.setdefault(len(leaf), []).append(leaf)
    for length, group in lengths.items():
        most = max(1, TOGETHER // length)
        yield from (group[at : at + most] for at in range(0, len(group), most))


def packs(leaves: Sequence[Node]) -> Iterator[list[Node]]:
    """Cut a list of leaves into packs of at most ``TOGETHER`` tokens."""
    pack: list[Node] = []
    for leaf in leaves:
        if pack and sum(map(len, pack)) + len(leaf) > TOGETHER:
            yield pack
            pack = []
        pack.append(leaf)
    if pack:
        yield pack


def packed_mask(leaves: Sequence[Node], cached: int, dtype: torch.dtype) -> torch.Tensor:
    """What the tokens of packed leaves may see: the prefix they stand on, and their own past.

    Additive, because a boolean mask is wrong in transformers' eager attention.

    Args:
        leaves: Leaves in the order in which they are packed.
        cached: Tokens in the cache, at least the longest prefix of a leaf.
        dtype: The model's dtype.

    Returns:
        0 where a key may be seen and the dtype's minimum elsewhere,
        shape ``(1, 1, tokens, cached + tokens)``.
    """
    tokens = sum(map(len, leaves))
    mask = torch.full((tokens, cached + tokens), torch.finfo(dtype).min, dtype=dtype)
    at = 0
    for leaf in leaves:
        own = slice(at, at + len(leaf))
        mask[own, : leaf.start] = 0
        mask[own, cached + at : cached + own.stop].triu_(1)
        at = own.stop
    return mask[None, None]


def without_tree(keys: Sequence[NDArray[np.int64]]) -> list[Node]:
    """Every distinct branch forwarded whole: a tree without branching."""
    roots: list[Node] = []
    for branch, row in enumerate(keys):
        for node in roots:
            if np.array_equal(keys[node.branch], row):
                node.through.append(branch)
                break
        else:
            roots.append(Node(0, row.shape[1], branch, [branch]))
    return roots
