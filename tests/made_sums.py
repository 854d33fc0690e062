"""Made-up sums of curves whose truth is known, and a noise floor."""

import numpy as np

from probe.analysis.bins import bin_edges
from probe.analysis.floor import NoiseFloor
from probe.analysis.sums import Sums


def make_sums(curve, *, documents=20, reach=512, spread=0.0, targets=100, seed=0, edges=None):
    """Sums of a curve with a factor by document and an error by document and bin."""
    edges = bin_edges(reach) if edges is None else edges
    lower, upper = edges[:-1], edges[1:]
    rng = np.random.default_rng(seed)
    counts = np.broadcast_to(targets * (upper - lower), (documents, len(lower))).astype(float)
    mean = curve((lower + upper - 1) / 2)
    error = spread * rng.normal(size=counts.shape) / np.sqrt(counts)
    values = mean * (1 + 0.1 * rng.normal(size=(documents, 1))) + error
    return Sums(lower, upper, values * counts, counts)


def floor_of(limit, reach=512):
    lower = np.array([0, *(2**k for k in range(3, 20) if 2**k < reach)])
    ones = np.ones(len(lower))
    return NoiseFloor("noise", lower, np.append(lower[1:], reach), limit * ones, ones.astype(int))
