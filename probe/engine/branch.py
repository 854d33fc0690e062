"""What the engine scores, and the prefix tree of it: which tokens are forwarded once and shared.

A branch is a sequence of tokens with the span of its targets and what attention may see. Branches
of several windows form one tree: a column is the tuple of the windows' keys at one index, and a
prefix is shared where all windows agree, so that the windows can be walked together.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from probe.attention.pattern import Pattern
from probe.errors import ProbeError
from probe.text import shown

MOST_BRANCHES = 64  # of one prefix tree: of more, comparing them would take its time
SHARED_AT_LEAST = 32  # a shorter common prefix costs less forwarded twice than branched from
SHORT = 288  # longest leaf that shares a forward: longer ones fill one alone
PACK = 1024  # tokens of short leaves in one forward

References = int | Sequence[int] | None
"""The number of the intact branch, or of several, each the reference of its own targets."""


@dataclass(frozen=True)
class Attention:
    """How a sequence is attended to.

    Args:
        pattern: The pattern.
        boundary: Index of the first near token in the sequence, where the pattern tells far from
            near.
        places: For each token of the sequence the index of the source token that the next one
            belongs to, where the pattern goes by it.
    """

    pattern: Pattern
    boundary: int | None = None
    places: tuple[int, ...] | None = None

    @property
    def changes_source(self) -> bool:
        """Whether it changes what an encoder makes of a source."""
        return any(placed.attention == "encoder" for placed in self.pattern.placed)


@dataclass(frozen=True, eq=False)
class Source:
    """What the encoder of an encoder–decoder reads.

    Args:
        ids: Token ids with special tokens, shape ``(n,)``, int64.
        seen: Which of them anything may attend to, shape ``(n,)``; ``None`` is all.
        lane: Sources of different lanes share nothing, whatever they hold (``noise``).
        frames: Of sound the samples of the frames that *ids* number, shape ``(frames, samples)``.
    """

    ids: NDArray[np.int64]
    seen: NDArray[np.bool_] | None = None
    lane: int = 0
    frames: NDArray[np.float32] | None = None

    @property
    def visible(self) -> NDArray[np.bool_]:
        """Which tokens may be attended to, shape ``(n,)``."""
        return np.ones(len(self.ids), dtype=bool) if self.seen is None else self.seen

    @property
    def content(self) -> NDArray[np.generic]:
        """What is read: the ids, or of sound the samples of the frames, shape ``(n, samples)``.

        Raises:
            ProbeError: If there is no frame of some number.
        """
        if self.frames is None:
            return self.ids
        if len(self.ids) and not 0 <= self.ids.min() <= self.ids.max() < len(self.frames):
            raise ProbeError(
                f"a condition made frames of sound of the numbers {shown(self.ids.tolist())}; "
                f"allowed: 0 to {len(self.frames) - 1}, those of the data's clips"
            )
        return self.frames[self.ids]

    @cached_property
    def key(self) -> tuple[bytes, bytes, int]:
        """Equal where one encoded source serves both."""
        return self.ids.tobytes(), self.visible.tobytes(), self.lane


@dataclass(frozen=True, eq=False)
class Branch:
    """Token ids at positions 0, 1, 2, …, and the targets among them.

    Args:
        ids: Token ids, shape ``(n,)``, int64.
        keys: What decides sharing, shape ``(n,)``, int64: two branches share a prefix where
            their keys agree. Equal to ``ids`` unless a branch must not be shared (``noise``).
        first: Index of the first target in ``ids``, at least 1: a target is predicted by the token
            before it, or by the mask that it stands behind, see *masked*.
        stop: One past the last target.
        origin: Where the first target stands in the window; the same target of two branches
            has the same place, so KL compares like with like.
        positions: Position ids where they are not 0, 1, 2, …, shape ``(n,)``, int64.
        attention: What attention may see; ``None`` is the model's own.
        masked: Ids of the targets where a masked model predicts them in their own places, shape
            ``(targets,)``: token ``first - 1`` of *ids* is the mask that the first stands behind.
        source: What the encoder reads where *ids* are a decoder's; branches of different sources
            share nothing.
        beginning: Tokens that branches of other windows begin with as well, shape ``(m,)``, int64:
            as many of them as *ids* begin with are forwarded once for all windows.
    """

    ids: NDArray[np.int64]
    keys: NDArray[np.int64]
    first: int
    stop: int
    origin: int
    positions: NDArray[np.int64] | None = None
    attention: Attention | None = None
    masked: NDArray[np.int64] | None = None
    source: Source | None = None
    beginning: NDArray[np.int64] | None = None

    @cached_property
    def begins(self) -> int:
        """How many tokens it has in common with other windows."""
        if self.beginning is None or self.positions is not None:
            return 0
        size = min(len(self.ids), len(self.beginning))
        return _common(self.keys[None, :size], self.beginning[None, :size], 0, size)

    @property
    def places(self) -> NDArray[np.int64]:
        """Position ids, shape ``(n,)``."""
        return np.arange(len(self.ids)) if self.positions is None else self.positions

    @property
    def shape(self) -> tuple[object, ...]:
        """Equal where windows can be walked together: lengths, targets, positions, attention."""
        places = None if self.positions is None else self.positions.tobytes()
        source = None if self.source is None else len(self.source.ids)
        return len(self.ids), self.first, self.stop, self.origin, places, self.attention, source

    @property
    def targets(self) -> int:
        """Number of targets."""
        return self.stop - self.first

    @property
    def labels(self) -> NDArray[np.int64]:
        """Ids of the targets, shape ``(targets,)``."""
        return self.ids[self.first : self.stop] if self.masked is None else self.masked


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


def by_source(batch: Sequence[Sequence[Branch]], numbers: Sequence[int]) -> list[list[int]]:
    """Numbers of branches by what the encoder makes, in order of the first: no others can share.

    Args:
        batch: The branches of windows that are walked together.
        numbers: The branches in question.
    """
    groups: dict[object, list[int]] = {}
    for number in numbers:
        sources = (window[number].source for window in batch)
        key = tuple(None if source is None else source.key for source in sources)
        attention = batch[0][number].attention
        changed = attention if attention and attention.changes_source else None
        groups.setdefault((key, changed), []).append(number)
    return list(groups.values())


def has_several(references: References) -> bool:
    """Whether targets have intact branches of their own."""
    return isinstance(references, Sequence) and len(references) > 1


def tree_groups(branches: Sequence[Branch], references: References) -> list[list[int]]:
    """Which branches go through one prefix tree: all, or, of very many, some after the others.

    Args:
        branches: The branches of a window.
        references: Which of them are intact. With one of them all belong together; with several,
            branches next to each other whose tokens, or whose sources, are the same do.

    Returns:
        Numbers of branches, in order.
    """
    if not has_several(references):
        return [list(range(len(branches)))]
    groups: list[list[int]] = [[]]
    for number, branch in enumerate(branches):
        full = len(groups[-1]) >= MOST_BRANCHES
        if full and not _belong_together(branch, branches[number - 1]):
            groups.append([])
        groups[-1].append(number)
    return groups


def _belong_together(branch: Branch, other: Branch) -> bool:
    if branch.source is not None and other.source is not None:
        return branch.source.key == other.source.key
    return np.array_equal(branch.keys, other.keys)


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


class Beginnings:
    """What of a prefix tree is the beginning that windows have in common.

    Args:
        roots: The roots of the tree; nodes that lie across the end of a beginning are cut in two.
        batch: Branches of each window of the tree.
    """

    def __init__(self, roots: Sequence[Node], batch: Sequence[Sequence[Branch]]) -> None:
        numbers = range(len(batch[0]))
        self._stops = [min(window[number].begins for window in batch) for number in numbers]
        if any(self._stops):
            for node in (node for root in roots for node in root.walk()):
                stop = self._stops[self.branch(node)]
                if node.start + SHARED_AT_LEAST <= stop < node.stop:
                    _split(node, stop)

    def branch(self, node: Node) -> int:
        """The branch through a node that has most in common with other windows."""
        return max(node.through, key=lambda number: self._stops[number])

    def __contains__(self, node: object) -> bool:
        return isinstance(node, Node) and node.stop <= self._stops[self.branch(node)]


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


def tokens(roots: Sequence[Node], beginnings: Container[Node] = ()) -> int:
    """Tokens forwarded for one window when every shared prefix is forwarded once.

    Args:
        roots: The roots of its tree.
        beginnings: Nodes that are forwarded for other windows as well, and not counted.
    """
    nodes = (node for root in roots for node in root.walk())
    return sum(len(node) for node in nodes if node not in beginnings)


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
