"""What a delta is made of besides the perturbation: the arithmetic, and a sequence's length."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from probe.analysis.bins import octave_edges, octave_index
from probe.analysis.bootstrap import standard_error
from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.perturbations.steps import part_of
from probe.results.record import CheckRecord, Record


@dataclass(frozen=True, eq=False)
class NoiseFloor:
    """Upper limit of |mean noise delta| by octave of distance.

    Args:
        condition: The noise condition it was measured with, or those of source and target.
        lower: First distance of each octave (tokens), shape ``(octaves,)``: 0, 8, 16, 32 …
        upper: First distance behind each octave (tokens).
        limit: The floor (nats), shape ``(octaves,)``; NaN where noise was not measured.
        targets: Noise targets in each octave.
    """

    condition: str
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    limit: NDArray[np.float64]
    targets: NDArray[np.int64]

    def at(self, distances: NDArray[np.int64]) -> NDArray[np.float64]:
        """The floor (nats) of the octave that holds each distance; NaN where there is none."""
        octaves = octave_index(distances)
        limit = np.append(self.limit, np.nan)
        return np.asarray(limit[np.minimum(octaves, len(self.limit))])


def is_noise(condition: str) -> bool:
    """Whether a condition is the noise control, ``noise`` or ``noise(…)``."""
    return condition.partition("(")[0] == "noise"


def without_noise(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a frame with ``condition`` that are not of the noise control."""
    noise = [name for name in frame["condition"].unique() if is_noise(str(name))]
    return frame[~frame["condition"].isin(noise)]


def noise_conditions(frame: pd.DataFrame) -> list[str]:
    """The noise condition with most targets, of source and target each where both are changed.

    Args:
        frame: Rows with ``condition`` and ``targets``.

    Returns:
        None where there is no noise condition.
    """
    targets = frame.groupby("condition")["targets"].sum()
    noise = targets[[is_noise(str(condition)) for condition in targets.index]]
    parts = [part_of(str(condition)) or "" for condition in noise.index]
    return [str(own.idxmax()) for _, own in noise.groupby(parts)]


def noise_floor(frame: pd.DataFrame, reach: int, confidence: float = 0.95) -> NoiseFloor | None:
    """The floor of each octave: ``|mean| + t · SE``.

    A noise condition has few windows, so its bins are pooled by octave, grey ones included (the
    path of the computation does not know how long the far context is). ``SE`` is the larger of
    the error between targets and, from six documents on, that between documents; ``t`` is the
    two-sided quantile with the degrees of freedom of the documents, below six of the targets. Where
    source and target are changed, each has a path of its own: the larger limit holds for both.

    Args:
        frame: Sums of :func:`probe.analysis.sums.document_sums`.
        reach: End of the last octave (tokens).
        confidence: Confidence of the limit.

    Returns:
        The floor, or ``None`` where the run has no noise condition.
    """
    names = noise_conditions(frame)
    if not names:
        return None
    edges = octave_edges(reach)
    limits = np.full((len(names), len(edges) - 1), np.nan)
    targets = np.zeros(len(edges) - 1, dtype=np.int64)
    columns = ["targets", "delta_sum", "delta_squares"]
    for number, name in enumerate(names):
        noise = frame[frame["condition"] == name]
        octaves = octave_index(noise["distance_from"].to_numpy(dtype=np.int64))
        for octave in range(len(targets)):
            by_document = noise[octaves == octave].groupby("document")[columns].sum()
            targets[octave] += int(by_document["targets"].sum())
            limits[number, octave] = limit(by_document, confidence)
    # The larger of those that are known.
    larger = np.fmax.reduce(limits)
    return NoiseFloor(", ".join(names), edges[:-1], edges[1:], larger, targets)


def limit(by_document: pd.DataFrame, confidence: float) -> float:
    """``|mean| + t · SE`` of one octave.

    Args:
        by_document: Sums by document: ``targets, delta_sum, delta_squares``.
        confidence: Confidence of the limit.
    """
    count, total, squares = (float(value) for value in by_document.sum())
    if count < 2:
        return float("nan")
    mean = total / count
    variance = max(squares / count - mean**2, 0) * count / (count - 1)
    error, freedom = np.sqrt(variance / count), count - 1
    if len(by_document) >= FEWEST_DOCUMENTS:
        sums = by_document["delta_sum"].to_numpy(dtype=np.float64)[:, None]
        counts = by_document["targets"].to_numpy(dtype=np.float64)[:, None]
        error = max(error, float(standard_error(sums, counts)[0]))
        freedom = len(by_document) - 1
    return float(abs(mean) + stdtrit(freedom, (1 + confidence) / 2) * error)


def length_limit(facts: Record) -> float:
    """Upper 95 % limit of |mean change| of a loss by its sequence's length alone, nats.

    Args:
        facts: Content of a run's ``run.json``.

    Returns:
        0 where the self-check found no such change, or did not look for one.
    """
    found = _length_check(facts)
    return 0.0 if found is None else float(found.limit or 0)


def length_caveat(facts: Record) -> str | None:
    """What to say of a run whose losses depend on the length of a sequence; ``None`` of others."""
    found = _length_check(facts)
    if found is None:
        return None
    mean, limit, worst = (float(value or 0) for value in (found.mean, found.limit, found.worst))
    shift = f"{mean:+.2g}".replace("-", "−")
    return (
        "the model's losses depend on a sequence's length: cutting off what follows a target"
        f" changes its loss by {shift} nats in the mean (|mean| at most {limit:.2g}, single"
        f" ones by up to {worst:.2g}), and every delta between sequences of different length"
        " contains such a change"
    )


def _length_check(facts: Record) -> CheckRecord | None:
    """What the self-check said of the length, where it did not pass."""
    return next(
        (one for one in facts.check if one.technique == "length" and one.passed is False), None
    )
