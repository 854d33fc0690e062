"""Plans of protocols for windows of any length, also shorter ones than a configuration allows."""

from collections.abc import Sequence
from typing import Any

from probe.protocols.band import BandPlan, BandProtocol
from probe.protocols.base import ANY_MODEL, ModelFacts, Plan, WindowsConfig
from probe.protocols.branches import FirstToken
from probe.protocols.dense import DensePlan, DenseProtocol
from probe.protocols.grid import GridPlan, GridProtocol, TargetsConfig
from probe.protocols.longppl import LongPPLPlan, LongPPLProtocol
from probe.protocols.suffix import SuffixPlan, SuffixProtocol
from probe.protocols.sweep import SweepPlan, SweepProtocol

BOS_IN_FRONT = ModelFacts(first_token=FirstToken("keep", 0))


def windows(length: int | None, per_document: int | None = 4, skip: int = 0) -> WindowsConfig:
    """Windows of a length, unchecked."""
    return WindowsConfig.model_construct(length=length, per_document=per_document, skip=skip)


def sweep(length: int, reach: int | None = None, **options: Any) -> SweepPlan:
    """A sweep of windows of this length."""
    return SweepProtocol(reach=reach, **options).plan(windows(length))


def grid(length: int, distances: Sequence[int], **targets: Any) -> GridPlan:
    """A grid of windows of this length."""
    protocol = GridProtocol(distances=list(distances), targets=TargetsConfig(**targets))
    return protocol.plan(windows(length))


def band(length: int, edges: Sequence[int], **targets: Any) -> BandPlan:
    """Bands of windows of this length."""
    protocol = BandProtocol(edges=list(edges), targets=TargetsConfig(**targets))
    return protocol.plan(windows(length))


def dense(length: int, context: int, targets: int | None = None) -> DensePlan:
    """Every context of windows of this length."""
    return DenseProtocol(context=context, targets=targets).plan(windows(length))


def suffix(
    length: int,
    prefixes: Sequence[int],
    *,
    per_document: int | None = 4,
    skip: int = 0,
    **more: Any,
) -> SuffixPlan:
    """Candidates at the end of windows of this length."""
    return SuffixProtocol(prefixes=list(prefixes), **more).plan(windows(length, per_document, skip))


def longppl(length: int | None, *, model: ModelFacts = ANY_MODEL, **options: int) -> LongPPLPlan:
    """Short contexts of whole documents, cut off at a length."""
    return LongPPLProtocol(**options).plan(windows(length, 1), model)


__all__ = ["BOS_IN_FRONT", "Plan", "band", "dense", "grid", "longppl", "suffix", "sweep", "windows"]
