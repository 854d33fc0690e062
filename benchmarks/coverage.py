"""How often an interval holds the truth: simulated runs with known curves, read by the real code.

    python benchmarks/coverage.py --runs 500

Fixed before any run: five curves (below), 8, 20 and 50 documents of four windows, the default
sweep to 1,024 with its short runs, a tolerance of 1 %, 95 % intervals. Delta of a target is
``curve(distance) · factor + shift + error``: the factor is log-normal with mean 1 and differs by
document (SD of its log 0.4) and by window (0.3), the shift by document (SD 0.01 nats) and by
window (0.025), which makes a design effect of 3 to 4 in a far octave; the error of a target has an
SD of 0.39 nats, as measured on SmolLM2. With ``--heavy`` one target in a hundred carries all of
the curve, by amounts of a long tail (gamma, shape 0.3), and the others nothing.

With ``--predicted SHARE`` every simulated run is read twice, as it is and by what is predicted of
``--population`` times as many documents: the prediction knows that share of the variance (of
factors and shifts, by document and by window alike), and is half as large as it should be; a share
of 0 is a prediction that is noise.

With ``--shared N`` the documents take turns with N far texts, whose effects are as large as those
of the documents.

*Delta* counts the bins whose pointwise band holds their expected delta. *Contains*: with L the
smallest distance from which the curve itself stays below the tolerance (beyond reach, if none),

- an interval ``lower–upper`` contains it where ``lower ≤ L ≤ upper``;
- an answer that is open above (``> x``) where ``lower ≤ L``, or L is beyond reach; where the
  lower limit is beyond reach too, only where L lies in the last half octave, where no answer
  is given, or beyond;
- ``unresolved`` claims nothing and contains everything; its share is told beside.

*False* is the share of runs that state a finite interval which does not hold L. Width: log2 of
upper over lower limit (0 counted as 1, an open one as the reach). *Width of delta* is the median
width of its band from 256 tokens on, as a share of the plain one.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from probe.analysis.bins import bin_edges, bin_index
from probe.analysis.bootstrap import pointwise_band, resample_weights
from probe.analysis.effective import EffectiveContext, effective_context
from probe.analysis.fit import fit_curve
from probe.analysis.floor import NoiseFloor
from probe.analysis.predicted import adjusted
from probe.analysis.sums import Sums
from probe.protocols.base import WindowsConfig
from probe.protocols.sweep import SweepProtocol
from probe.results.tolerance import parse_tolerance

TOLERANCE = parse_tolerance("1%")
EPSILON = math.log(1.01)
REACH, CONFIDENCE, WINDOWS = 1024, 0.95, 4
FACTORS, SHIFTS, ERROR = (0.4, 0.3), (0.01, 0.025), 0.39
CURVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "smooth, 1/(1+d)": lambda d: 1 / (1 + d),
    "slow, (1+d)^-0.4": lambda d: EPSILON * (301 / (1 + d)) ** 0.4,
    "step at 150": lambda d: np.where(d < 150, 0.05, 0.0),
    "plateau at 0.8 ε": lambda d: np.where(d < 16, 0.2, 0.8 * EPSILON),
    "plateau at 1.2 ε": lambda d: np.where(d < 16, 0.2, 1.2 * EPSILON),
}


@dataclass(frozen=True, eq=False)
class Truth:
    """What a curve makes of the bins of a sweep: expected delta, targets a window, length."""

    lower: np.ndarray
    upper: np.ndarray
    delta: np.ndarray
    targets: np.ndarray
    length: float


def truth(curve: Callable[[np.ndarray], np.ndarray]) -> Truth:
    edges = bin_edges(REACH)
    runs = SweepProtocol(reach=REACH).plan(WindowsConfig(length=2 * REACH)).runs(shared=True)
    distances = np.concatenate([np.arange(run.stop - run.boundary) for run in runs])
    bins = bin_index(distances, edges)
    targets = np.bincount(bins).astype(float)
    delta = np.bincount(bins, curve(distances.astype(float))) / targets
    above = np.flatnonzero(curve(np.arange(REACH, dtype=float)) >= EPSILON)
    length = 0 if not len(above) else int(above[-1]) + 1
    return Truth(edges[:-1], edges[1:], delta, targets, length if length < REACH else math.inf)


@dataclass(frozen=True)
class World:
    """What runs are simulated of.

    Args:
        heavy: Whether few targets carry all of delta.
        share: What part of the variance between windows a prediction knows.
        population: Documents whose prediction is known, as a multiple of those scored.
        shared: Far texts that the documents share; ``None`` where each has its own.
    """

    heavy: bool = False
    share: float | None = None
    population: int = 20
    shared: int | None = None


def simulate(
    known: Truth, documents: int, rng: np.random.Generator, world: World = World()
) -> tuple[Sums, np.ndarray]:
    """The sums of one run, and its predicted sums less those of the population."""
    of_all = documents * (1 if world.share is None else world.population)
    factor, shift = np.ones((of_all, WINDOWS, 1)), np.zeros((of_all, WINDOWS, 1))
    seen, moved = factor, shift
    share = world.share or 0.0
    for size, spread, jump in zip(
        ((of_all, 1, 1), (of_all, WINDOWS, 1)), FACTORS, SHIFTS, strict=True
    ):
        drawn, told = (rng.normal(size=(2, *size)) for _ in range(2))
        both = np.sqrt(share) * told + np.sqrt(1 - share) * drawn
        told = told if share else rng.normal(size=told.shape)
        factor = factor * np.exp(spread * both[0] - spread**2 / 2)
        shift = shift + jump * both[1]
        seen = seen * np.exp(spread * told[0] - spread**2 / 2)
        moved = moved + jump * told[1]
    predicted = ((known.delta * seen + moved) * known.targets / 2).sum(axis=1)
    centred = predicted[:documents] - predicted.mean(axis=0)
    factor, shift, texts = factor[:documents], shift[:documents], None
    if world.shared is not None:
        texts, spread = np.arange(documents) % world.shared, FACTORS[0]
        drawn = rng.normal(size=(2, world.shared, 1, 1))[:, texts]
        factor = factor * np.exp(spread * drawn[0] - spread**2 / 2)
        shift = shift + SHIFTS[0] * drawn[1]
    targets = np.broadcast_to(known.targets, (documents, WINDOWS, len(known.targets)))
    error = ERROR * rng.normal(size=targets.shape) * np.sqrt(targets)
    carried = targets
    if world.heavy:
        carriers = rng.poisson(targets / 100)
        carried = rng.gamma(0.3 * carriers) / 0.3 * 100
        error = error / 4
    sums = (known.delta * factor * carried + shift * targets + error).sum(axis=1)
    return Sums(known.lower, known.upper, sums, targets.sum(axis=1), texts), centred


def contains(answer: EffectiveContext, length: float) -> bool:
    """Whether an answer is true, as the head of this file defines it."""
    if answer.kind == "unresolved":
        return True
    if answer.lower is None:
        return length >= answer.reach / math.sqrt(2)
    return answer.lower <= length and (answer.upper is None or length <= answer.upper)


def one_run(
    cell: tuple[str, int], resamples: int, world: World, number: int
) -> list[dict[str, object]]:
    """Simulate a run, read it in each way, and compare with the truth."""
    curve, documents = cell
    known = truth(CURVES[curve])
    rng = np.random.default_rng([list(CURVES).index(curve), documents, number])
    sums, centred = simulate(known, documents, rng, world)
    weights = resample_weights(documents, resamples, seed=0)
    read = {"plain": sums}
    if world.share is not None:
        read["predicted"] = adjusted(sums, centred, documents * world.population)
    return [{"way": way, **one_way(known, own, weights)} for way, own in read.items()]


def one_way(known: Truth, sums: Sums, weights: np.ndarray) -> dict[str, object]:
    """What is read off some sums."""
    fitted = fit_curve("truncate", sums, weights, CONFIDENCE)
    low, high = pointwise_band(fitted.resampled, CONFIDENCE)
    octaves = np.array([0, *(2**k for k in range(3, 11))])
    silent = NoiseFloor("noise", octaves[:-1], octaves[1:], np.zeros(8), np.ones(8, dtype=int))
    answer = effective_context(fitted, TOLERANCE, floor=silent)
    finite = answer.kind in ("length", "zero")
    lower, upper = (answer.reach if at is None else at for at in (answer.lower, answer.upper))
    return {
        "held": (low <= known.delta) & (known.delta <= high),
        "spread": (high - low)[known.lower >= 256].mean(),
        "contains": contains(answer, known.length),
        "false": finite and not contains(answer, known.length),
        "open": answer.kind == "greater",
        "unresolved": answer.kind == "unresolved",
        "above": answer.kind != "unresolved" and lower > known.length,
        "width": math.nan
        if answer.kind == "unresolved"
        else math.log2(max(upper, 1) / max(lower, 1)),
    }


def measured(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    """One row of the table a cell and way of reading."""
    world = World(args.heavy, args.predicted, args.population, args.shared)
    with ProcessPoolExecutor(args.processes) as pool:
        for curve, documents in product(args.curve or CURVES, args.documents):
            one = partial(one_run, (curve, documents), args.resamples, world)
            ways = zip(
                *pool.map(one, range(args.runs), chunksize=max(1, args.runs // 20)), strict=True
            )
            plain = math.nan
            for found in map(pd.DataFrame, ways):
                held = np.mean(np.stack(found["held"].tolist()), axis=0)
                spread = float(found["spread"].median())
                plain = spread if found["way"][0] == "plain" else plain
                yield {
                    "curve": curve,
                    "documents": documents,
                    "read": found["way"][0],
                    "delta": held.mean(),
                    "worst bin": held.min(),
                    "width of delta": spread / plain,
                    "contains": found["contains"].mean(),
                    "lower > L": found["above"].mean(),
                    "width": found["width"].median(),
                    "open above": found["open"].mean(),
                    "unresolved": found["unresolved"].mean(),
                    "false": found["false"].mean(),
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--curve", action="append", choices=CURVES, help="this one, or more")
    parser.add_argument("--documents", type=int, nargs="+", default=[8, 20, 50])
    parser.add_argument("--shared", type=int, help="far texts that the documents share")
    parser.add_argument("--predicted", type=float, help="share of the variance that is predicted")
    parser.add_argument("--population", type=int, default=20, help="times as many documents")
    parser.add_argument("--heavy", action="store_true", help="few targets carry all of delta")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    started = time.perf_counter()
    names = None
    for row in measured(args):
        if names is None:
            names = list(row)
            print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(cells) + " |", flush=True)
    seconds = time.perf_counter() - started
    print(f"{args.runs} runs a cell, {args.resamples} resamples, {seconds:.0f} s")


if __name__ == "__main__":
    main()
