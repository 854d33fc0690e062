"""Effective context over the whole range of tolerances, from 0.1 % of perplexity to 100 %."""

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from probe.analysis.effective import EffectiveContext, effective_context
from probe.analysis.fit import FittedCurve
from probe.analysis.floor import NoiseFloor, is_noise
from probe.analysis.settings import Analysis
from probe.analysis.tolerance import Tolerance

_DECADE = (
    *(100, 112, 125, 140, 160, 180, 200, 224, 250, 280),
    *(315, 355, 400, 450, 500, 560, 630, 710, 800, 900),
)

GRID = (*(step * 10**decade / 1e5 for decade in range(3) for step in _DECADE), 1.0)
"""Rises in perplexity, 0.001 (0.1 %) to 1 (100 %), twenty a decade (Renard's R20 series): even
steps of the logarithm that hold 1, 2, 5 and 10 %."""

COLUMNS = ("condition", "tolerance", "epsilon", "kind", "length", "low", "high")


def tolerance_curve(
    fitted: Mapping[str, FittedCurve],
    *,
    floor: NoiseFloor | None,
    length: float = 0.0,
    shares: Iterable[float] = GRID,
) -> pd.DataFrame:
    """The length that each tolerance gives, with its interval.

    Every length is what :func:`probe.analysis.effective.effective_context` says of the same fitted
    curve, by all of its rules. A greater tolerance never gives a greater length.

    Args:
        fitted: Curves by condition; the noise control is left out.
        floor: Noise floor of the run.
        length: From :func:`probe.analysis.floor.length_limit`, nats.
        shares: Rises in perplexity, as shares (0.01 is 1 %).

    Returns:
        One row per condition and tolerance with the columns ``COLUMNS``: ``tolerance`` (share),
        ``epsilon`` (nats), ``kind`` as in ``EffectiveContext``, ``length, low, high`` (tokens,
        nullable Int64; a missing one lies beyond reach, and all are missing if ``unresolved``).
    """
    asked = sorted(set(shares))
    rows = [
        (
            name,
            share,
            *_row(effective_context(curve, _tolerance(share), floor=floor, length=length)),
        )
        for name, curve in fitted.items()
        if not is_noise(name)
        for share in asked
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(("length", "low", "high"), "Int64"))


def shares_of(how: Analysis, bytes_per_token: float | None = None) -> tuple[float, ...]:
    """The grid and the run's own tolerances as rises in perplexity.

    Args:
        how: How the run is read; a tolerance that is a share of delta has no rise of its own.
        bytes_per_token: Mean UTF-8 bytes of a token, for bits per byte.

    Raises:
        UsageError: If bits per byte are asked of a run without text.
    """
    own = []
    for tolerance in how.tolerances:
        nats = tolerance.nats(bytes_per_token=bytes_per_token)
        if tolerance.unit == "perplexity":
            own.append(tolerance.amount)
        elif nats is not None:
            own.append(math.expm1(nats))
    return tuple(sorted({*GRID, *own}))


def _tolerance(share: float) -> Tolerance:
    return Tolerance(f"{share * 100:g}%", "perplexity", share)


def _row(context: EffectiveContext) -> tuple[object, ...]:
    return (context.epsilon, context.kind, *context.lengths)
