"""What stopping early does to coverage: simulated runs that stop once an interval is narrow.

    python benchmarks/stopping.py --runs 1000 --interval delta
    python benchmarks/stopping.py --runs 150 --interval context

Curves, documents and what *contains* means are those of ``coverage.py``. A run looks at 8, 12, 18,
27, … documents, up to 100, and stops once its interval is narrow: that of the effective context at
1 % in *octaves*, that of delta over the distances 4–7 (where documents differ by a factor, so that
few of them look alike by chance and lie too low), 16–31, 32–63 or 512–1023 (by a shift) in *nats*.
How narrow is the median half-width of the plain interval of 8, 20 or 50 documents, so that runs
stop near that number, and a run of just so many documents is what they are compared with (*plain*).

*Naive* stops on 95 % intervals and reports them; *spent* spends the error as `probe run` does,
:func:`probe.analysis.looks.confidence_after`. *Skewed* documents differ by a log-normal factor
whose SD of the log is 0.9 in place of 0.4. With ``--heavy`` few targets carry all of delta, with
``--predicted SHARE`` all runs are read by a prediction that knows that share of the variance, both
as in ``coverage.py``.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product

os.environ.setdefault("OMP_NUM_THREADS", "1")

import coverage
import numpy as np
import pandas as pd
from coverage import CONFIDENCE, CURVES, TOLERANCE, Truth, World, contains, simulate, truth

from probe.analysis.bootstrap import bootstrap, pointwise_band, resample_weights
from probe.analysis.effective import effective_context
from probe.analysis.fit import fit_curve
from probe.analysis.floor import NoiseFloor
from probe.analysis.looks import confidence_after, numbers
from probe.analysis.precision import half_width
from probe.analysis.predicted import adjusted
from probe.analysis.sums import Sums

MOST, SIZES = 100, (8, 20, 50)
SKEWED = (0.9, 0.3)
RANGES = {f"delta at {a}–{b - 1}": (a, b) for a, b in ((4, 8), (16, 32), (32, 64), (512, 1024))}
LENGTH = "effective context"
weights = cache(partial(resample_weights, seed=0))
known_truth = cache(lambda curve: truth(CURVES[curve]))
Read = Callable[[Sums, Truth, float], tuple[float, bool]]
"""From rows and a confidence to half the width of the interval, and whether it holds the truth."""


def read_delta(
    ends: tuple[int, int], resamples: int, sums: Sums, known: Truth, confidence: float
) -> tuple[float, bool]:
    """Delta over distances: half-width (nats), and whether the interval holds it."""
    own = (known.lower >= ends[0]) & (known.upper <= ends[1])
    total, targets = (part[:, own].sum(axis=1, keepdims=True) for part in (sums.sums, sums.targets))
    expected = (known.delta * known.targets)[own].sum() / known.targets[own].sum()
    resampled = bootstrap(total, targets, weights(len(total), resamples), confidence)
    low, high = (float(limit[0]) for limit in pointwise_band(resampled, confidence))
    return (high - low) / 2, bool(low <= expected <= high)


def read_length(resamples: int, sums: Sums, known: Truth, confidence: float) -> tuple[float, bool]:
    """The effective context: half-width (octaves), and whether the interval contains it."""
    octaves = np.array([0, *(2**k for k in range(3, 11))])
    silent = NoiseFloor("noise", octaves[:-1], octaves[1:], np.zeros(8), np.ones(8, dtype=int))
    fitted = fit_curve("truncate", sums, weights(len(sums.sums), resamples), confidence)
    answer = effective_context(fitted, TOLERANCE, floor=silent)
    width = half_width(answer)
    return math.inf if math.isnan(width) else width, contains(answer, known.length)


@dataclass(frozen=True)
class Population:
    """What runs are simulated of.

    Args:
        curve: Name of the curve.
        factors: By how much documents and windows differ, as ``coverage.FACTORS``.
        world: What else is so of them.
    """

    curve: str
    factors: tuple[float, float]
    world: World

    def runs(self, documents: int, *seed: int) -> Callable[[int], Sums]:
        """A run of so many documents: from a number to what is read of its first ones."""
        coverage.FACTORS = self.factors
        known, world = known_truth(self.curve), self.world
        sums, centred = simulate(known, documents, np.random.default_rng(seed), world)

        def first(number: int) -> Sums:
            own = replace(sums, sums=sums.sums[:number], targets=sums.targets[:number])
            if world.share is None:
                return own
            return adjusted(own, centred[:number], documents * world.population)

        return first


def one_run(
    population: Population, size: int, asked: float, read: Read, number: int
) -> dict[str, float]:
    """Simulate the documents of a run, and stop in both ways."""
    first, known = population.runs(MOST, number, size, 1), known_truth(population.curve)
    found: dict[str, float] = {"plain": read(first(size), known, CONFIDENCE)[1]}
    levels = {"naive": lambda _: CONFIDENCE, "spent": lambda n: confidence_after(n, CONFIDENCE)}
    for name, level in levels.items():
        for documents in numbers(MOST):
            width, holds = read(first(documents), known, level(documents))
            if width <= asked:
                break
        found |= {name: holds, f"{name} documents": documents, f"{name} reached": width <= asked}
    return found


def typical_width(population: Population, size: int, read: Read, number: int) -> float:
    """Half the width of the plain interval of so many documents."""
    first = population.runs(MOST, number, size, 2)
    return read(first(size), known_truth(population.curve), CONFIDENCE)[0]


def measured(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    """One row of the table a cell."""
    runs, resamples, world = args.runs, args.resamples, World(args.heavy, args.predicted)
    reads: dict[str, Read] = {LENGTH: partial(read_length, resamples)}
    reads |= {name: partial(read_delta, ends, resamples) for name, ends in RANGES.items()}
    plain = coverage.FACTORS
    cells = [
        *product(["smooth, 1/(1+d)"], [plain, SKEWED], RANGES),
        *product(["step at 150", "smooth, 1/(1+d)"], [plain], [LENGTH]),
    ]
    cells = [cell for cell in cells if args.interval in cell[2]]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for (curve, factors, name), size in product(cells, SIZES):
            read, population = reads[name], Population(curve, factors, world)
            typical = partial(typical_width, population, size, read)
            asked = float(np.median(list(pool.map(typical, range(min(runs, 200)), chunksize=20))))
            if not math.isfinite(asked):
                continue  # most runs of so many documents have no upper limit
            one = partial(one_run, population, size, asked, read)
            found = pd.DataFrame(pool.map(one, range(runs), chunksize=10)).astype(float).mean()
            yield {
                "interval": name,
                "curve": curve if factors == plain else f"{curve}, skewed",
                "asked": f"± {asked:.2g}",
                "documents, plain": size,
                **{way: f"{found[way]:.1%}" for way in ("plain", "naive", "spent")},
                "documents, naive": f"{found['naive documents']:.0f}",
                "documents, spent": f"{found['spent documents']:.0f}",
                "reached": f"{found['spent reached']:.0%}",
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--interval", default="", help="only those with this word: delta, context")
    parser.add_argument("--heavy", action="store_true", help="few targets carry all of delta")
    parser.add_argument("--predicted", type=float, help="share of the variance that is predicted")
    args = parser.parse_args()
    started = time.perf_counter()
    for number, row in enumerate(measured(args)):
        if not number:
            print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
        print("| " + " | ".join(map(str, row.values())) + " |", flush=True)
    seconds = time.perf_counter() - started
    print(f"{args.runs} runs a cell, {args.resamples} resamples, {seconds:.0f} s")


if __name__ == "__main__":
    main()
