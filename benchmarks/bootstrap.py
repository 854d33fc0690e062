"""The document bootstrap: its seconds on a large table, its agreement with scipy on a small one.

    python benchmarks/bootstrap.py

Large: 2,000 documents × 64 bins × 2,000 resamples, the draws of the documents included; also the
time of the never-rising fits of all resamples. Small: 12 documents of unequal size, one bin;
``scipy.stats.bootstrap`` resamples whole documents (paired sums and counts) and gives the
percentile interval and the standard error of the same ratio. Ours are compared before the stretch
for few documents, which is printed beside them.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy import stats

from probe.analysis.bootstrap import (
    Floats,
    bootstrap,
    pointwise_band,
    resample_weights,
    standard_error,
    stretch,
)
from probe.analysis.fit import isotonic_stack


def large(documents: int, bins: int, resamples: int) -> None:
    """Print the seconds of the parts."""
    rng = np.random.default_rng(0)
    targets = rng.integers(1, 400, size=(documents, bins)).astype(float)
    sums = targets * (1 / (1 + np.arange(bins)) + 0.3 * rng.normal(size=(documents, 1)))
    started = time.perf_counter()
    weights = resample_weights(documents, resamples, seed=0)
    found = bootstrap(sums, targets, weights, 0.95)
    pointwise_band(found, 0.95)
    drawn = time.perf_counter() - started
    isotonic_stack(found.draws, found.targets)
    fitted = time.perf_counter() - started - drawn
    print(
        f"{documents:,} documents × {bins} bins × {resamples:,} resamples: {drawn:.2f} s with the"
        f" band, and {fitted:.2f} s for the fits; load {os.getloadavg()[0]:.1f}"
    )


def small(documents: int, resamples: int) -> None:
    """Print our limits and scipy's."""
    rng = np.random.default_rng(1)
    counts = rng.integers(20, 200, size=documents).astype(float)
    sums = counts * (0.05 + 0.03 * rng.normal(size=documents))

    def ratio(total: Floats, number: Floats, axis: int = -1) -> Floats:
        return np.asarray(total.sum(axis=axis) / number.sum(axis=axis))

    theirs = stats.bootstrap(
        (sums, counts),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    weights = resample_weights(documents, resamples, seed=3)
    found = bootstrap(sums[:, None], counts[:, None], weights, 0.95)
    factor = stretch(documents, 0.95)
    plain = found.mean + (found.draws - found.mean) / factor
    low, high = np.quantile(plain[:, 0], [0.025, 0.975])
    stretched = [float(limit[0]) for limit in pointwise_band(found, 0.95)]
    interval = theirs.confidence_interval
    print(f"ratio of {documents} documents: {found.mean[0]:.5f}")
    print(f"  scipy, percentile    {interval.low:.5f} to {interval.high:.5f}")
    print(f"  ours, not stretched  {low:.5f} to {high:.5f}")
    print(f"  ours, stretched      {stretched[0]:.5f} to {stretched[1]:.5f} (factor {factor:.3f})")
    print(f"  standard error: scipy {theirs.standard_error:.5f}, ours {plain.std():.5f},")
    print(f"    linearised {standard_error(sums[:, None], counts[:, None])[0]:.5f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--bins", type=int, default=64)
    parser.add_argument("--resamples", type=int, default=2000)
    args = parser.parse_args()
    large(args.documents, args.bins, args.resamples)
    small(12, 100_000)


if __name__ == "__main__":
    main()
