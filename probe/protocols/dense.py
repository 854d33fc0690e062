"""`dense`: every context length from 1 to some length, for every target."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import PositiveInt

from probe.corpus.windows import Window
from probe.engine.branch import Branch
from probe.errors import UsageError
from probe.perturbations.condition import Condition, parse
from probe.protocols.base import (
    ANY_MODEL,
    TRUNCATE,
    Inputs,
    ModelFacts,
    Plan,
    Protocol,
    WindowsConfig,
)
from probe.protocols.branches import Draw, Scored, TargetRun, perturbed
from probe.protocols.registry import register
from probe.results.record import Reading


@register
class DenseProtocol(Protocol):
    """Every context length from 1 to ``context``, for each of the last ``targets`` of a window."""

    order = 60
    finding = "dense"
    needs = {"context": 1}  # noqa: RUF012 (a ClassVar of the base)

    kind: Literal["dense"] = "dense"
    context: PositiveInt
    """longest context, tokens: every length from 1 to it is measured"""
    targets: PositiveInt | None = None
    """how many, the last of a window; null is all that have so long a context"""

    @classmethod
    def defaults(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Text is truncated, and how the distribution changes is measured too."""
        return {"conditions": [TRUNCATE], "measures": ["nll", "kl"], **content}

    @classmethod
    def starting(cls, length: int) -> Mapping[str, Any]:
        """Some targets of a window, and contexts short enough to be forwarded one by one."""
        return {"protocol": {"context": min(128, length // 2), "targets": min(256, length // 2)}}

    @classmethod
    def reading(cls, options: Mapping[str, Any]) -> Reading:
        """Far text begins with the longest context, which a target's loss is compared with."""
        context = options.get("context")
        return Reading(context=context if type(context) is int else None)

    def check_conditions(self, conditions: Sequence[Condition]) -> None:
        """A shorter context is a truncated one."""
        if [one.text for one in conditions] != [TRUNCATE]:
            raise ValueError(f"allowed with protocol {self.kind}: truncate")

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "DensePlan":
        """What is measured of such windows.

        Raises:
            UsageError: If context and targets do not fit them.
        """
        length, context = windows.fixed, self.context
        if context >= length:
            raise UsageError(
                f"protocol.context is {context}; allowed: 1 to {length - 1}, windows have {length} "
                "tokens"
            )
        count = length - context if self.targets is None else self.targets
        if count > length - context:
            raise UsageError(
                f"protocol.targets is {count}; allowed: 1 to {length - context}, the tokens behind "
                f"a context of {context} in windows of {length}"
            )
        return DensePlan(windows, model, context, count)


@dataclass(frozen=True)
class DensePlan(Plan):
    """Text begins at every token in turn, so that every target is seen behind every length.

    Source: Cífka & Liutkus 2023, section 3 (context length probing).

    Args:
        context: Longest context, tokens; what a target is compared with is this one.
        count: Number of targets, the last of the window.
    """

    context: int
    count: int
    forwarded = "protocol.context and its target take"

    @property
    def targets(self) -> tuple[int, int]:
        """First target, and one past the last."""
        return self.length - self.count, self.length

    @property
    def reach(self) -> int:
        """Longest distance plus one; the distance is the length of the context."""
        return self.context + 1

    @property
    def longest_forward(self) -> int:
        """The longest context and its target, behind what is kept of the window in front."""
        return self.context + 1 + self.model.first_token.kept

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """One run a start, rising: of every target the longest context comes first."""
        first, stop = self.targets
        return tuple(
            TargetRun(start, max(first, start + 1), min(start + self.context + 1, stop))
            for start in range(first - self.context, stop - 1)
        )

    def branches(self, window: Window, draws: Iterable[Draw], inputs: Inputs) -> list[Scored]:
        """Every start of a window, before it the intact branch of the target it is longest for.

        Intact is here a target's longest context, exactly ``context`` tokens: an intact branch is
        the beginning of the text from one start, with a single target, and costs no forward.

        Args:
            window: The window.
            draws: ``truncate``, or nothing but intact.
            inputs: What else branches are made of.
        """
        condition, asked = parse(TRUNCATE), bool(list(draws))
        scored = []
        for run in self.runs(shared=True):
            one = perturbed(window, run, Draw(condition), self.model.first_token)
            if run.stop - 1 - run.boundary == self.context:
                scored.append(_longest(one))
            if asked:
                scored.append(one)
        return scored


def _longest(one: Scored) -> Scored:
    """The last target of a branch, as intact."""
    ids, last = one.branch.ids, one.branch.targets - 1
    branch = Branch(ids, ids, len(ids) - 1, len(ids), one.branch.origin + last)
    return Scored(branch, "intact", 0, one.position + last, -1, -1)
