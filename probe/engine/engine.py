"""The branching engine: branches in, losses of their targets out; it knows no perturbation."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from probe.attention.apply import Supports, apply_pattern, check_support
from probe.engine.beginnings import BeginningCaches
from probe.engine.branch import (
    Attention,
    Branch,
    References,
    Source,
    by_attention,
    by_source,
    has_several,
    tree_groups,
)
from probe.engine.flops import formula_of, peak_here
from probe.engine.losses import COMPARED, IntactStates, Losses, Measurement
from probe.engine.lower_layers import Layers, Outputs, computed_share, shared_lower_layers
from probe.engine.walk import Techniques, Walk
from probe.errors import ProbeError
from probe.models.scorer import Scorer, stubbed


@dataclass
class Costs:
    """What scoring took so far; no FLOPs where there is no formula for them."""

    tokens: int = 0
    forwards: int = 0
    targets: int = 0
    flops: float = 0.0
    body_seconds: float = 0.0
    head_seconds: float = 0.0
    seconds: float = 0.0

    def add(self, tokens: int, forwards: int, seconds: float) -> None:
        """Count what is forwarded elsewhere.

        Args:
            tokens: Tokens of it.
            forwards: Forwards of the model, or of its encoder or decoder.
            seconds: What it took.
        """
        self.tokens += tokens
        self.forwards += forwards
        self.body_seconds += seconds
        self.seconds += seconds


@dataclass
class Engine:
    """Scores the branches of windows through their prefix trees.

    Args:
        model: The model.
        techniques: What may be used on it.
        measures: Which of ``nll``, ``kl``, ``top1`` and ``entropy`` to compute; of a model without
            a head ``embedding`` alone.
        flex: Put patterns on the model as block masks that skip what is hidden, where they can be.
        forward: What stands in for the body's own forward where no pattern is put on the model and
            no layer is recorded or skipped, such as a compiled one.
    """

    model: Scorer
    techniques: Techniques = field(default_factory=Techniques)
    measures: tuple[str, ...] = ("nll",)
    flex: bool = False
    forward: Callable[..., Any] | None = None
    costs: Costs = field(default_factory=Costs)
    layers: Layers = field(init=False, repr=False)
    _support: Supports | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.layers = Layers(self.model)
        self._beginnings = BeginningCaches(self.model)
        model = self.model
        causal = model.family == "causal"
        self._formula = formula_of(model.model, model.body, model.vocabulary) if causal else None

    @property
    def dtype(self) -> str:
        """Of the model's weights."""
        return str(self.model.model.dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def peak(self) -> float | None:
        """FLOP/s of the GPUs of a model in 16 bits, where they are known."""
        weights = self.model.model.parameters()
        narrow = self.model.model.dtype in (torch.bfloat16, torch.float16)
        return peak_here({weight.device for weight in weights}) if narrow else None

    def score(
        self, windows: Sequence[Sequence[Branch]], *, reference: References = None
    ) -> list[list[Losses]]:
        """Compute the losses of every target of every branch.

        Windows whose branches have the same lengths and targets are walked together.

        Args:
            windows: The branches of each window.
            reference: Which branch is the intact one that others are compared with; it must
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
            losses = self._score_alike([windows[number] for number in numbers], reference)
            scored.update(zip(numbers, losses, strict=True))
        self.costs.seconds += time.perf_counter() - started
        return [scored[number] for number in range(len(windows))]

    def whole(self) -> "Engine":
        """An engine over the same model that forwards every branch whole: the plain way."""
        return Engine(self.model, self.techniques.whole(), self.measures, self.flex)

    def _score_alike(
        self, batch: list[Sequence[Branch]], reference: References
    ) -> list[list[Losses]]:
        """Score windows whose branches are alike, through one prefix tree or some in turn."""
        first = batch[0]
        references = [reference] if isinstance(reference, int) else list(reference or ())
        intact = None
        if references and not COMPARED.isdisjoint(self.measures):
            intact = IntactStates([first[number] for number in references], len(batch))
        measurement = Measurement(self.measures, references, intact, has_several(references))
        by_window: list[list[Losses]] = [[] for _ in batch]
        with torch.inference_mode(), self.model.exact_head():
            for group in tree_groups(first, reference):
                scored = self._score_group(batch, group, measurement)
                for window, losses in zip(by_window, scored, strict=True):
                    window += losses
        targets = sum(branch.targets for window in batch for branch in window)
        self.costs.targets += targets
        if self._formula is not None:
            self.costs.flops += self._formula.logits(targets)
        return by_window

    def _score_group(
        self, batch: list[Sequence[Branch]], group: Sequence[int], measurement: Measurement
    ) -> list[list[Losses]]:
        """Losses of the branches *group* of windows, by window, in the order of *group*."""
        by_window: list[dict[int, Losses]] = [{} for _ in batch]
        for numbers in by_source(batch, group):
            attention = batch[0][numbers[0]].attention
            sources = [window[numbers[0]].source for window in batch]
            with self._reading(sources, attention):
                scored = self._score_source(batch, numbers, measurement)
            for window, losses in zip(by_window, scored, strict=True):
                window |= losses
        return [[window[number] for number in group] for window in by_window]

    def _score_source(
        self, batch: list[Sequence[Branch]], group: Sequence[int], measurement: Measurement
    ) -> list[dict[int, Losses]]:
        """Losses of branches of one source by their number, by window."""
        by_window: list[dict[int, Losses]] = [{} for _ in batch]
        intact = set(measurement.references)
        patterns = by_attention([batch[0][number] for number in group])
        lower = self._lower_layers([[window[n] for n in group] for window in batch], patterns)
        for attention, places in patterns.items():
            numbers = [group[place] for place in places]
            references = [at for at, number in enumerate(numbers) if number in intact]
            walk = Walk(
                self.model,
                [[window[number] for number in numbers] for window in batch],
                replace(measurement, references=references),
                # The techniques have proved themselves without a pattern.
                self.techniques if attention is None else self.techniques.whole(),
                self._beginnings,
            )
            first, outputs = lower.get(attention, (0, {}))
            body = self._own_forward() if attention is None else nullcontext()
            with body, self._attending(attention), self.layers.skipped(first, outputs):
                walk.run()
            share = computed_share(first, self.layers.count)
            self.costs.tokens += round(walk.tokens * share)
            self._add_flops(walk.pieces, share)
            self.costs.forwards += walk.forwards
            self.costs.body_seconds += walk.body_seconds
            self.costs.head_seconds += walk.head_seconds
            for window, losses in zip(by_window, walk.ledger.losses(), strict=True):
                window.update(zip(numbers, losses, strict=True))
        return by_window

    def _own_forward(self) -> AbstractContextManager[None]:
        """Let `forward` stand in for the body's, where there is one."""
        return nullcontext() if self.forward is None else stubbed(self.model.body, self.forward)

    @contextmanager
    def _reading(
        self, sources: Sequence[Source | None], attention: Attention | None
    ) -> Iterator[None]:
        """Let the decoder read the windows' sources, encoded once for all that is scored meanwhile.

        Args:
            sources: Of each window, all of one length; ``None`` for a model that reads none.
            attention: What the encoder may see of them, if it says anything of that.
        """
        given = [source for source in sources if source is not None]
        if not given:
            yield
            return
        started, device = time.perf_counter(), self.model.device
        read = torch.from_numpy(np.stack([source.content for source in given])).to(device)
        seen = torch.from_numpy(np.stack([source.visible for source in given])).to(device)
        encoding = attention if attention and attention.changes_source else None
        with ExitStack() as stack:
            with self._attending(encoding):
                stack.enter_context(self.model.reading(read, seen))
            self.costs.body_seconds += time.perf_counter() - started
            self.costs.tokens += sum(len(source.ids) for source in given)
            self.costs.forwards += 1
            yield

    def _add_flops(self, pieces: Mapping[tuple[int, int], int], share: float = 1.0) -> None:
        if self._formula is not None:
            self.costs.flops += share * self._formula.forwarded(pieces)

    def _lower_layers(
        self, batch: list[list[Branch]], groups: Mapping[Attention | None, list[int]]
    ) -> dict[Attention | None, tuple[int, Outputs]]:
        """By pattern its first layer and what the layers below give, where that is worth a forward.

        The forward that gives it is made here, without a pattern.
        """
        if not self.techniques.lower:
            return {}
        by_pattern: dict[Attention | None, tuple[int, Outputs]] = {}
        for shared in shared_lower_layers(batch, groups, self.layers.count):
            places = torch.from_numpy(batch[0][shared.branch].places)[None].to(self.model.device)
            ids = np.stack([window[shared.branch].ids for window in batch])
            started = time.perf_counter()
            with self.layers.recorded(shared.outputs) as outputs:
                self.model.states(
                    torch.from_numpy(ids).to(self.model.device),
                    positions=places if self.model.takes_positions else None,
                    keep=False,
                )
            self.costs.body_seconds += time.perf_counter() - started
            self.costs.tokens += ids.size
            self._add_flops({(0, ids.shape[1]): len(ids)})
            self.costs.forwards += 1
            by_pattern |= {attention: (first, outputs) for attention, first in shared.first.items()}
        return by_pattern

    @contextmanager
    def _attending(self, attention: Attention | None) -> Iterator[None]:
        """Put a pattern on the model; whether the model supports patterns is tried once."""
        if attention is None:
            yield
            return
        model, pattern = self.model.model, attention.pattern
        self._support = self._support or check_support(model, pattern)
        with apply_pattern(
            model,
            pattern,
            boundary=attention.boundary,
            places=attention.places,
            flex=self.flex,
            support=self._support,
        ):
            yield
