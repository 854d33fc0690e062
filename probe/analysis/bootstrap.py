"""The document bootstrap: documents are drawn, sums are added, then divided."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from probe.corpus.windows import FEWEST_DOCUMENTS
from probe.text import counted

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A ratio of sums by bin, and what it becomes when the documents are drawn again.

    Args:
        mean: Sum of delta over number of targets (nats per token), shape ``(bins,)``; NaN where a
            bin has no target.
        draws: The same of each resample, its deviation from ``mean`` stretched for the number of
            documents, shape ``(resamples, bins)``; NaN where a resample has no target.
        targets: Targets of each resample, shape ``(resamples, bins)``.
        standard_error: Standard error of ``mean`` between documents (nats), shape ``(bins,)``.
        documents: Documents with at least one target.
        texts: Far texts that these documents share, where they do.
    """

    mean: Floats
    draws: Floats
    targets: Floats
    standard_error: Floats
    documents: int
    texts: int | None = None

    @property
    def units(self) -> int:
        """What the standard error is one between: documents, or the texts that they share."""
        return self.documents if self.texts is None else self.texts


def too_few(documents: int) -> str:
    """Why so many documents make no interval; empty where they are enough."""
    if documents >= FEWEST_DOCUMENTS:
        return ""
    return f"{counted(documents, 'document')}, at least {FEWEST_DOCUMENTS} needed"


def resample_weights(documents: int, resamples: int, seed: int) -> Floats:
    """How often each document is drawn in each resample.

    One matrix serves all conditions of a run: they are then drawn together, and what is said of
    their difference is paired.

    Args:
        documents: Number of documents in the run.
        resamples: Number of resamples.
        seed: Seed of the draws; equal seed, equal matrix.

    Returns:
        Counts, shape ``(resamples, documents)``, float64; each row adds up to *documents*.
    """
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, documents))
    for row in weights:  # of thousands of documents all draws at once would not fit beside them
        row[:] = np.bincount(rng.integers(documents, size=documents), minlength=documents)
    return weights


def stretch(documents: int, confidence: float) -> float:
    """Factor by which deviations from the mean are widened for few documents.

    ``t(n-1, q) / z(q) * sqrt(n / (n-1))`` with ``q = (1 + confidence) / 2``: the quantile of a
    bootstrap is that of a normal whose variance lacks the factor n / (n - 1).

    Args:
        documents: Number of documents ``n``.
        confidence: Confidence of the interval, between 0 and 1.

    Returns:
        The factor, above 1; NaN below two documents, where nothing can be said.

    Source: Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3
        (expanded percentile interval).
    """
    if documents < 2:
        return float("nan")
    quantile = (1 + confidence) / 2
    widening = np.sqrt(documents / (documents - 1))
    return float(stdtrit(documents - 1, quantile) / ndtri(quantile) * widening)


def ratio(sums: Floats, targets: Floats) -> Floats:
    """*sums* over *targets*, NaN where there is no target; shapes alike."""
    means = np.full(sums.shape, np.nan)
    np.divide(sums, targets, out=means, where=targets > 0)
    return means


def bootstrap(
    sums: Floats,
    targets: Floats,
    weights: Floats,
    confidence: float,
    texts: NDArray[np.int64] | None = None,
) -> Bootstrap:
    """Resample documents and form the ratio of sums of each resample.

    Where documents share far texts, those of one text are a unit: what their text does to them all
    is no chance that more of them would even out. Deviations are then sums over units, each times
    the mean draw of its documents less 1, times the root of their number: that has the variances
    and covariances of as many units drawn with replacement, and no lumps where they are few.

    Args:
        sums: Sum of delta (nats) by document and bin, shape ``(documents, bins)``.
        targets: Number of targets, same shape.
        weights: Draws of :func:`resample_weights`, shape ``(resamples, documents)``.
        confidence: Confidence for which the deviations are stretched.
        texts: The text of each document, where they share some, shape ``(documents,)``.

    Returns:
        The mean by bin and its stretched resamples.
    """
    documents = int((targets.sum(axis=1) > 0).sum())
    total = targets.sum(axis=0)
    mean = ratio(sums.sum(axis=0), total)
    if texts is not None:
        residuals = by_text(sums - np.nan_to_num(mean) * targets, texts)
        sizes = by_text(np.ones((len(texts), 1)), texts)[:, 0]
        multipliers = by_text(weights.T - 1, texts).T / np.sqrt(sizes)
        error = standard_error(by_text(sums, texts), by_text(targets, texts))
        units = int((by_text(targets, texts).sum(axis=1) > 0).sum())
        draws = mean + stretch(units, confidence) * multipliers @ ratio(
            residuals, np.broadcast_to(total, residuals.shape)
        )
        drawn_targets = np.broadcast_to(total, draws.shape)
        return Bootstrap(mean, draws, drawn_targets, error, documents, units)
    drawn_targets = weights @ targets
    draws = mean + stretch(documents, confidence) * (ratio(weights @ sums, drawn_targets) - mean)
    return Bootstrap(mean, draws, drawn_targets, standard_error(sums, targets), documents)


def by_text(values: Floats, texts: NDArray[np.int64] | None) -> Floats:
    """Values by document, added up over the documents of each text; as they are without texts.

    Args:
        values: Shape ``(documents, n)``.
        texts: The text of each document, shape ``(documents,)``.

    Returns:
        Shape ``(texts, n)``, a row a text that some document has.
    """
    if texts is None:
        return values
    known, places = np.unique(texts, return_inverse=True)
    return np.stack([values[places == place].sum(axis=0) for place in range(len(known))])


def standard_error(sums: Floats, targets: Floats) -> Floats:
    """Standard error of a ratio of sums, from its spread between documents.

    Args:
        sums: Sum of delta (nats) by document and bin, shape ``(documents, bins)``.
        targets: Number of targets, same shape.

    Returns:
        Linearised standard error (nats), shape ``(bins,)``; NaN below two documents in a bin.
    """
    total = targets.sum(axis=0)
    residuals = sums - np.nan_to_num(ratio(sums.sum(axis=0), total)) * targets
    documents = (targets > 0).sum(axis=0).astype(np.float64)
    widening = np.where(documents > 1, documents / np.maximum(documents - 1, 1), np.nan)
    return ratio(np.sqrt(widening * (residuals**2).sum(axis=0)), total)


def pointwise_band(result: Bootstrap, confidence: float) -> tuple[Floats, Floats]:
    """Limits that hold in each bin by itself.

    Args:
        result: What :func:`bootstrap` gave for the same *confidence*.
        confidence: Confidence of each bin's interval.

    Returns:
        Lower and upper limit (nats), each of shape ``(bins,)``; NaN where no resample has a target.
    """
    limits = np.full((2, len(result.mean)), np.nan)
    missing = np.isnan(result.draws)
    whole, some = ~missing.any(axis=0), missing.any(axis=0) & ~missing.all(axis=0)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    # nanquantile takes one bin after the other.
    for bins, quantile in ((whole, np.quantile), (some, np.nanquantile)):
        if bins.any():
            limits[:, bins] = quantile(result.draws[:, bins], tails, axis=0)
    return limits[0], limits[1]


def band(
    result: Bootstrap, confidence: float, *, simultaneous: bool = False
) -> tuple[Floats, Floats]:
    """Limits (nats) that hold bin by bin, or in all bins at once; each of shape ``(bins,)``."""
    limits = simultaneous_band if simultaneous else pointwise_band
    return limits(result, confidence)


def simultaneous_band(result: Bootstrap, confidence: float) -> tuple[Floats, Floats]:
    """Limits that hold in all bins at once: the quantile of the largest studentised deviation.

    Args:
        result: What :func:`bootstrap` gave for the same *confidence*.
        confidence: Confidence of the whole band.

    Returns:
        Lower and upper limit (nats), each of shape ``(bins,)``; NaN where no resample has a target.
    """
    limits = np.full((2, len(result.mean)), np.nan)
    known = np.isfinite(result.draws).any(axis=0)
    if known.any():
        deviations = result.draws[:, known] - result.mean[known]
        spread = np.sqrt(np.nanmean(deviations**2, axis=0))
        studentised = np.abs(deviations) / np.where(spread > 0, spread, np.inf)
        width = np.quantile(np.nan_to_num(studentised).max(axis=1), confidence) * spread
        limits[:, known] = result.mean[known] - width, result.mean[known] + width
    return limits[0], limits[1]
