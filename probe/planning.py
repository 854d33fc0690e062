"""What a run will forward and measure, counted on its own branches before any weight is loaded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from probe.beneath import beneath, share
from probe.branch import Attention, by_attention, columns
from probe.branches import Scored
from probe.config import Config
from probe.experiment import Draw, Experiment
from probe.packing import without_tree
from probe.references import several, together
from probe.store import Key
from probe.tree import build, tokens
from probe.windows import Window


@dataclass(frozen=True)
class Unit:
    """What is scored, written and, after an interruption, done again as one.

    Args:
        windows: Windows of one batch.
        draws: What is missing of each of them, aligned with *windows*.
        intact: Whether the intact rows of each window are missing too.
    """

    windows: tuple[Window, ...]
    draws: tuple[tuple[Draw, ...], ...]
    intact: tuple[bool, ...]


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
    targets: dict[str, dict[int, int]]


def planned_batch(config: Config) -> int:
    """Windows walked together as far as the configuration tells, on a CPU.

    A window of some length fills the cores alone.
    """
    length = config.windows.length or 512  # whole documents: each has its own length
    return max(1, 512 // length) if config.batch == "auto" else config.batch


def units(experiment: Experiment, batch: int, held: set[Key]) -> Iterator[Unit]:
    """Divide a run into units of work.

    Args:
        experiment: The run.
        batch: Windows of a unit; the division does not depend on what is *held*.
        held: What has been scored before.

    Yields:
        Units with something missing.
    """
    for at in range(0, len(experiment.windows), batch):
        missing = []
        for window in experiment.windows[at : at + batch]:
            intact, *keys = experiment.keys(window)
            draws = zip(experiment.draws_of(window), keys, strict=True)
            left = tuple(draw for draw, key in draws if key not in held)
            if left or intact not in held:
                missing.append((window, left, intact not in held))
        if missing:
            windows, draws_left, intacts = zip(*missing, strict=True)
            yield Unit(windows, draws_left, intacts)


def costs(experiment: Experiment, batch: int, held: set[Key]) -> Planned:
    """Count what is left to score.

    Args:
        experiment: The run.
        batch: Windows walked together.
        held: What has been scored before.
    """
    counts = {"windows": 0, "branches": 0, "tokens": 0, "plain": 0}
    targets: dict[str, dict[int, int]] = {}
    for unit in units(experiment, batch, held):
        scored = [
            experiment.branches(window, draws)
            for window, draws in zip(unit.windows, unit.draws, strict=True)
        ]
        counts["windows"] += len(scored)
        counts["branches"] += sum(map(len, scored))
        counts["tokens"] += _forwarded(scored, experiment.source.layers)
        counts["plain"] += sum(map(_plain_tokens, scored))
        for one in (one for window in scored for one in window):
            _count(targets.setdefault(one.condition, {}), one)
    return Planned(
        counts["windows"], counts["branches"], counts["tokens"], counts["plain"], targets
    )


def octave(distances: np.ndarray) -> np.ndarray:
    """The octave of each distance: its bits (0 for 0, 1 for 1, 2 for 2–3, 3 for 4–7, …)."""
    found: np.ndarray = np.ceil(np.log2(distances + 1)).astype(np.int64)
    return found


def octave_name(number: int) -> str:
    """The distances of an octave: ``64–127``."""
    if number < 0:
        return "none"
    first = 0 if number == 0 else 1 << (number - 1)
    last = (1 << number) - 1
    return str(first) if first == last else f"{first}–{last}"


def _forwarded(scored: Sequence[Sequence[Scored]], layers: int) -> int:
    """Tokens that the engine forwards for windows, alike ones walked together.

    Of a pattern whose lower layers are left out the part that is forwarded.
    """
    alike: dict[object, list[Sequence[Scored]]] = {}
    for window in scored:
        shape = tuple(o.branch.shape for o in window)
        alike.setdefault(shape, []).append(window)
    total = 0
    for group in alike.values():
        for part in together([one.branch for one in group[0]], _intact(group[0])):
            batch = [[window[number].branch for number in part] for window in group]
            groups = by_attention(batch[0])
            first: dict[Attention, int] = {}
            for text in beneath(batch, groups, layers):
                total += len(batch[0][text.branch].ids) * len(batch)
                first |= text.first
            for attention, own in groups.items():
                keys = [columns([window[number] for window in batch]) for number in own]
                tree = build(keys) if attention is None else without_tree(keys)
                left = share(first.get(attention, 0) if attention else 0, layers)
                total += round(tokens(tree) * len(batch) * left)
    return total


def _plain_tokens(window: Sequence[Scored]) -> int:
    """Tokens of a whole forward per branch; several intact branches are parts of others."""
    apart = not several(_intact(window))
    return sum(len(one.branch.ids) for one in window if apart or one.condition != "intact")


def _intact(window: Sequence[Scored]) -> list[int]:
    return [number for number, one in enumerate(window) if one.condition == "intact"]


def _count(octaves: dict[int, int], one: Scored) -> None:
    targets = one.branch.targets
    first = one.position - one.boundary
    counts = _by_octave(first, targets) if one.boundary >= 0 else {-1: targets}
    for number, count in counts.items():
        octaves[number] = octaves.get(number, 0) + count


@lru_cache(maxsize=4096)  # every window has the same runs
def _by_octave(first: int, targets: int) -> dict[int, int]:
    """Targets of each octave, of consecutive distances from *first* on."""
    numbers, counts = np.unique(octave(first + np.arange(targets)), return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))
