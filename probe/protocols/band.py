"""`band`: only the tokens of a band of distances are perturbed, what lies further stays intact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field

from probe.errors import UsageError
from probe.protocols.base import ANY_MODEL, ModelFacts, Protocol, WindowsConfig
from probe.protocols.branches import TargetRun
from probe.protocols.grid import FixedTargetsPlan, TargetsConfig, octaves
from probe.protocols.registry import register
from probe.text import shown


@register
class BandProtocol(Protocol):
    """Only a band of distances is perturbed at a time; what lies further stays intact."""

    order = 30
    finding = "bands"
    has_length = False
    has_far_start = True
    has_single_targets = True

    kind: Literal["band"] = "band"
    edges: list[Annotated[int, Field(ge=0)]]
    """rising distances between which the bands lie, tokens; only a band is perturbed"""
    targets: TargetsConfig = TargetsConfig()
    """as in grid"""

    @classmethod
    def starting(cls, length: int) -> Mapping[str, Any]:
        """A band an octave, up to half the window."""
        return {"protocol": {"edges": [0, *octaves(length // 2)]}}

    @property
    def alone(self) -> bool:
        """Whether each target has a sequence, and so a far context, of its own."""
        return self.targets.single

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "BandPlan":
        """What is measured of such windows.

        Raises:
            UsageError: If targets or bands do not fit them.
        """
        plan, edges = BandPlan(windows, model, self.targets, tuple(self.edges)), self.edges
        most = plan.tokens_before()
        rising = all(near < far for near, far in pairwise(edges))
        if len(edges) < 2 or not rising or edges[-1] > most:
            raise UsageError(
                f"protocol.edges is {shown(edges)}; allowed: two or more rising distances from 0 "
                f"to {most}, what stands before the first target"
            )
        return plan


@dataclass(frozen=True)
class BandPlan(FixedTargetsPlan):
    """Each band of distances before fixed targets is perturbed in turn.

    Source: Khandelwal et al. 2018, section 5; O'Connor & Andreas 2021, section 3.

    Args:
        edges: Distances between which the bands lie, tokens, rising: ``[0, 64, 256]`` are the
            bands 0–63 and 64–255. Distance 0 is the token right before the first target.
    """

    edges: Sequence[int]

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """One run a band and sequence, the furthest band first: its prefix is the shortest."""
        return tuple(
            TargetRun(first - near, first, stop, start=max(0, first - far))
            for near, far in reversed(list(pairwise(self.edges)))
            for first, stop in self.sequences()
        )
