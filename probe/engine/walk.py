"""One walk through the prefix tree of a batch of windows, each prefix forwarded once."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache

from probe.engine.branch import Branch, Intact, columns
from probe.engine.ledger import Ledger, Request
from probe.engine.losses import Losses
from probe.engine.tree import SHORT, Node, build, by_length, packed_mask, packs, without_tree
from probe.models.cache import is_plain, release, rows, snapshot
from probe.models.causal import CausalModel

ALONE = 8192  # tokens of one row in one forward, which bounds the activations
PIECE = 1024  # the same where a cache grows: between its tensors, larger ones leave larger holes


class Walk:
    """The state of a walk: what was asked for, what is known so far, what it took.

    Args:
        model: The model.
        batch: Branches of each window; of equal shape in all windows.
        references: Indices of the intact branches for ``kl``.
        intact: Their hidden states, kept where ``kl`` is measured.
        several: Whether targets have intact branches of their own.
        measures: What to compute.
        branching: Share prefixes; otherwise each branch is forwarded whole.
        rows: Put short leaves of equal length off one prefix into a batch.
        packing: Put short leaves off one chain into one forward with a mask.
        own_logits: Take the logits of the model's own forward instead of its hidden states.
    """

    def __init__(
        self,
        model: CausalModel,
        batch: Sequence[Sequence[Branch]],
        *,
        references: Sequence[int],
        intact: Intact | None,
        several: bool,
        measures: Sequence[str],
        branching: bool,
        rows: bool,
        packing: bool,
        own_logits: bool,
    ) -> None:
        self.model = model
        # What is compared with a single intact branch has to come behind it.
        self.first = frozenset(() if several else references)
        self.branches = list(batch[0])
        self.windows = len(batch)
        self.ids = [np.stack([w[b].ids for w in batch]) for b in range(len(self.branches))]
        self.ledger = Ledger(
            self.branches,
            self.ids,
            head=(lambda logits: logits) if own_logits else model.head,
            vocabulary=model.vocabulary,
            measures=measures,
            references=references,
            intact=intact,
            hold=several,
        )
        self.places = [branch.places for branch in self.branches]
        keys = [columns([w[b] for w in batch]) for b in range(len(self.branches))]
        self.roots = build(keys) if branching else without_tree(keys)
        self.branching, self.rows = branching, rows
        self.packing, self.own_logits = packing and branching, own_logits
        self.tokens = self.forwards = 0
        self.body_seconds = self.head_seconds = 0.0

    def run(self) -> None:
        """Forward everything."""
        self._siblings(self.roots, None)
        self._timed(self.ledger.settle)

    def losses(self) -> list[list[Losses]]:
        """What was found, by window and branch."""
        return self.ledger.losses()

    # -- the walk ---------------------------------------------------------------------------

    def _siblings(self, nodes: Sequence[Node], cache: Cache | None) -> None:
        """Walk nodes that go on from one cache; the last of them takes it over."""
        long, short = self._divide(nodes)
        groups = list(by_length(short)) if self.rows else [[node] for node in short]
        steps = [*((node,) for node in long), *groups]
        for number, step in enumerate(steps, start=1):
            own = cache if cache is None or number == len(steps) else snapshot(cache)
            if len(step) > 1:
                self._forward_rows(step, own)
            else:
                self._chain(step[0], own)
            del own
            if self.model.device.type == "cpu":
                release()

    def _chain(self, node: Node, cache: Cache | None) -> None:
        """Forward a node, and on along its only long child, leaving short leaves for one pack."""
        chain: list[Node] = [node]
        packed: list[Node] = []
        while self.packing:
            long, short = self._divide(chain[-1].children)
            packed += short
            if len(long) != 1:
                break
            chain += long
        goes_on = bool(packed or chain[-1].children)
        states, cache = self._forward_long(chain, cache, keep=goes_on)
        self._score([request for part in chain for request in self._requests(part, states, node)])
        del states
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

    def _divide(self, nodes: Sequence[Node]) -> tuple[list[Node], list[Node]]:
        """Nodes walked one by one, and short leaves that can share a forward."""
        short = [
            n
            for n in nodes
            if not n.children and len(n) <= SHORT and self.first.isdisjoint(n.through)
        ]
        return [n for n in nodes if n not in short], short

    # -- forwards ---------------------------------------------------------------------------

    def _forward_long(
        self, chain: Sequence[Node], cache: Cache | None, *, keep: bool
    ) -> tuple[torch.Tensor, Cache | None]:
        """Forward consecutive nodes, in equal pieces that bound the activations."""
        start, stop = chain[0].start, chain[-1].stop
        ids = self.ids[chain[-1].branch][:, start:stop]
        length = ids.shape[1]
        most = PIECE if keep or cache is not None else ALONE
        step = -(-length // -(-length // most)) if self.branching else length
        states = []
        for at in range(0, length, step):
            piece = ids[:, at : at + step]
            positions = self.places[chain[-1].branch][start + at : start + at + piece.shape[1]]
            more = keep or at + step < length
            got, cache = self._forward(piece, cache, positions[None], keep=more)
            states.append(got)
        return (states[0] if len(states) == 1 else torch.cat(states, dim=1)), cache

    def _forward_rows(self, nodes: Sequence[Node], cache: Cache | None) -> None:
        """Forward leaves of equal length off one prefix as rows of a batch."""
        if cache is not None:
            index = torch.arange(self.windows, device=self.model.device).repeat(len(nodes))
            cache = rows(cache, index)
        start = nodes[0].start
        ids = np.concatenate([self.ids[n.branch][:, start : n.stop] for n in nodes])
        places = [self.places[n.branch][start : n.stop] for n in nodes]
        states, _ = self._forward(ids, cache, np.repeat(places, self.windows, axis=0), keep=False)
        by_node = torch.split(states, self.windows)
        self._score(
            [r for node, own in zip(nodes, by_node, strict=True) for r in self._requests(node, own)]
        )

    def _forward_packed(self, nodes: Sequence[Node], cache: Cache) -> None:
        """Forward leaves off one chain side by side; each sees its own prefix and itself."""
        ids = np.concatenate([self.ids[n.branch][:, n.start : n.stop] for n in nodes], axis=1)
        places = [self.places[n.branch][n.start : n.stop] for n in nodes]
        mask = packed_mask(nodes, cache.get_seq_length(), self.model.model.dtype)
        states, _ = self._forward(ids, cache, np.concatenate(places)[None], mask)
        by_node = torch.split(states, [len(node) for node in nodes], dim=1)
        self._score(
            [r for node, own in zip(nodes, by_node, strict=True) for r in self._requests(node, own)]
        )

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

    def _requests(
        self, node: Node, states: torch.Tensor, origin: Node | None = None
    ) -> Iterator[Request]:
        """Targets that a node's hidden states predict: those at ``start + 1 … stop``."""
        shift = (origin or node).start
        for number in node.through:
            branch = self.branches[number]
            first, stop = max(branch.first, node.start + 1), min(branch.stop, node.stop + 1)
            if first < stop:
                hidden = states[:, first - 1 - shift : stop - 1 - shift]
                yield Request(number, first - branch.first, hidden)

    def _score(self, requests: Sequence[Request]) -> None:
        """Hand the hidden states of one forward over to be scored."""
        self._timed(lambda: self.ledger.add(requests))

    def _timed(self, score: Callable[[], None]) -> None:
        started = self._clock()
        score()
        self.head_seconds += self._clock() - started

    def _clock(self) -> float:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        return time.perf_counter()
