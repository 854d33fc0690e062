"""What the engine adds to the model: seconds on single pieces, and memory in a whole sweep.

    python benchmarks/pieces.py

A piece of n tokens all of which are targets, with nothing before it or off a cached prefix that
it shares with another branch: the engine's walk against bare calls of the body with the same
cached length and the same head in one chunk loop, in turn.
Memory: the largest growth during a sweep of one window of 4,096 tokens, less what the keys and
values take.
"""

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from loop import Peak, experiment

from probe.engine.branch import Branch
from probe.engine.engine import Engine
from probe.models.causal import CausalModel, snapshot
from probe.models.load import load_model
from probe.runs.experiment import Experiment
from probe.runs.plan import speed


def branch(ids: np.ndarray, cached: int) -> Branch:
    return Branch(ids, ids, cached + 1, len(ids), cached + 1)


def bare(model: CausalModel, ids: np.ndarray, cached: int, times: int) -> Callable[[], None]:
    """The body on the prefix, then *times* the body on the piece and the head on its states."""
    tokens = torch.from_numpy(ids)[None]
    head = model.model.get_output_embeddings()

    def call() -> None:
        with torch.inference_mode():
            cache = model.states(tokens[:, :cached])[1] if cached else None
            for _ in range(times):
                given = {} if cache is None else {str(model.cache_name): snapshot(cache)}
                output = model.body(tokens[:, cached:], use_cache=True, **given)
                states, labels = output.last_hidden_state[0, :-1], tokens[0, cached + 1 :]
                for rows, wanted in zip(states.split(128), labels.split(128), strict=True):
                    logp = torch.log_softmax(head(rows).float(), dim=-1)
                    logp.gather(1, wanted[:, None])

    return call


def whole_sweep(sweep: Experiment, model: CausalModel) -> None:
    """The first text this process scores, so that all it allocates is seen."""
    engine = Engine(model)
    for parameter in model.model.parameters():  # weights are read from disk when first touched
        parameter.sum()
    started = time.perf_counter()
    with Peak() as peak:
        scored = sweep.branches(sweep.windows[1], sweep.draws_of(sweep.windows[1]))
        engine.score([[one.branch for one in scored]], reference=0)
    seconds = time.perf_counter() - started
    inside = engine.costs.body_seconds + engine.costs.head_seconds
    cache = speed(model, sweep.windows[1].ids).cache(4096)
    print(
        f"sweep of one window of 4,096: {seconds:.1f} s, {100 * (1 - inside / seconds):.1f} % of "
        f"them outside body and head; memory grew by {peak.bytes / 2**20:.0f} MiB; "
        f"a cache of 4,096 tokens takes {cache / 2**20:.0f} MiB of them"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()
    sweep = experiment(4096, {"kind": "sweep", "reach": 2048}, 2)
    model = load_model(sweep.source, dtype=args.dtype)
    engine = Engine(model)
    print(f"load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads, {model.model.dtype}")
    whole_sweep(sweep, model)
    ids = sweep.windows[0].ids
    for cached, size in ((0, 512), (0, 2048), (1024, 512), (1024, 1024), (2048, 2048)):
        ours, theirs = [], []
        piece = ids[: cached + size]
        branches = [branch(piece, cached)]
        if cached:  # another branch off the prefix makes it a node of its own
            branches.append(branch(np.concatenate([piece[:cached], piece[cached:][::-1]]), cached))
        call = bare(model, piece, cached, len(branches))
        for _ in range(args.repeats):
            started = time.perf_counter()
            engine.score([branches])
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            call()
            theirs.append(time.perf_counter() - started)
        ratio = np.median(theirs) / np.median(ours)
        print(
            f"{len(branches)} × {size:,} tokens behind {cached:,}: engine "
            f"{np.median(ours):6.2f} s, bare body and head "
            f"{np.median(theirs):6.2f} s, ratio {ratio:.2f}"
        )


if __name__ == "__main__":
    main()
