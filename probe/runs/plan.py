"""What a run will forward and measure, counted on its own branches before any weight is loaded."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from probe.config import Config
from probe.corpus.windows import Window, Windows
from probe.engine.branch import (
    Attention,
    Beginnings,
    Branch,
    build,
    by_attention,
    by_source,
    columns,
    has_several,
    tokens,
    tree_groups,
    without_tree,
)
from probe.engine.losses import model_losses, state_changes
from probe.engine.lower_layers import computed_share, shared_lower_layers
from probe.models.scorer import Scorer
from probe.protocols.branches import Draw, Scored
from probe.results.footer import Key
from probe.results.shards import Shard
from probe.runs.experiment import Experiment


@dataclass(frozen=True)
class Missing:
    """What is left to score of a window.

    Args:
        windows: The windows of the run.
        number: Number of the window.
        draws: Its draws that were not scored.
        intact: Whether its intact rows are missing too.
    """

    windows: Windows
    number: int
    draws: tuple[Draw, ...]
    intact: bool

    @property
    def window(self) -> Window:
        """The window, made anew."""
        return self.windows[self.number]

    @property
    def keys(self) -> list[Key]:
        """What its rows hold: a draw is scored even where it leaves no target."""
        names = [("intact", 0)] if self.intact else []
        names += [(draw.condition.text, draw.repeat) for draw in self.draws]
        place = self.windows.places[self.number]
        return [(place.document, place.window, *name) for name in names]


Unit = Sequence[Missing]
"""A batch of windows: scored, written and, after an interruption, done again as one."""


@dataclass(frozen=True)
class Planned:
    """Sums over the windows of a run.

    Args:
        windows: Windows that are scored.
        branches: Sequences whose targets are scored.
        tokens: Tokens forwarded, each shared prefix once.
        plain_tokens: Tokens forwarded by one whole forward per branch.
        targets: Targets by condition and octave of distance; −1 is a row without a distance.
    """

    windows: int
    branches: int
    tokens: int
    plain_tokens: int
    targets: Mapping[str, Mapping[int, int]]


def planned_batch(config: Config) -> int:
    """Windows walked together as far as the configuration tells, on a CPU.

    A window of some length fills the cores alone.
    """
    length = config.windows.tokens or 512  # else each has its own length
    return max(1, 512 // length) if config.batch == "auto" else config.batch


def numbers_of(
    experiment: Experiment, shard: Shard | None, batch: range | None = None
) -> Sequence[int]:
    """Numbers of the windows that a shard holds, those of every n-th document; or of all.

    Args:
        experiment: The run.
        shard: The part of the run; ``None`` is all of it.
        batch: Numbers of the documents that are scored together; ``None`` is all of them.
    """
    if shard is None and batch is None:
        return range(len(experiment.windows))
    own = {
        name
        for number, name in enumerate(experiment.documents)
        if (shard is None or shard.holds(number)) and (batch is None or number in batch)
    }
    return [at for at, place in enumerate(experiment.windows.places) if place.document in own]


def missing(experiment: Experiment, held: Container[Key]) -> dict[int, Missing]:
    """What is left to score of a run, by the numbers of the windows of which something is.

    Args:
        experiment: The run.
        held: What has been scored before.
    """
    found, windows = {}, experiment.windows
    for number, (document, at, *_) in enumerate(windows.places):
        draws = experiment.draws_at(number)
        left = tuple(
            draw for draw in draws if (document, at, draw.condition.text, draw.repeat) not in held
        )
        intact = (document, at, "intact", 0) not in held
        if left or intact:
            found[number] = Missing(windows, number, left, intact)
    return found


def units(
    experiment: Experiment,
    batch: int,
    left: Mapping[int, Missing],
    shard: Shard | None = None,
    documents: range | None = None,
) -> Iterator[Unit]:
    """Divide a run into units of work.

    Args:
        experiment: The run.
        batch: Windows of a unit; the division does not depend on what is *left*.
        left: What is left to score, by the numbers of the windows.
        shard: The part of the run; ``None`` is all of it.
        documents: Numbers of the documents that are scored together; ``None`` is all of them.

    Yields:
        Units with something missing.
    """
    numbers = numbers_of(experiment, shard, documents)
    for at in range(0, len(numbers), batch):
        if unit := [left[number] for number in numbers[at : at + batch] if number in left]:
            yield unit


def costs(
    experiment: Experiment,
    batch: int,
    held: Container[Key],
    *,
    listen: Callable[[int], None] = lambda _: None,
) -> Planned:
    """Count what is left to score.

    Args:
        experiment: The run.
        batch: Windows walked together.
        held: What has been scored before.
        listen: Called with the number of windows that are counted, after every unit.
    """
    counts = Counter(windows=0, branches=0, tokens=0, plain_tokens=0)
    beginnings: set[bytes] = set()
    targets: dict[str, Counter[int]] = defaultdict(Counter)

    def spend(tokens: int, forwards: int, seconds: float) -> None:
        counts.update(tokens=tokens, plain_tokens=tokens)

    counted = copy(experiment)
    counted.plan = experiment.plan.fitted(None, spend)  # it forwards nothing, and counts that
    for unit in units(experiment, batch, missing(experiment, held)):
        scored = [counted.branches(one.window, one.draws) for one in unit]
        counts.update(
            windows=len(scored),
            branches=sum(map(len, scored)),
            tokens=_forwarded(scored, experiment.source.layers, beginnings),
            plain_tokens=sum(map(_plain_tokens, scored)),
        )
        for one in chain.from_iterable(scored):
            targets[one.condition].update(_octaves(one))
        listen(counts["windows"])
    return Planned(**counts, targets=targets)


def octave(distances: np.ndarray) -> np.ndarray:
    """The octave of each distance: its bits (0 for 0, 1 for 1, 2 for 2–3, 3 for 4–7, …)."""
    found: np.ndarray = np.ceil(np.log2(distances + 1)).astype(np.int64)
    return found


def octave_limits(number: int) -> tuple[int, int] | tuple[None, None]:
    """The first distance of an octave and one past its last; none of −1, no distance."""
    if number < 0:
        return None, None
    return 1 << (number - 1) if number else 0, 1 << number


def octave_name(number: int) -> str:
    """The distances of an octave: ``512–1,023``."""
    first, end = octave_limits(number)
    if first is None or end is None:
        return "none"
    return f"{first:,}" if first == end - 1 else f"{first:,}–{end - 1:,}"


def _forwarded(scored: Sequence[Sequence[Scored]], layers: int, beginnings: set[bytes]) -> int:
    """Tokens that the engine forwards for windows, alike ones walked together.

    Of a pattern whose lower layers are left out the part that is forwarded. *beginnings* are those
    that were forwarded before; what comes is added.
    """
    alike: dict[object, list[Sequence[Scored]]] = {}
    for window in scored:
        shape = tuple(o.branch.shape for o in window)
        alike.setdefault(shape, []).append(window)
    total = 0
    for group in alike.values():
        for part in tree_groups([one.branch for one in group[0]], intact_branches(group[0])):
            batch = [[window[number].branch for number in part] for window in group]
            for numbers in by_source(batch, range(len(part))):
                own = [[window[number] for number in numbers] for window in batch]
                total += _forwarded_together(own, layers, beginnings)
    return total


def _forwarded_together(
    batch: Sequence[Sequence[Branch]], layers: int, beginnings: set[bytes]
) -> int:
    """The same of branches of one source, which is forwarded once."""
    total = sum(len(window[0].source.ids) for window in batch if window[0].source is not None)
    groups = by_attention(batch[0])
    first: dict[Attention, int] = {}
    for shared in shared_lower_layers(batch, groups, layers):
        total += len(batch[0][shared.branch].ids) * len(batch)
        first |= shared.first
    for attention, own in groups.items():
        keys = [columns([window[number] for window in batch]) for number in own]
        # An encoder has no cache to go on from.
        shares = attention is None and batch[0][own[0]].masked is None
        tree = build(keys) if shares else without_tree(keys)
        common = Beginnings(tree, [[window[number] for number in own] for window in batch])
        for ids in (window[number].beginning for window in batch for number in own):
            if ids is not None and ids.tobytes() not in beginnings:
                beginnings.add(ids.tobytes())
                total += len(ids)
        left = computed_share(first.get(attention, 0) if attention else 0, layers)
        total += round(tokens(tree, common) * len(batch) * left)
    return total


def _plain_tokens(window: Sequence[Scored]) -> int:
    """Tokens of a whole forward per branch; several intact branches are parts of others.

    Those of a masked model are not; of a decoder, branches of one text and source are one forward.
    """
    every = [one.branch for one in window]
    read = [(branch, branch.source) for branch in every if branch.source is not None]
    if read:
        texts = {(b.keys.tobytes(), b.attention, source.key): (b, source) for b, source in read}
        return sum(len(branch.ids) + len(source.ids) for branch, source in texts.values())
    apart = not has_several(intact_branches(window)) or every[0].masked is not None
    return sum(len(one.branch.ids) for one in window if apart or one.condition != "intact")


def intact_branches(window: Sequence[Scored]) -> list[int]:
    """Numbers of the branches that hold a window's intact targets."""
    return [number for number, one in enumerate(window) if one.condition == "intact"]


def _octaves(one: Scored) -> Mapping[int, int]:
    """Targets of a branch by octave."""
    targets = one.branch.targets
    if one.boundary < 0:
        return {-1: targets}
    if isinstance(one.nearest, np.ndarray):
        numbers, counts = np.unique(octave(one.nearest), return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    return _by_octave(one.distance, targets)


@lru_cache(maxsize=4096)  # every window has the same runs
def _by_octave(first: int, targets: int) -> dict[int, int]:
    """Targets of each octave, of consecutive distances from *first* on."""
    numbers, counts = np.unique(octave(first + np.arange(targets)), return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


PIECE = 512  # tokens forwarded and scored for the measurement


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Args:
        tokens_per_second: Through the body.
        targets_per_second: Through the head.
        weights: Bytes of the weights.
        cache_per_token: Bytes of keys and values per token, 0 where there is no such cache.
    """

    tokens_per_second: float
    targets_per_second: float
    weights: int
    cache_per_token: float

    def seconds(self, tokens: int, targets: int) -> float:
        """Time that a run takes, without loading and self-check."""
        return tokens / self.tokens_per_second + targets / self.targets_per_second

    def cache(self, tokens: int) -> float:
        """Bytes of keys and values of a window."""
        return self.cache_per_token * tokens


def speed(model: Scorer, ids: NDArray[np.int64], measures: Sequence[str] = ("nll",)) -> Speed:
    """Forward a piece of a text twice, score its targets, and time the second pass.

    Args:
        model: The model.
        ids: Token ids, shape ``(n,)``.
        measures: What is computed of a target; without the intact text that ``kl`` compares with.
    """
    piece = torch.from_numpy(np.ascontiguousarray(ids[:PIECE]))[None].to(model.device)
    read = model.some_source(piece.shape[1])
    with torch.inference_mode(), model.exact_head(), model.reading(read):
        for _ in range(2):
            started = time.perf_counter()
            states, cache = model.states(piece)
            _wait(model)
            body = time.perf_counter() - started
            rows = states[0]
            started = time.perf_counter()
            labels = piece[0, : len(rows)]
            if model.has_head:
                model_losses(model, rows, labels, measures=measures)
            else:
                state_changes(rows[None], rows[None])
            head = time.perf_counter() - started
    held = [t for layer in getattr(cache, "layers", []) for t in vars(layer).values()]
    size = sum(t.nbytes for t in held if isinstance(t, torch.Tensor) and t.ndim == 4)
    weights = sum(p.nbytes for p in model.model.parameters())
    return Speed(piece.numel() / body, len(rows) / head, weights, size / piece.numel())


def _wait(model: Scorer) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
