"""What several masks in one forward save, and what they cost: targets a second and losses.

    python benchmarks/masked.py --together 1 4 16

The intact losses of the same targets, one masked at a time and several at once, one way after the
other on each window. Differences are those to one at a time, in nats; the last column says whether
a run would mask so many at once (over at least 256 targets a mean of .02 and an SD of .1 at most).
"""

import argparse
import os
import time
from collections.abc import Sequence

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from probe.config import check
from probe.engine.engine import Engine
from probe.engine.selfcheck import judged
from probe.models.load import load_model
from probe.runs.experiment import Experiment, prepare
from probe.runs.run import check_model

MODEL = "package://rxnmapper/albert_heads_8_uspto_all_1310k"
HEADER = ("together", "targets/s", "of one", "mean", "SD", "largest", "used")


def experiment(args: argparse.Namespace, together: int) -> Experiment:
    """Masked targets, so many of them in one forward."""
    protocol = {"kind": "pll", "distances": [1], "masking": "original", "targets": args.targets}
    return prepare(
        check(
            {
                "name": "benchmark",
                "model": {"path": args.model, "dtype": args.dtype},
                "data": {"path": args.data, "max_documents": args.windows},
                "windows": {"length": args.length, "per_document": 1},
                "protocol": protocol | {"targets_per_forward": together},
                "conditions": ["truncate"],
            }
        )
    )


def score(engine: Engine, prepared: Experiment, number: int) -> tuple[float, np.ndarray]:
    """Seconds and losses of the targets of a window's intact text, in order of place."""
    scored = prepared.branches(prepared.windows[number], [])
    started = time.perf_counter()
    (losses,) = engine.score([[one.branch for one in scored]])
    seconds = time.perf_counter() - started
    order = np.argsort([one.position for one in scored])
    return seconds, np.concatenate([losses[place].nll for place in order])


def row(cells: Sequence[str]) -> str:
    """A line of the table."""
    return "  ".join(f"{cell:>9}" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--data", default="configs/reactions.csv")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--length", type=int, default=96)
    parser.add_argument("--targets", type=int, default=16)
    parser.add_argument("--windows", type=int, default=69)
    parser.add_argument("--together", type=int, nargs="+", default=[1, 4, 16])
    args = parser.parse_args()
    ways = {together: experiment(args, together) for together in args.together}
    first = next(iter(ways.values()))
    model = load_model(first.source, dtype=args.dtype)
    engine = Engine(model, check_model(model, first).techniques)
    print(f"{model.device}, {os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}")
    seconds = dict.fromkeys(ways, 0.0)
    losses = {together: list[np.ndarray]() for together in ways}
    for number in range(-1, len(first.windows)):  # the first forward of a length is slower
        for together, prepared in ways.items():
            spent, found = score(engine, prepared, max(number, 0))
            if number >= 0:
                seconds[together] += spent
                losses[together].append(found)
    print(row(HEADER))
    alone = np.concatenate(losses[args.together[0]])
    for together in ways:
        outcome = judged("masked", np.concatenate(losses[together]) - alone, "losses differ")
        speed = len(alone) / seconds[together], seconds[args.together[0]] / seconds[together]
        cells = f"{speed[0]:.0f}", f"{speed[1]:.2f}", f"{outcome.mean:+.3f}", f"{outcome.sd:.3f}"
        used = "yes" if outcome.passed else "no"
        print(row((str(together), *cells, f"{outcome.worst:.2g}", used)))
    print(f"load after {os.getloadavg()[0]:.1f}; {len(alone):,} targets")


if __name__ == "__main__":
    main()
