"""What weights cost in training: steps of a bare Trainer, with weights, and with LongCE online.

    python benchmarks/training.py --length 1024 --context 256

A decoder of random weights, the same rows and steps for all; each arm in turn, round after round,
after one that is not timed. Ratios are of one run: seconds mean little where others use a machine.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from probe.training.collate import Collate
from probe.training.trainer import OnlineLongCETrainer, WeightedTrainer


class Bare(Collate):
    """Batches as any language model takes them."""

    def __call__(self, rows: Any) -> dict[str, torch.Tensor]:
        """See `Collate`."""
        batch = super().__call__(rows)
        del batch["loss_weights"]
        return batch


def seconds(
    trainer: Callable[..., Trainer], collate: Collate, args: argparse.Namespace, folder: str
) -> float:
    """Seconds a step of fresh weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=args.width,
        intermediate_size=3 * args.width,
        num_hidden_layers=args.layers,
        num_attention_heads=args.width // 64,
        max_position_embeddings=args.length,
    )
    rng = np.random.default_rng(0)
    rows = [
        {"input_ids": rng.integers(4096, size=args.length), "loss_weights": np.ones(args.length)}
        for _ in range(args.steps * args.batch)
    ]
    given = TrainingArguments(
        folder,
        max_steps=args.steps,
        per_device_train_batch_size=args.batch,
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    model = LlamaForCausalLM(config)
    made = trainer(model=model, args=given, train_dataset=rows, data_collator=collate)
    made.remove_callback(PrinterCallback)
    started = time.perf_counter()
    made.train()
    return (time.perf_counter() - started) / args.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--context", type=int, default=256, help="of short contexts")
    parser.add_argument("--stride", type=int, help="of short contexts, by default their length")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    short = {"context": args.context, "stride": args.stride or args.context}
    arms: dict[str, tuple[Callable[..., Trainer], Collate]] = {
        "Trainer": (Trainer, Bare()),
        "WeightedTrainer": (WeightedTrainer, Collate()),
        "OnlineLongCETrainer": (lambda **given: OnlineLongCETrainer(**given, **short), Collate()),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds + 1):
            for name, (trainer, collate) in arms.items():
                found = seconds(trainer, collate, args, folder)
                if number:
                    times[name].append(found)
    plain = statistics.median(times["Trainer"])
    for name, found in times.items():
        middle = statistics.median(found)
        ratios = [a / b for a, b in zip(found, times["Trainer"], strict=True)]
        print(
            f"{name}: {middle:.2f} s a step, {middle / plain:.3f} of the bare Trainer's"
            f" ({min(ratios):.3f} to {max(ratios):.3f} by round)"
        )


if __name__ == "__main__":
    main()
