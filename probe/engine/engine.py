"""The branching engine: branches in, losses of their targets out; it knows no perturbation."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from probe.attention.apply import heeded, installed
from probe.attention.trial import Heeded
from probe.engine.branch import (
    Attention,
    Branch,
    Intact,
    Reference,
    by_attention,
    several,
    together,
)
from probe.engine.losses import Losses
from probe.engine.lower_layers import Layers, Outputs, beneath, share
from probe.engine.walk import Walk
from probe.errors import ProbeError
from probe.models.causal import CausalModel


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


@dataclass
class Costs:
    """What scoring took so far."""

    tokens: int = 0
    forwards: int = 0
    targets: int = 0
    body_seconds: float = 0.0
    head_seconds: float = 0.0
    seconds: float = 0.0

    def add(self, other: "Costs") -> None:
        """Sum field by field."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Engine:
    """Scores the branches of windows through their prefix trees.

    Args:
        model: The model.
        techniques: What may be used on it.
        measures: Which of ``nll``, ``kl``, ``top1`` and ``entropy`` to compute.
        flex: Put patterns on the model as block masks that skip what is hidden, where they can be.
    """

    model: CausalModel
    techniques: Techniques = field(default_factory=Techniques)
    measures: tuple[str, ...] = ("nll",)
    flex: bool = False
    costs: Costs = field(default_factory=Costs)
    layers: Layers = field(init=False, repr=False)
    _heeded: Heeded | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.layers = Layers(self.model)

    def score(
        self, windows: Sequence[Sequence[Branch]], *, reference: Reference = None
    ) -> list[list[Losses]]:
        """Compute the losses of every target of every branch.

        Windows whose branches have the same lengths and targets are walked together.

        Args:
            windows: The branches of each window.
            reference: Which branch is the intact one that ``kl`` is measured against; it must
                hold every target of the others. Several hold them together, each its own, in an
                order in which none comes behind what is compared with it.

        Returns:
            Losses of the branches of each window, in the order given.

        Raises:
            ProbeError: If a branch has position ids of its own and the model takes none.
        """
        if not self.model.takes_positions and any(
            branch.positions is not None for window in windows for branch in window
        ):
            raise ProbeError(
                f"{type(self.model.model).__name__} takes no position ids: a condition that keeps "
                "the positions of what it removes cannot be scored on it"
            )
        started = time.perf_counter()
        alike: dict[object, list[int]] = {}
        for number, window in enumerate(windows):
            shape = tuple(branch.shape for branch in window)
            alike.setdefault(shape, []).append(number)
        scored: dict[int, list[Losses]] = {}
        for numbers in alike.values():
            found = self._walk([windows[number] for number in numbers], reference)
            scored.update(zip(numbers, found, strict=True))
        self.costs.seconds += time.perf_counter() - started
        return [scored[number] for number in range(len(windows))]

    def whole(self) -> "Engine":
        """An engine over the same model that forwards every branch whole: the plain way."""
        plain = replace(self.techniques, continuation=False, rows=False, packing=False, lower=False)
        return Engine(self.model, plain, self.measures, self.flex)

    def _walk(self, batch: list[Sequence[Branch]], reference: Reference) -> list[list[Losses]]:
        """Score windows that are alike, through one prefix tree or some in turn."""
        first = batch[0]
        own = [reference] if isinstance(reference, int) else list(reference or ())
        intact = Intact([first[n] for n in own], len(batch)) if own and self._compares else None
        found: list[list[Losses]] = [[] for _ in batch]
        with torch.inference_mode(), self.model.exact_head():
            for part in together(first, reference):
                for window, losses in zip(
                    found, self._parts(batch, part, own, intact), strict=True
                ):
                    window += losses
        self.costs.targets += sum(branch.targets for window in batch for branch in window)
        return found

    def _parts(
        self,
        batch: list[Sequence[Branch]],
        part: Sequence[int],
        references: Sequence[int],
        intact: Intact | None,
    ) -> list[list[Losses]]:
        """Losses of the branches *part* of windows, by window, in the order of *part*."""
        found: list[dict[int, Losses]] = [{} for _ in batch]
        groups = by_attention([batch[0][number] for number in part])
        kept = self._beneath([[window[number] for number in part] for window in batch], groups)
        for attention, numbers in groups.items():
            own = [part[number] for number in numbers]
            first, outputs = kept.get(attention, (0, {}))
            with self._attending(attention), self.layers.below(first, outputs):
                walk = self._part(
                    [[window[number] for number in own] for window in batch],
                    own,
                    references,
                    intact,
                    plain=attention is not None,
                    share=share(first, self.layers.count),
                )
            for window, losses in zip(found, walk.losses(), strict=True):
                window.update(zip(own, losses, strict=True))
        return [[window[number] for number in part] for window in found]

    def _beneath(
        self, batch: list[list[Branch]], groups: Mapping[Attention | None, list[int]]
    ) -> dict[Attention | None, tuple[int, Outputs]]:
        """By pattern its first layer and what lies beneath it, where that was worth a forward."""
        if not self.techniques.lower:
            return {}
        found: dict[Attention | None, tuple[int, Outputs]] = {}
        for text in beneath(batch, groups, self.layers.count):
            places = torch.from_numpy(batch[0][text.branch].places)[None].to(self.model.device)
            ids = np.stack([window[text.branch].ids for window in batch])
            started = time.perf_counter()
            with self.layers.kept(text.kept) as outputs:
                self.model.states(
                    torch.from_numpy(ids).to(self.model.device),
                    positions=places if self.model.takes_positions else None,
                    keep=False,
                )
            self.costs.body_seconds += time.perf_counter() - started
            self.costs.tokens += ids.size
            self.costs.forwards += 1
            found |= {attention: (first, outputs) for attention, first in text.first.items()}
        return found

    @contextmanager
    def _attending(self, attention: Attention | None) -> Iterator[None]:
        """Put a pattern on the model; whether the model heeds patterns is tried once."""
        if attention is None:
            yield
            return
        pattern, boundary = attention.pattern, attention.boundary
        self._heeded = self._heeded or heeded(self.model.model, pattern)
        with installed(
            self.model.model, pattern, boundary=boundary, flex=self.flex, known=self._heeded
        ):
            yield

    def _part(
        self,
        batch: list[list[Branch]],
        part: Sequence[int],
        references: Sequence[int],
        intact: Intact | None,
        *,
        plain: bool,
        share: float,
    ) -> Walk:
        """Walk the branches *part* of windows; *plain* forwards each whole, a *share* of it."""
        wanted = set(references)
        walk = Walk(
            self.model,
            batch,
            references=[at for at, number in enumerate(part) if number in wanted],
            intact=intact,
            several=several(references),
            measures=self.measures,
            branching=self.techniques.branching and not plain,
            rows=self.techniques.rows and self.techniques.head and not plain,
            packing=self.techniques.packing,
            own_logits=not self.techniques.head,
        )
        walk.run()
        self.costs.tokens += round(walk.tokens * share)
        self.costs.forwards += walk.forwards
        self.costs.body_seconds += walk.body_seconds
        self.costs.head_seconds += walk.head_seconds
        return walk

    @property
    def _compares(self) -> bool:
        return "kl" in self.measures
