"""The regression estimator by octave, written out: what `adjusted` is held against."""

import math

import numpy as np

from probe.analysis.bins import octave_index
from probe.analysis.predicted import FEWEST
from probe.analysis.sums import Sums


def adjusted_by_loops(sums: Sums, centred: np.ndarray, population: int) -> np.ndarray:
    """The sums by document and bin (nats), for documents that all have as many targets a bin.

    λ without a document is that of the others, about their own mean.
    """
    documents, bins = sums.sums.shape
    if documents < FEWEST or population <= documents:
        return sums.sums
    out = np.zeros_like(sums.sums)
    octaves = octave_index(sums.lower)
    for octave in sorted(set(octaves.tolist())):
        own = [b for b in range(bins) if octaves[b] == octave]
        delta = [sum(sums.sums[d, b] for b in own) for d in range(documents)]
        known = [sum(centred[d, b] for b in own) for d in range(documents)]
        everyone = list(range(documents))
        error, spread = about_mean(delta, everyone), about_mean(known, everyone)

        def shrunk(others, error=error, spread=spread, delta=delta, known=known):
            own_error, own_spread = about_mean(delta, others), about_mean(known, others)
            products = sum(own_error[d] * own_spread[d] for d in others)
            squares = sum(own_spread[d] ** 2 for d in others)
            if products <= 0 or squares <= 0:
                return 0.0
            found = products / squares
            noise = sum(((error[d] - found * spread[d]) * spread[d]) ** 2 for d in others)
            return found * max(1 - 2 * noise / products**2, 0.0)

        slope = shrunk(everyone)
        without = [shrunk([other for other in everyone if other != d]) for d in everyone]
        stretch = math.sqrt((documents - 1) / (documents - 2)) if slope > 0 else 1.0
        for b in own:
            targets = sums.targets[0, b]
            mean = sum(sums.sums[:, b]) / documents
            behind = sum(centred[:, b]) / documents
            left = [
                sums.sums[d, b]
                - mean
                - (1 - math.sqrt(documents / population)) * without[d] * (centred[d, b] - behind)
                for d in everyone
            ]
            left = [stretch * one for one in left]
            middle = sum(left) / documents
            for d in everyone:
                out[d, b] = mean - slope * behind + left[d] - middle
            assert (sums.targets[:, b] == targets).all()
    return out


def about_mean(values, documents):
    """Differences from the mean of some documents, by document."""
    mean = sum(values[d] for d in documents) / len(documents)
    return {d: values[d] - mean for d in documents}
