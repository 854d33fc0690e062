"""The protocols of a configuration: which boundaries and which targets are measured."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator

from probe.errors import UsageError
from probe.options import Part, WindowsConfig
from probe.protocol import DEFAULT_RUNS, Passages, Plan, band, dense, grid, longppl, suffix, sweep
from probe.protocol.passages import LONGEST


class SweepConfig(Part):
    """The boundary stands still, every token behind it is a target."""

    kind: Literal["sweep"] = "sweep"
    reach: PositiveInt | None = None
    runs: dict[PositiveInt, PositiveInt] = Field(default_factory=lambda: dict(DEFAULT_RUNS))
    spread: Annotated[float, Field(ge=0, le=1)] = 0.25
    all_runs: bool = False
    insist: bool = False

    @field_validator("runs")
    @classmethod
    def _long_run(cls, runs: dict[int, int]) -> dict[int, int]:
        if runs.get(1) != 1:
            raise ValueError("allowed: {1: 1, …}, one long run over the whole reach, then others")
        return runs

    def plan(self, windows: WindowsConfig) -> Plan:
        """The protocol for these windows."""
        return sweep(
            windows.fixed,
            self.reach,
            lengths=self.runs,
            spread=self.spread,
            all_runs=self.all_runs,
            insist=self.insist,
        )


class TargetsConfig(Part):
    """The fixed targets of a grid or a band; ``alone`` gives each a sequence of its own."""

    count: PositiveInt = 10
    end_offset: Annotated[int, Field(ge=0)] = 40
    alone: bool = False


class GridConfig(Part):
    """Targets are fixed, the boundary moves over a list of distances."""

    kind: Literal["grid"]
    distances: list[Annotated[int, Field(ge=0)]]
    targets: TargetsConfig = TargetsConfig()

    def plan(self, windows: WindowsConfig) -> Plan:
        """The protocol for these windows."""
        return grid(windows.fixed, self.distances, **self.targets.model_dump())


class BandConfig(Part):
    """Only a band of distances is perturbed at a time; what lies further stays intact."""

    kind: Literal["band"]
    edges: list[Annotated[int, Field(ge=0)]]
    targets: TargetsConfig = TargetsConfig()

    def plan(self, windows: WindowsConfig) -> Plan:
        """The protocol for these windows."""
        return band(windows.fixed, self.edges, **self.targets.model_dump())


class LongPPLConfig(Part):
    """A short context slides over whole documents: the key tokens of LongPPL."""

    kind: Literal["longppl"]
    context: PositiveInt = 4096
    stride: Annotated[int, Field(ge=2)] = 1024

    def plan(self, windows: WindowsConfig) -> Plan:
        """The protocol for these windows.

        Raises:
            UsageError: If they are no whole documents, or too short.
        """
        if (windows.per_document, windows.skip) != (1, 0):
            raise UsageError(
                f"windows.per_document is {windows.per_document}, windows.skip {windows.skip}; "
                "allowed with protocol longppl, which measures whole documents: 1, 0"
            )
        return longppl(windows.length, self.context, self.stride)


class SuffixConfig(Part):
    """Which of several continuations the model takes for the text's own, prefix by prefix."""

    kind: Literal["suffix"]
    prefixes: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    tokens: PositiveInt = 128
    candidates: Annotated[int, Field(ge=2)] = 6
    at: str | None = None

    @field_validator("at")
    @classmethod
    def _expression(cls, at: str | None) -> str | None:
        try:
            re.compile(at or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"allowed: a regular expression ({error})") from error
        return at

    def plan(self, windows: WindowsConfig) -> Plan:
        """The protocol for these windows."""
        return suffix(
            windows.fixed,
            self.prefixes,
            tokens=self.tokens,
            candidates=self.candidates,
            at=self.at,
        )


class DenseConfig(Part):
    """Every context length from 1 to ``context``, for each of the last ``targets`` of a window."""

    kind: Literal["dense"]
    context: PositiveInt
    targets: PositiveInt | None = None

    def plan(self, windows: WindowsConfig) -> Plan:
        """The protocol for these windows."""
        return dense(windows.fixed, self.context, self.targets)


class PassagesConfig(Part):
    """One named passage of a document is perturbed at a time; the targets are its answer."""

    kind: Literal["passages"]
    answer: str = "answer"

    def plan(self, windows: WindowsConfig) -> Plan:
        """The protocol for these windows.

        Raises:
            UsageError: If they are no whole documents.
        """
        if (windows.per_document, windows.skip) != (1, 0):
            raise UsageError(
                f"windows.per_document is {windows.per_document}, windows.skip {windows.skip}; "
                "allowed with protocol passages, which measures whole documents: 1, 0"
            )
        return Passages(windows.length or LONGEST, self.answer)


ProtocolConfig = (
    SweepConfig
    | GridConfig
    | BandConfig
    | LongPPLConfig
    | SuffixConfig
    | DenseConfig
    | PassagesConfig
)
"""Any of them, told apart by ``kind``."""


def with_windows(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Complete a configuration whose protocol has windows and a condition of its own.

    With ``longppl`` and ``passages`` windows are whole documents; with ``suffix`` they hold the
    longest prefix and a continuation. The condition of ``longppl``, ``suffix`` and ``dense`` is
    ``truncate``; ``dense`` measures KL too.

    Args:
        content: What the file says, not checked yet.

    Returns:
        The same, with what was not said.
    """
    protocol, windows = content.get("protocol"), content.get("windows", {})
    if not isinstance(protocol, Mapping):
        return content
    if protocol.get("kind") == "dense":
        return {"conditions": ["truncate"], "measures": ["nll", "kl"], **content}
    if protocol.get("kind") == "passages" and isinstance(windows, Mapping):
        return {**content, "windows": {"length": None, "per_document": 1, **windows}}
    if protocol.get("kind") not in ("longppl", "suffix"):
        return content
    if isinstance(windows, Mapping) and protocol["kind"] == "longppl":
        windows = {"length": None, "per_document": 1, **windows}
    elif isinstance(windows, Mapping):
        prefixes, tokens = protocol.get("prefixes"), protocol.get("tokens", 128)
        longest = (
            max(filter(_whole, prefixes), default=None) if isinstance(prefixes, list) else None
        )
        if longest is not None and _whole(tokens):
            windows = {"length": max(8, longest + tokens), **windows}
    return {"conditions": ["truncate"], **content, "windows": windows}


def _whole(number: object) -> bool:
    return isinstance(number, int)
