"""How often an interval holds the truth: simulated runs with known curves, read by the real code.

    python benchmarks/coverage.py --runs 500
    python benchmarks/coverage.py --runs 200 --shared 4 --documents 20 50

Fixed before any run: five curves (below), 8, 20 and 50 documents of four windows, the default
sweep to 1,024 with its short runs, a tolerance of 1 %, 95 % intervals. Delta of a target is
``curve(distance) · factor + shift + error``: the factor is log-normal with mean 1 and differs by
document (SD of its log 0.4) and by window (0.3), the shift by document (SD 0.01 nats) and by
window (0.025), which makes a design effect of 3 to 4 in a far octave; the error of a target has an
SD of 0.39 nats, as measured on SmolLM2.

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
upper over lower limit (0 counted as 1, an open one as the reach).
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from probe.analysis.bins import bin_edges, bin_index
from probe.analysis.bootstrap import pointwise_band, resample_weights
from probe.analysis.effective import EffectiveContext, effective_context
from probe.analysis.fit import fit_curve
from probe.analysis.floor import NoiseFloor
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


def simulate(
    known: Truth, documents: int, rng: np.random.Generator, shared: int | None = None
) -> Sums:
    """The sums of one run, whose documents may share so many far texts."""
    shape = (documents, WINDOWS, len(known.targets))
    factor, shift = np.ones((documents, WINDOWS, 1)), np.zeros((documents, WINDOWS, 1))
    for size, spread, jump in zip(
        ((documents, 1, 1), (documents, WINDOWS, 1)), FACTORS, SHIFTS, strict=True
    ):
        factor = factor * np.exp(spread * rng.normal(size=size) - spread**2 / 2)
        shift = shift + jump * rng.normal(size=size)
    texts = None
    if shared is not None:
        texts, spread = np.arange(documents) % shared, FACTORS[0]
        factor = factor * np.exp(spread * rng.normal(size=(shared, 1, 1)) - spread**2 / 2)[texts]
        shift = shift + SHIFTS[0] * rng.normal(size=(shared, 1, 1))[texts]
    error = ERROR * rng.normal(size=shape) * np.sqrt(known.targets)
    sums = ((known.delta * factor + shift) * known.targets + error).sum(axis=1)
    targets = np.broadcast_to(known.targets * WINDOWS, sums.shape).copy()
    return Sums(known.lower, known.upper, sums, targets, texts)


def contains(answer: EffectiveContext, length: float) -> bool:
    """Whether an answer is true, as the head of this file defines it."""
    if answer.kind == "unresolved":
        return True
    if answer.lower is None:
        return length >= answer.reach / math.sqrt(2)
    return answer.lower <= length and (answer.upper is None or length <= answer.upper)


def one_run(cell: tuple[str, int, int | None], resamples: int, number: int) -> dict[str, object]:
    """Simulate a run, read it, and compare with the truth."""
    curve, documents, shared = cell
    known = truth(CURVES[curve])
    rng = np.random.default_rng([list(CURVES).index(curve), documents, number])
    weights = resample_weights(documents, resamples, seed=0)
    fitted = fit_curve("truncate", simulate(known, documents, rng, shared), weights, CONFIDENCE)
    low, high = pointwise_band(fitted.resampled, CONFIDENCE)
    octaves = np.array([0, *(2**k for k in range(3, 11))])
    silent = NoiseFloor("noise", octaves[:-1], octaves[1:], np.zeros(8), np.ones(8, dtype=int))
    answer = effective_context(fitted, TOLERANCE, floor=silent)
    finite = answer.kind in ("length", "zero")
    lower, upper = (answer.reach if at is None else at for at in (answer.lower, answer.upper))
    return {
        "held": (low <= known.delta) & (known.delta <= high),
        "contains": contains(answer, known.length),
        "false": finite and not contains(answer, known.length),
        "open": answer.kind == "greater",
        "unresolved": answer.kind == "unresolved",
        "above": answer.kind != "unresolved" and lower > known.length,
        "width": math.nan
        if answer.kind == "unresolved"
        else math.log2(max(upper, 1) / max(lower, 1)),
    }


def measured(
    runs: int, resamples: int, sizes: Sequence[int], shared: int | None
) -> Iterator[dict[str, object]]:
    """One row of the table a cell."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for curve in CURVES:
            for documents in sizes:
                one = partial(one_run, (curve, documents, shared), resamples)
                found = pd.DataFrame(pool.map(one, range(runs), chunksize=max(1, runs // 20)))
                held = np.mean(np.stack(found["held"].tolist()), axis=0)
                yield {
                    "curve": curve,
                    "documents": documents,
                    "delta": held.mean(),
                    "worst bin": held.min(),
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
    parser.add_argument("--documents", type=int, nargs="+", default=[8, 20, 50])
    parser.add_argument("--shared", type=int)
    args = parser.parse_args()
    started = time.perf_counter()
    names = None
    for row in measured(args.runs, args.resamples, args.documents, args.shared):
        if names is None:
            names = list(row)
            print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(cells) + " |", flush=True)
    seconds = time.perf_counter() - started
    print(f"{args.runs} runs a cell, {args.resamples} resamples, {seconds:.0f} s")


if __name__ == "__main__":
    main()
