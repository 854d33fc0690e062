"""The prefix tree: which tokens are forwarded once and shared, and which leaves go together.

Branches of several windows form one tree: a column is the tuple of the windows' keys at one
index, and a prefix is shared where all windows agree, so that the windows can be walked together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

SHARED_AT_LEAST = 32  # a shorter common prefix costs less forwarded twice than branched from
SHORT = 288  # longest leaf that shares a forward: longer ones fill one alone
PACK = 1024  # tokens of short leaves in one forward


@dataclass(eq=False)
class Node:
    """Tokens ``start … stop`` of one branch, and of every other that runs through it.

    Args:
        start: Index of the first token.
        stop: One past the last token.
        branch: A branch that runs through the node; its ids are the node's tokens.
        through: All branches that run through it, in order.
        children: Nodes that go on from ``stop``.
    """

    start: int
    stop: int
    branch: int
    through: list[int]
    children: list["Node"] = field(default_factory=list)

    def __len__(self) -> int:
        return self.stop - self.start

    def walk(self) -> Iterator["Node"]:
        """This node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


def build(keys: Sequence[NDArray[np.int64]], shared_at_least: int = SHARED_AT_LEAST) -> list[Node]:
    """Put branches into a prefix tree.

    Args:
        keys: One array per branch, shape ``(windows, n)``, int64.
        shared_at_least: Shortest piece that is worth a node of its own.

    Returns:
        The roots, in order of their first branch.
    """
    roots: list[Node] = []
    for branch, row in enumerate(keys):
        _insert(roots, branch, keys, row.shape[1], shared_at_least)
    return roots


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


def tokens(roots: Sequence[Node]) -> int:
    """Tokens forwarded for one window when every shared prefix is forwarded once."""
    return sum(len(node) for root in roots for node in root.walk())


def by_length(leaves: Sequence[Node]) -> Iterator[list[Node]]:
    """Group leaves off one prefix by length, so that they can be rows of a batch."""
    lengths: dict[int, list[Node]] = {}
    for leaf in leaves:
        lengths.setdefault(len(leaf), []).append(leaf)
    for length, group in lengths.items():
        most = max(1, PACK // length)
        yield from (group[at : at + most] for at in range(0, len(group), most))


def packs(leaves: Sequence[Node]) -> Iterator[list[Node]]:
    """Cut a list of leaves into packs of at most ``PACK`` tokens."""
    pack: list[Node] = []
    for leaf in leaves:
        if pack and sum(map(len, pack)) + len(leaf) > PACK:
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
    length = sum(map(len, leaves))
    mask = torch.full((length, cached + length), torch.finfo(dtype).min, dtype=dtype)
    at = 0
    for leaf in leaves:
        rows = slice(at, at + len(leaf))
        mask[rows, : leaf.start] = 0
        mask[rows, cached + at : cached + rows.stop].triu_(1)  # 0 up to a token, hidden after it
        at = rows.stop
    return mask[None, None]


def _insert(
    siblings: list[Node],
    branch: int,
    keys: Sequence[NDArray[np.int64]],
    length: int,
    shared_at_least: int,
) -> None:
    """Walk down as far as *branch* agrees, split the node where it stops agreeing."""
    depth = 0
    while depth < length:
        for node in siblings:
            common = _common(keys[branch], keys[node.branch], depth, min(length, node.stop))
            if common >= shared_at_least or common == len(node):
                break
        else:
            siblings.append(Node(depth, length, branch, [branch]))
            return
        if common < len(node):
            _split(node, node.start + common)
        node.through.append(branch)
        depth, siblings = node.stop, node.children


def _common(a: NDArray[np.int64], b: NDArray[np.int64], start: int, stop: int) -> int:
    """Number of columns from *start* on in which *a* and *b* agree."""
    differ = (a[:, start:stop] != b[:, start:stop]).any(axis=0)
    first = int(differ.argmax())
    return first if differ[first] else stop - start


def _split(node: Node, at: int) -> None:
    """Cut *node* in two; what hung below it hangs below its second half."""
    rest = Node(at, node.stop, node.branch, list(node.through), node.children)
    node.stop, node.children = at, [rest]
