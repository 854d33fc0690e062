"""Peak memory and seconds of `probe plan` on many documents, as token ids and as text.

    python benchmarks/memory.py --documents 100000 --tokens 1000

A tiny model with a tokenizer of four characters a token, and the same made-up documents in three
files. Every plan is a process of its own and starts with an empty cache of data sets; the peak is
that of the whole process (``ru_maxrss``), torch and transformers among it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

WORDS = 4096
SPECIAL = ["<s>", "</s>", "<pad>"]
CONDITIONS = ["noise", "truncate", "shuffle", "replace(source='document')"]
FILES = {
    "ids, parquet": {"path": "parquet", "data_files": "ids.parquet", "ids_column": "ids"},
    "ids, jsonl": {"path": "json", "data_files": "ids.jsonl", "ids_column": "ids"},
    "text, jsonl": {"path": "json", "data_files": "text.jsonl"},
}


def write_model(folder: Path) -> None:
    """Write a tiny Llama and a tokenizer whose tokens are a space and three hexadecimal digits."""
    import torch
    from tokenizers import Regex, Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    words = [*SPECIAL, *(f" {number:03x}" for number in range(WORDS))]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(" [0-9a-f]{3}"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def blocks(documents: int, tokens: int) -> Iterator[np.ndarray]:
    """Token ids of some documents at a time, shape ``(n, tokens)``."""
    rng = np.random.default_rng(0)
    rows = max(1, 1_000_000 // tokens)
    for at in range(0, documents, rows):
        shape = (min(rows, documents - at), tokens)
        yield rng.integers(len(SPECIAL), WORDS, size=shape, dtype=np.int32)


def write_data(folder: Path, documents: int, tokens: int) -> None:
    """Write the same documents as ids (parquet, jsonl) and as text (jsonl)."""
    words = np.array([*SPECIAL, *(f" {number:03x}" for number in range(WORDS))])
    schema = pa.schema([("ids", pa.list_(pa.int32()))])
    with (
        pq.ParquetWriter(folder / "ids.parquet", schema) as writer,
        (folder / "ids.jsonl").open("w") as ids,
        (folder / "text.jsonl").open("w") as text,
    ):
        for block in blocks(documents, tokens):
            offsets = np.arange(len(block) + 1, dtype=np.int32) * tokens
            column = pa.ListArray.from_arrays(offsets, pa.array(block.ravel()))
            writer.write_table(pa.table({"ids": column}, schema=schema))
            for row in block:
                ids.write(json.dumps({"ids": row.tolist()}) + "\n")
                text.write(json.dumps({"text": "".join(words[row])}) + "\n")


def plan(folder: Path, name: str, length: int) -> tuple[int, float]:
    """Plan one of the files in a new process; its peak memory, bytes, and its seconds."""
    data = dict(FILES[name])
    content = {
        "name": "memory",
        "model": {"path": str(folder / "model"), "dtype": "float32", "device": "cpu"},
        "data": data | {"data_files": str(folder / data["data_files"])},
        "windows": {"length": length, "per_document": 1},
        "protocol": {"kind": "sweep", "reach": length // 2, "runs": {1: 1}},
        "conditions": CONDITIONS,
    }
    configuration = folder / "memory.yaml"  # JSON is YAML
    configuration.write_text(json.dumps(content))
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        environment = os.environ | {"HF_HOME": cache, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "cli", "plan", str(configuration), "--no-time"]
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parent.parent,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{name}: exit status {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=1000, help="of a document")
    parser.add_argument("--length", type=int, default=512, help="of a window")
    parser.add_argument("--folder", type=Path, help="where the files are written; made, and kept")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)  # this process only writes
    args = parser.parse_args()
    if args.write:
        write_model(args.write / "model")
        write_data(args.write, args.documents, args.tokens)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        sizes = ["--documents", str(args.documents), "--tokens", str(args.tokens)]
        if not (folder / "text.jsonl").exists():
            # Not in this process: what a parent holds counts in the peak of its children.
            writing = [sys.executable, __file__, "--write", str(folder), *sizes]
            subprocess.run(writing, check=True)
        total = args.documents * args.tokens
        size = f"{args.documents:,} documents of {args.tokens:,} tokens"
        print(f"{size}, one window of {args.length}")
        print(f"{'':14}{'peak MiB':>10}{'bytes a token':>15}{'seconds':>9}")
        for name in FILES:
            peak, seconds = plan(folder, name, args.length)
            print(f"{name:14}{peak / 2**20:10,.0f}{peak / total:15.1f}{seconds:9.0f}", flush=True)


if __name__ == "__main__":
    main()
