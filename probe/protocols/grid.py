"""`grid`: targets are fixed, the boundary moves over a list of distances."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from probe.errors import UsageError
from probe.options import WindowsConfig
from probe.protocols.base import (
    ANY_MODEL,
    FixedTargetsPlan,
    ModelFacts,
    Protocol,
    TargetsConfig,
)
from probe.protocols.branches import TargetRun
from probe.protocols.registry import register
from probe.text import shown


@register
class GridProtocol(Protocol):
    """Targets are fixed, the boundary moves over a list of distances."""

    order = 20
    allows_patterns = True
    has_same_targets = True
    has_single_targets = True

    kind: Literal["grid"] = "grid"
    distances: Annotated[
        list[Annotated[int, Field(ge=0)]],
        Field(description="distances of the first target from the boundary, tokens"),
    ]
    targets: Annotated[
        TargetsConfig,
        Field(
            description="how many, how many tokens before the window's end they end, and whether "
            "each has a sequence of its own (alone)"
        ),
    ] = TargetsConfig()

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
