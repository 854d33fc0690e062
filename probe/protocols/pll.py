"""`pll`: targets masked one by one, their far text on one side or on both."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from probe.corpus.windows import Document, Window
from probe.errors import UsageError
from probe.perturbations.condition import Condition, draw_rng
from probe.protocols.base import (
    ANY_MODEL,
    Inputs,
    ModelFacts,
    Plan,
    Protocol,
    WindowsConfig,
    with_windows,
)
from probe.protocols.branches import Draw, Scored, TargetRun, attended
from probe.protocols.registry import register
from probe.protocols.surrounded import BothSides
from probe.results.record import Reading
from probe.text import shown

Side = Literal["both", "left", "right"]
_LENGTH = 510  # tokens of a window: 512 positions less those of two special tokens


@register
class PllProtocol(Protocol):
    """Targets are masked one by one (pseudo-log-likelihood); far text on one side or on both."""

    order = 80
    family = "masked"
    allows_patterns = True
    has_same_targets = True

    kind: Literal["pll"] = "pll"
    distances: list[Annotated[int, Field(ge=0)]] | None = None
    """intact tokens between a target and far text; null: one an octave"""
    side: Side = "both"
    """where far text lies; with both as many tokens stay intact on each side"""
    targets: PositiveInt = 16
    """how many a window, drawn one from each of as many equal parts"""
    masking: Literal["within_word_l2r", "original"] = "within_word_l2r"
    """whether the later pieces of a target's word are masked too, or the target alone"""
    targets_per_forward: PositiveInt = 1
    """how many, far apart, are masked at once; checked against 1 on the model before it is used"""

    @classmethod
    def defaults(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Windows are as long as most masked models allow."""
        return with_windows(content, length=_LENGTH)

    @classmethod
    def reading(cls, options: Mapping[str, Any]) -> Reading:
        """Of the sides, and that a masked target's loss is no causal one."""
        sides = {
            "both": "on both sides of a target, and a distance is that of each",
            "left": "before a target, and what stands behind it is intact",
            "right": "behind a target, and what stands before it is intact",
        }
        where = sides.get(str(options.get("side", "both")), "beside a target")
        return Reading(
            caveat=f"a loss is that of a masked target, which sees both sides; far text is {where}",
            memory="keys and values",
            is_before=options.get("side") != "right",
        )

    def check_conditions(self, conditions: Sequence[Condition]) -> None:
        """Far keys are compressed before a boundary alone.

        Raises:
            ValueError: If they lie behind the target too.
        """
        super().check_conditions(conditions)
        pressed = [c.text for c in conditions if c.pattern and c.pattern.needs_boundary]
        if pressed and self.side != "left":
            raise ValueError(f"{pressed[0]}: allowed with side: left")

    @property
    def alone(self) -> bool:
        """Each target has a sequence, and so a far context, of its own."""
        return True

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "PllPlan":
        """What is measured of such windows.

        Raises:
            UsageError: If distances or targets do not fit them.
        """
        sides = 2 if self.side == "both" else 1
        most = (windows.fixed - 1) // (2 * sides)
        distances = self.distances
        if distances is None:
            distances = [1 << bit for bit in range(most.bit_length())]
        if not distances or max(distances) > most:
            raise UsageError(
                f"protocol.distances is {shown(self.distances)}; allowed: one or more from 0 to "
                f"{most}, so that far text is at least as long in windows of {windows.fixed} tokens"
            )
        plan = PllPlan(
            windows,
            model,
            tuple(sorted(set(distances))),
            self.side,
            self.targets,
            self.masking == "within_word_l2r",
            min(self.targets_per_forward, self.targets),
        )
        first, stop = plan.targets
        if self.targets > stop - first:
            raise UsageError(
                f"protocol.targets is {self.targets}; allowed: 1 to {stop - first}, the tokens "
                f"with far text enough for distance {max(distances)} in windows of {windows.fixed}"
            )
        return plan


@dataclass(frozen=True)
class PllPlan(Plan):
    """Some targets a window, a sequence for each distance of each.

    Source: pseudo-log-likelihood Salazar et al. 2020; ``within_word_l2r`` Kauf & Ivanova 2023.

    Args:
        distances: Intact tokens between a target and far text, rising.
        side: Where far text lies.
        count: Targets of a window.
        within_word: Whether the later pieces of a target's word are masked too.
        at_once: Targets that are masked in one sequence.
        places: The targets of the window at hand, rising.
    """

    distances: tuple[int, ...]
    side: Side
    count: int
    within_word: bool
    at_once: int
    places: tuple[int, ...] = ()

    @property
    def targets(self) -> tuple[int, int]:
        """First token, and one past the last, that has far text enough to be a target."""
        most = max(self.distances)
        first = max(1, 2 * most) if self.side != "right" else 0
        stop = self.length - (max(1, 2 * most) if self.side != "left" else 0)
        return first, stop

    @property
    def reach(self) -> int:
        """Longest distance plus one."""
        return max(self.distances) + 1

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """The shortest far text of each distance: no branch is made of these, see `branches`."""
        first, stop = self.targets
        shortest = self.length - stop if self.side == "right" else first
        return tuple(TargetRun(shortest - d, first, stop) for d in reversed(self.distances))

    @property
    def longest_far(self) -> int:
        """Most tokens of a far text, on one side."""
        first, stop = self.targets
        left, right = stop - 1, self.length - first - 1
        return {"left": left, "right": right, "both": max(left, right)}[self.side]

    @property
    def plain(self) -> Self:
        """One target masked at a time."""
        return replace(self, at_once=1)

    def usable(self, documents: Sequence[Document], seed: int) -> Sequence[Document]:
        """All, where words can be told.

        Raises:
            UsageError: If the data is token ids without text, and words are asked for.
        """
        if self.within_word and any(document.text is None for document in documents):
            raise UsageError(
                "protocol.masking is 'within_word_l2r', which reads words, and the data is token "
                "ids without text; allowed: original"
            )
        return documents

    def of_window(self, window: Window, document: Document, seed: int) -> Self:
        """The plan with the targets that are drawn for a window."""
        rng = draw_rng(seed, document.id, window.index, "targets", 0)
        edges = np.linspace(*self.targets, self.count + 1).astype(int)
        return replace(self, places=tuple(rng.integers(edges[:-1], edges[1:]).tolist()))

    def branches(self, window: Window, draws: Iterable[Draw], inputs: Inputs) -> list[Scored]:
        """Of every target its intact branch, then those of each draw and distance."""
        plan, draws = self.of_window(window, inputs.document, inputs.seed), list(draws)
        step = -(-self.count // self.at_once)
        scored = []
        for number in range(step):
            together = plan.places[number::step]  # far apart: others lie between
            read = BothSides(window, self._masked(window, together, inputs), self.model)
            for target in together:
                intact = self._intact(read, target)
                scored.append(intact)
                for draw in draws:
                    if draw.condition.is_attended:
                        scored.append(attended(intact, draw.condition))
                    else:
                        given = partial(self._perturbed, read, target, draw, inputs)
                        scored += map(given, self.distances)
        return scored

    def _masked(self, window: Window, targets: Sequence[int], inputs: Inputs) -> NDArray[np.int64]:
        """The window with masks in the place of targets and of the later pieces of their words."""
        assert self.model.mask is not None
        hidden = np.zeros(len(window.ids), dtype=bool)
        hidden[list(targets)] = True
        if self.within_word and inputs.text is not None:
            words = inputs.text.units("word")
            for target in targets:
                hidden[target:] |= words[target:] == words[target]
        return np.where(hidden, self.model.mask, window.ids)

    def _intact(self, read: BothSides, target: int) -> Scored:
        """The whole window with masks in it, for one of the targets behind them."""
        branch, position = read.whole(slice(target, target + 1)), read.window.start + target
        return Scored(branch, "intact", 0, position, -1, -1, boundary_right=-1)

    def _perturbed(
        self, read: BothSides, target: int, draw: Draw, inputs: Inputs, distance: int
    ) -> Scored:
        """Far text perturbed under a draw, *distance* tokens from the target and further."""
        start = target - distance if self.side != "right" else 0
        stop = target + 1 + distance if self.side != "left" else len(read.ids)
        own, origin = slice(target, target + 1), read.window.start
        branch, before = read.surrounded(slice(start, stop), own, draw, inputs)
        boundary = origin + (stop if self.side == "right" else start)
        return Scored(
            branch,
            draw.condition.text,
            draw.repeat,
            origin + target,
            origin if before else boundary,
            boundary,
            distance,
            origin + stop if self.side != "left" else -1,
        )
