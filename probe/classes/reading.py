"""Reading the sums of one token class: its curve, its answers, and when there are too few."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probe.analysis.bins import octave_edges, octave_index
from probe.analysis.bootstrap import Bootstrap, bootstrap, too_few
from probe.analysis.effective import EffectiveContext, effective_contexts
from probe.analysis.fit import fit_curve, isotonic
from probe.analysis.intervals import intervals
from probe.analysis.opened import Opened
from probe.analysis.sums import Sums, stacked, to_sums
from probe.analysis.tolerance import Tolerance
from probe.corpus.windows import FEWEST_DOCUMENTS

FEWEST_TARGETS = 50
"""Below this many targets in an octave a mean of so skewed a thing as delta says too little."""
TABLE = (
    "condition",
    "distance_from",
    "distance_to",
    "where",
    "delta",
    "low",
    "high",
    "targets",
    "documents",
)


@dataclass(frozen=True, eq=False)
class Reading:
    """How the sums of a class are read: as those of the whole run, with its draws of documents.

    Args:
        run: The open run.
    """

    run: Opened

    def read(
        self, condition: str, rows: pd.DataFrame, measured: NDArray[np.int64]
    ) -> tuple[pd.DataFrame, list[EffectiveContext]]:
        """The curve of one value under one condition, and its answer at each tolerance.

        An answer says that delta stays below the tolerance from a distance on, or does not up to
        the end: it is ``unresolved`` with fewer than six documents, or with fewer than
        ``FEWEST_TARGETS`` targets in any octave from the one of its lower limit to the end of the
        condition's curve. The octaves before may be thin: a lower limit stops there by itself.

        Args:
            condition: Canonical text of the condition.
            rows: Its sums: ``distance_from, distance_to, document, targets, delta_sum``.
            measured: First distances of the bins that the condition has over all targets (tokens),
                rising.

        Returns:
            A frame ``condition, distance_from, distance_to, delta, low, high, fit, targets,
            documents``, and the answers.
        """
        run, how = self.run, self.run.how
        sums = to_sums(rows, run.documents)
        octaves = _octaves(sums, measured)
        reason = _too_few(sums, octaves[-1:])
        if reason is None:
            curve = fit_curve(condition, sums, run.weights, how.confidence)
            resampled, fit = curve.resampled, curve.fit
            answers = effective_contexts(
                curve,
                how.tolerances,
                floor=run.floor,
                bytes_per_token=run.per_token,
                length=run.length,
            )
            contexts = [_if_enough(answer, sums, octaves) for answer in answers]
        else:
            resampled = bootstrap(sums.sums, sums.targets, run.weights, how.confidence)
            fit = isotonic(resampled.mean, sums.targets.sum(axis=0))
            contexts = [
                _unresolved(condition, tolerance, sums, reason) for tolerance in how.tolerances
            ]
        frame = self.frame(sums, resampled)
        frame.insert(0, "condition", condition)
        frame.insert(6, "fit", fit)
        return frame, contexts

    def frame(self, sums: Sums, resampled: Bootstrap) -> pd.DataFrame:
        """Means by bin with their limits, which are missing below six documents.

        All draws that hold the one document of a bin agree: their limits would be none.
        """
        how = self.run.how
        frame = intervals(sums, resampled, how.confidence, simultaneous=how.simultaneous)
        frame.loc[frame["documents"] < FEWEST_DOCUMENTS, ["low", "high"]] = np.nan
        return frame

    def placed(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Delta by condition, octave and place relative to the boundary.

        Args:
            rows: From :func:`probe.classes.class_sums.boundary_sums`.

        Returns:
            A frame with the columns ``TABLE``.
        """
        frames = []
        for (condition, where), part in rows.groupby(["condition", "where"]):
            sums = to_sums(part, self.run.documents)
            resampled = bootstrap(
                sums.sums, sums.targets, self.run.weights, self.run.how.confidence
            )
            frame = self.frame(sums, resampled)
            frames.append(frame.assign(condition=str(condition), where=str(where)))
        table = stacked(frames, TABLE)[[*TABLE]]
        table = table.sort_values(["condition", "distance_from", "where"])
        return table.reset_index(drop=True)


@dataclass(frozen=True)
class _Octave:
    """An octave of a condition's curve, and how many targets a value has there."""

    lower: int
    upper: int
    targets: int


def _octaves(sums: Sums, measured: NDArray[np.int64]) -> list[_Octave]:
    """The octaves in which the condition was measured at all."""
    numbers = np.unique(octave_index(measured))
    edges = octave_edges(int(measured[-1]) + 1)
    by_bin, found = octave_index(sums.lower), sums.targets.sum(axis=0)
    return [
        _Octave(
            int(edges[number]), int(2 * max(edges[number], 4)), int(found[by_bin == number].sum())
        )
        for number in numbers
    ]


def _too_few(sums: Sums, octaves: Sequence[_Octave]) -> str | None:
    """Why these octaves cannot answer, ``None`` if they can."""
    if not sums.targets.any():
        return "no target"
    if few := too_few(sums.documents):
        return few
    thinnest = min(octaves, key=lambda octave: octave.targets)
    if thinnest.targets >= FEWEST_TARGETS:
        return None
    return (
        f"{thinnest.targets} targets at distances {thinnest.lower}–{thinnest.upper - 1}, at least"
        f" {FEWEST_TARGETS} needed"
    )


def _if_enough(
    context: EffectiveContext, sums: Sums, octaves: Sequence[_Octave]
) -> EffectiveContext:
    """The answer, unresolved where one of the octaves that it rests on has too few targets."""
    first = octaves[-1].lower if context.lower is None else context.lower
    needed = [octave for octave in octaves if octave.upper > first] or octaves[-1:]
    reason = None if context.kind == "unresolved" else _too_few(sums, needed)
    if reason is None:
        return context
    nothing: dict[str, Any] = dict.fromkeys(["value", "estimate", "lower", "upper"])
    return replace(context, kind="unresolved", reasons=(reason,), **nothing)


def _unresolved(condition: str, tolerance: Tolerance, sums: Sums, reason: str) -> EffectiveContext:
    return EffectiveContext(
        condition=condition,
        tolerance=tolerance.text,
        epsilon=None,
        kind="unresolved",
        value=None,
        estimate=None,
        lower=None,
        upper=None,
        reach=int(sums.upper.max(initial=0)),
        reasons=(reason,),
        flags=(),
        documents=sums.documents,
        targets=int(sums.targets.sum()),
    )
