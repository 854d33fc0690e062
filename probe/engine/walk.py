"""One walk through the prefix tree of a batch of windows, each prefix forwarded once."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache

from probe.engine.beginnings import BeginningCaches
from probe.engine.branch import (
    SHORT,
    Beginnings,
    Branch,
    Node,
    build,
    by_length,
    columns,
    packs,
    without_tree,
)
from probe.engine.losses import Ledger, Measurement, Request
from probe.models.causal import is_plain, release, rows, snapshot
from probe.models.scorer import Scorer

ALONE = 8192  # tokens of one row in one forward, which bounds the activations
PIECE = 1024  # the same where a cache grows: between its tensors, larger ones leave larger holes


@dataclass(frozen=True)
class Techniques:
    """What the engine may use; the self-check switches off what fails on a model.

    Args:
        continuation: Going on from a cache with many tokens at once.
        forks: Going on from one cache several times.
        rows: Short branches off one prefix as rows of a batch.
        packing: Short branches off one chain in one forward, kept apart by a 4-D mask.
        head: Logits of some hidden states by the model's own forward with its body stubbed.
        lower: Layers below the first that a pattern changes, forwarded once for all patterns.
    """

    continuation: bool = True
    forks: bool = True
    rows: bool = True
    packing: bool = True
    head: bool = True
    lower: bool = True

    @property
    def branching(self) -> bool:
        """Whether prefixes can be shared at all; without, every branch is forwarded whole."""
        return self.continuation and self.forks and self.head

    def whole(self) -> "Techniques":
        """The same with every branch forwarded whole: the plain way."""
        return replace(self, continuation=False, rows=False, packing=False, lower=False)


class Walk:
    """The state of a walk: what was asked for, what is known so far, what it took.

    Args:
        model: The model.
        batch: Branches of each window; of equal shape in all windows.
        measurement: What is computed of their targets.
        techniques: What may be used.
        caches: Of beginnings that windows have in common, across walks.
    """

    def __init__(
        self,
        model: Scorer,
        batch: Sequence[Sequence[Branch]],
        measurement: Measurement,
        techniques: Techniques,
        caches: BeginningCaches | None = None,
    ) -> None:
        self.model, self.batch = model, batch
        self.caches = caches or BeginningCaches(model)
        # What is compared with a single intact branch has to come behind it.
        self.first = frozenset(() if measurement.several else measurement.references)
        self.branches = list(batch[0])
        self.windows = len(batch)
        self.ids = [np.stack([w[b].ids for w in batch]) for b in range(len(self.branches))]
        self.places = [branch.places for branch in self.branches]
        self.branching = techniques.branching
        self.rows = techniques.rows and techniques.head
        self.packing = techniques.packing and techniques.branching
        self.own_logits = not techniques.head
        labels = [np.stack([w[b].labels for w in batch]) for b in range(len(self.branches))]
        self.ledger = Ledger(model, self.branches, labels, measurement, own_logits=self.own_logits)
        keys = [columns([w[b] for w in batch]) for b in range(len(self.branches))]
        self.roots = build(keys) if self.branching else without_tree(keys)
        # A cache that ends early serves as well as one with a mask that shows its beginning alone.
        self.beginnings = Beginnings(self.roots, batch) if self.packing else None
        self.pieces: Counter[tuple[int, int]] = Counter()  # start and stop of what was forwarded
        self.tokens = self.forwards = 0
        self.body_seconds = self.head_seconds = 0.0

    def run(self) -> None:
        """Forward everything."""
        self._siblings(self.roots, None)
        self._timed(self.ledger.settle)

    # -- the walk ---------------------------------------------------------------------------

    def _siblings(self, nodes: Sequence[Node], cache: Cache | None) -> None:
        """Walk nodes that go on from one cache; the last of them takes it over.

        Depth first, so that only the caches on the way to one node are alive. A cache grows by new
        tensors and never in place: a parent's that stayed alive would hold its prefix once more.
        """
        long, short = self._divide(nodes)
        groups = list(by_length(short)) if self.rows else [[node] for node in short]
        steps = [*((node,) for node in long), *groups]
        for number, step in enumerate(steps, start=1):
            branch = cache if cache is None or number == len(steps) else snapshot(cache)
            if len(step) > 1:
                self._forward_rows(step, branch)
            else:
                self._chain(step[0], branch)
            del branch
            if self.model.device.type == "cpu" or self.model.rests_on_host:
                release()

    def _chain(self, node: Node, cache: Cache | None) -> None:
        """Forward a node, and on along its only long child, leaving short leaves for one pack.

        Nodes with one long child are one text: they are forwarded together, in pieces that the
        tree has no say in. The leaves that left it on the way wait for its end, where a mask shows
        each of them the part of the cache that it stands on.
        """
        chain: list[Node] = [node]
        packed: list[Node] = []
        while self.packing:
            long, short = self._divide(chain[-1].children)
            packed += short
            if len(long) != 1 or self._is_common(long[0]) < self._is_common(chain[-1]):
                break
            chain += long
        goes_on = bool(packed or chain[-1].children)
        states, cache = self._forward_long(chain, cache, keep=goes_on)
        self._score([request for part in chain for request in self._requests(part, states, node)])
        del states  # of all tokens, and not needed below
        left = [child for child in chain[-1].children if child not in packed]
        if not goes_on:
            return
        if cache is None or (packed and not is_plain(cache)):
            raise RuntimeError("packing needs a cache that keeps every key")  # the check sees to it
        groups = list(packs(packed))
        for number, pack in enumerate(groups, start=1):
            last = number == len(groups) and not left
            self._forward_packed(pack, cache if last else snapshot(cache))
        self._siblings(left, cache)

    def _is_common(self, node: Node) -> bool:
        """Whether a node is part of what other windows begin with as well."""
        return self.beginnings is not None and node in self.beginnings

    def _divide(self, nodes: Sequence[Node]) -> tuple[list[Node], list[Node]]:
        """Nodes walked one by one, and short leaves that can share a forward.

        The intact branch is none of the latter: its states must be known before those that are
        compared with it, and long nodes are walked first.
        """
        leaves = [n for n in nodes if not n.children and len(n) <= SHORT]
        short = [n for n in leaves if self.first.isdisjoint(n.through)]
        return [n for n in nodes if n not in short], short

    # -- forwards ---------------------------------------------------------------------------

    def _forward_long(
        self, chain: Sequence[Node], cache: Cache | None, *, keep: bool
    ) -> tuple[torch.Tensor, Cache | None]:
        """Forward consecutive nodes, or take them from what was forwarded for other windows."""
        start, stop = chain[0].start, chain[-1].stop
        if self.beginnings is not None and self._is_common(chain[-1]):
            number = self.beginnings.branch(chain[-1])
            texts = [cast(NDArray[np.int64], window[number].beginning) for window in self.batch]
            if known := self.caches.of(texts, slice(start, stop), self._forward_beginning):
                return known
        branch = chain[-1].branch
        ids, positions = self.ids[branch][:, start:stop], self.places[branch][start:stop]
        return self._forward_pieces(ids, positions, cache, start=start, keep=keep)

    def _forward_beginning(self, ids: NDArray[np.int64]) -> tuple[torch.Tensor, Cache | None]:
        """Forward what other windows begin with as well."""
        return self._forward_pieces(ids, np.arange(ids.shape[1]), None, start=0, keep=True)

    def _forward_pieces(
        self,
        ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        cache: Cache | None,
        *,
        start: int,
        keep: bool,
    ) -> tuple[torch.Tensor, Cache | None]:
        """Forward consecutive tokens, in equal pieces that bound the activations."""
        length = ids.shape[1]
        most = PIECE if keep or cache is not None else ALONE
        # Equal ones: a short last piece would cost a forward and fill no core. Without branching
        # nothing goes on from a cache, not even the next piece.
        step = -(-length // -(-length // most)) if self.branching else length
        states = []
        for at in range(0, length, step):
            piece, places = ids[:, at : at + step], positions[at : at + step]
            seen = start + at
            self.pieces[seen, seen + piece.shape[1]] += len(ids)
            more = keep or at + step < length
            part, cache = self._forward(piece, cache, places[None], keep=more)
            states.append(part)
        return (states[0] if len(states) == 1 else torch.cat(states, dim=1)), cache

    def _forward_rows(self, nodes: Sequence[Node], cache: Cache | None) -> None:
        """Forward leaves of equal length off one prefix as rows of a batch."""
        if cache is not None:
            index = torch.arange(self.windows, device=self.model.device).repeat(len(nodes))
            cache = rows(cache, index)
        start = nodes[0].start
        ids = np.concatenate([self.ids[n.branch][:, start : n.stop] for n in nodes])
        places = [self.places[n.branch][start : n.stop] for n in nodes]
        self.pieces[start, nodes[0].stop] += len(ids)
        states, _ = self._forward(ids, cache, np.repeat(places, self.windows, axis=0), keep=False)
        self._score_nodes(nodes, torch.split(states, self.windows))

    def _forward_packed(self, nodes: Sequence[Node], cache: Cache) -> None:
        """Forward leaves off one chain side by side; each sees its own prefix and itself."""
        ids = np.concatenate([self.ids[n.branch][:, n.start : n.stop] for n in nodes], axis=1)
        places = [self.places[n.branch][n.start : n.stop] for n in nodes]
        for node in nodes:
            self.pieces[node.start, node.stop] += self.windows
        mask = packed_mask(nodes, cache.get_seq_length(), self.model.model.dtype)
        states, _ = self._forward(ids, cache, np.concatenate(places)[None], mask)
        self._score_nodes(nodes, torch.split(states, [len(node) for node in nodes], dim=1))

    def _forward(
        self,
        ids: NDArray[np.int64],
        cache: Cache | None,
        positions: NDArray[np.int64],
        mask: torch.Tensor | None = None,
        *,
        keep: bool = True,
    ) -> tuple[torch.Tensor, Cache | None]:
        started = self._clock()
        device = self.model.device
        tensor = torch.from_numpy(np.ascontiguousarray(ids)).to(device)
        places = torch.from_numpy(positions).to(device) if self.model.takes_positions else None
        if self.own_logits:
            states, grown = self.model.logits(tensor, places), None
        else:
            states, grown = self.model.states(
                tensor,
                cache,
                positions=places,
                mask=None if mask is None else mask.to(device),
                keep=keep,
            )
        self.body_seconds += self._clock() - started
        self.tokens += ids.size
        self.forwards += 1
        return states, grown

    # -- scoring ----------------------------------------------------------------------------

    def _requests(
        self, node: Node, states: torch.Tensor, origin: Node | None = None
    ) -> Iterator[Request]:
        """Targets at ``start + 1 … stop`` of a node, and what predicts them.

        *states* are those of the node, or of a chain that begins with *origin*.
        """
        shift = (origin or node).start
        for number in node.through:
            branch = self.branches[number]
            first, stop = max(branch.first, node.start + 1), min(branch.stop, node.stop + 1)
            if first < stop:
                hidden = states[:, first - 1 - shift : stop - 1 - shift]
                yield Request(number, first - branch.first, hidden)

    def _score_nodes(self, nodes: Sequence[Node], states: Sequence[torch.Tensor]) -> None:
        """Score nodes that were forwarded together, each with its own states."""
        pairs = zip(nodes, states, strict=True)
        self._score([request for node, part in pairs for request in self._requests(node, part)])

    def _score(self, requests: Sequence[Request]) -> None:
        """Hand the hidden states of one forward over to be scored."""
        self._timed(lambda: self.ledger.add(requests))

    def _timed(self, score: Callable[[], None]) -> None:
        started = self._clock()
        score()
        self.head_seconds += self._clock() - started

    def _clock(self) -> float:
        if self.model.device.type == "cuda":  # what was launched is done
            torch.cuda.synchronize(self.model.device)
        return time.perf_counter()


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
