"""The protocols of a configuration: which boundaries and which targets are measured."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from probe.config_parts import Part, WindowsConfig
from probe.errors import UsageError
from probe.protocol import DEFAULT_RUNS, Plan, band, grid, longppl, sweep


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


ProtocolConfig = SweepConfig | GridConfig | BandConfig | LongPPLConfig
"""Any of them, told apart by ``kind``."""
