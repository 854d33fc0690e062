"""`grid`: targets are fixed, the boundary moves over a list of distances; and fixed targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from probe.errors import UsageError
from probe.fields import Part
from probe.protocols.base import ANY_MODEL, ModelFacts, Plan, Protocol, WindowsConfig
from probe.protocols.branches import TargetRun
from probe.protocols.registry import register
from probe.text import shown


class TargetsConfig(Part):
    """The fixed targets of every window; ``alone`` gives each a sequence of its own."""

    count: PositiveInt = 10
    end_offset: Annotated[int, Field(ge=0)] = 40
    alone: bool = False

    @property
    def single(self) -> bool:
        """Whether no two share a sequence."""
        return self.alone or self.count == 1


def octaves(most: int) -> list[int]:
    """A length an octave from 16 tokens to *most*."""
    return [1 << number for number in range(4, most.bit_length())]


@dataclass(frozen=True)
class FixedTargetsPlan(Plan):
    """Some consecutive targets near the end of each window.

    Args:
        fixed: How many, and where.
    """

    fixed: TargetsConfig

    @property
    def targets(self) -> tuple[int, int]:
        """First target, and one past the last."""
        stop = self.length - self.fixed.end_offset
        return stop - self.fixed.count, stop

    def sequences(self) -> tuple[tuple[int, int], ...]:
        """First target, and one past the last, of each sequence."""
        first, stop = self.targets
        alone = ((target, target + 1) for target in range(first, stop))
        return tuple(alone) if self.fixed.alone else ((first, stop),)

    def tokens_before(self) -> int:
        """Tokens before the first target: the longest distance that can be asked for.

        Raises:
            UsageError: If the targets do not fit the window.
        """
        first, _ = self.targets
        if first < 1:
            raise UsageError(
                f"protocol.targets: {self.fixed.count} targets ending {self.fixed.end_offset} "
                f"tokens before the end do not fit windows of {self.length} tokens"
            )
        return first


@register
class GridProtocol(Protocol):
    """Targets are fixed, the boundary moves over a list of distances."""

    order = 20
    allows_patterns = True
    has_same_targets = True
    has_single_targets = True

    kind: Literal["grid"] = "grid"
    distances: list[Annotated[int, Field(ge=0)]]
    """distances of the first target from the boundary, tokens"""
    targets: TargetsConfig = TargetsConfig()
    """how many, how many tokens before the window's end they end, and whether each has a sequence
    of its own (alone)"""

    @classmethod
    def starting(cls, length: int) -> Mapping[str, Any]:
        """A distance an octave, up to half the window."""
        return {"protocol": {"distances": octaves(length // 2)}}

    @property
    def alone(self) -> bool:
        """Whether each target has a sequence, and so a far context, of its own."""
        return self.targets.single

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "GridPlan":
        """What is measured of such windows.

        Raises:
            UsageError: If targets or distances do not fit them.
        """
        plan = GridPlan(windows, model, self.targets, tuple(self.distances))
        most = plan.tokens_before()
        if not self.distances or any(d >= most for d in self.distances):
            raise UsageError(
                f"protocol.distances is {shown(self.distances)}; allowed: one or more from 0 to "
                f"{most - 1}, what stands before the first target"
            )
        return plan


@dataclass(frozen=True)
class GridPlan(FixedTargetsPlan):
    """A boundary for each distance before fixed targets.

    Source: Sun et al. 2021.

    Args:
        distances: Distances of the first target of a sequence from the boundary, tokens.
    """

    distances: Sequence[int]

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """One boundary a distance, the longest distance first, so that nested far texts share."""
        return tuple(
            TargetRun(first - d, first, stop)
            for d in sorted(set(self.distances), reverse=True)
            for first, stop in self.sequences()
        )
