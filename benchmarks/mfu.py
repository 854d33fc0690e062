"""How much of a device's peak a run uses: a model of random weights, long windows.

    python benchmarks/mfu.py --length 8192 32768 --layers 16 --hidden 2048

A Llama of that shape with random weights in ``--dtype`` on ``--device``, made-up documents of
token ids, one window each, the default sweep over the last half of it, ``truncate`` and
``replace(source='document')``. Of each length a run is scored as ``probe run`` does, self-check and
all; the table is what ``run.json`` says. Model FLOPs utilisation needs a GPU that is known by name
(see ``probe/engine/flops.py``) and 16 bits; elsewhere TFLOP/s are all there is to tell.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from probe.config import Config, check
from probe.models.causal import CausalModel
from probe.runs.run import run

HEAD = 128
"""Dimensions of a head."""


def made_up(args: argparse.Namespace) -> CausalModel:
    """The model, on its device; only its configuration is written."""
    heads = max(1, args.hidden // HEAD)
    config = LlamaConfig(
        vocab_size=args.vocabulary,
        hidden_size=args.hidden,
        intermediate_size=4 * args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 4),
        max_position_embeddings=max(args.length) + 8,
        architectures=["LlamaForCausalLM"],
    )
    torch.manual_seed(0)
    with torch.device(args.device):
        model = LlamaForCausalLM._from_config(config, dtype=getattr(torch, args.dtype))
    return CausalModel(model.eval())


def configuration(
    folder: Path, model: CausalModel, length: int, args: argparse.Namespace
) -> Config:
    """The run of a length: its documents are written."""
    model.model.config.save_pretrained(folder)
    rng = np.random.default_rng(0)
    ids = rng.integers(8, args.vocabulary, size=(args.windows, length), dtype=np.int32)
    pq.write_table(pa.table({"ids": list(ids)}), folder / "ids.parquet")
    return check(
        {
            "name": f"length-{length}",
            "model": {"path": str(folder), "device": args.device, "dtype": args.dtype},
            "data": {
                "path": "parquet",
                "data_files": str(folder / "ids.parquet"),
                "ids_column": "ids",
            },
            "windows": {"length": length, "per_document": 1},
            "protocol": {"kind": "sweep", "reach": length // 2},
            "conditions": ["truncate", "replace(source='document')"],
            "first_token": "none",
        }
    )


def row(length: int, record: dict[str, Any]) -> str:
    """What a run took."""
    costs = record["costs"]
    rates = costs["tokens"] / costs["seconds"], costs["flops"] / costs["seconds"] / 1e12
    mfu = f"{100 * costs['mfu']:.1f} %" if "mfu" in costs else "not known"
    memory = f"{costs['peak_memory'] / 1e9:.1f} GB" if "peak_memory" in costs else "not known"
    speed = f"{costs['tokens']:>14,}{rates[0]:>12,.0f}{rates[1]:>12.4g}"
    return f"{length:>8,}{speed}{mfu:>12}{memory:>12}"


def note(line: str) -> None:
    """Say something beside the table."""
    print(line, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, nargs="+", default=[8192, 32768])
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    model = made_up(args)
    where = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    print(f"{model.model.num_parameters() / 1e9:.2f} billion parameters, {args.dtype}, {where}")
    print(f"{'length':>8}{'tokens':>14}{'tokens/s':>12}{'TFLOP/s':>12}{'MFU':>12}{'memory':>12}")
    with tempfile.TemporaryDirectory() as scratch:
        for length in args.length:
            config = configuration(Path(scratch), model, length, args)
            if args.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            folder = run(config, Path(scratch), model=model, say=note)
            print(row(length, json.loads((folder / "run.json").read_text())), flush=True)


if __name__ == "__main__":
    main()
