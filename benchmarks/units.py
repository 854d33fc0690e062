"""What the run folder costs a unit of work, a resume and a report: many units, a made-up scorer.

    python benchmarks/units.py --units 20000 --folder /tmp/units

A run of that many documents of ``--length`` tokens, a window and a unit each, on a tiny model whose
losses are made up (so that they cost nothing). The table has the milliseconds a unit takes besides
its scoring, in the first and the last tenth; the seconds in which the finished run is taken up
again, planning apart; and the seconds in which it is opened for a report. With ``--each`` every
unit stays a part of its own, as in folders of earlier versions.

With ``--writers 8`` as many processes score a shard each into the one folder, and ``--kills 20`` of
them are killed with SIGKILL at random moments and started again: the table says how many files
there were at most, and how many rows are lost or there twice.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import LlamaConfig, LlamaForCausalLM

import probe.results.scores
import probe.runs.begun
import probe.runs.loaded
import probe.runs.run
from probe.analysis.open_run import open_run
from probe.config import Config, check
from probe.engine.engine import Engine
from probe.engine.losses import Losses
from probe.engine.selfcheck import Report
from probe.findings.base import findings
from probe.protocols.branches import Scored
from probe.results.folder import read_folder
from probe.results.scores import Store
from probe.results.shards import parse_shard
from probe.runs.experiment import Experiment
from probe.runs.plan import Unit


class Made:
    """Losses that nothing computed, and the moments at which each unit had been scored."""

    def __init__(self) -> None:
        self.spent: list[tuple[float, float]] = []

    def score(
        self, engine: Engine, experiment: Experiment, unit: Unit
    ) -> tuple[list[list[Scored]], list[list[Losses]]]:
        """The branches of a unit, and losses for them."""
        started = time.perf_counter()
        engine.costs.tokens += 1
        branches = [experiment.branches(one.window, one.draws) for one in unit]
        rng = np.random.default_rng(len(self.spent))
        losses = [
            [Losses(rng.random(one.branch.targets, dtype=np.float32)) for one in window]
            for window in branches
        ]
        self.spent.append((started, time.perf_counter()))
        return branches, losses

    def milliseconds(self, tenths: slice) -> float:
        """Mean time between two units, without their scoring (ms)."""
        gaps = [after[0] - before[1] for before, after in pairwise(self.spent)]
        size = max(1, len(gaps) // 10)
        return 1e3 * float(np.mean([gaps[n : n + size] for n in range(0, size * 10, size)][tenths]))


def configuration(folder: Path, units: int, length: int) -> dict[str, Any]:
    """A tiny model and that many documents, on disk."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 4096}
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, max_position_embeddings=length + 8))
    model.save_pretrained(folder / "model")
    ids = np.random.default_rng(0).integers(8, 4096, size=(units, length), dtype=np.int32)
    table = pa.table({"ids": list(ids), "name": [f"document-{n:06d}" for n in range(units)]})
    pq.write_table(table, folder / "documents.parquet")
    return {
        "name": "run",
        "model": {"path": str(folder / "model"), "dtype": "float32", "device": "cpu"},
        "data": {
            "path": "parquet",
            "data_files": str(folder / "documents.parquet"),
            "ids_column": "ids",
        },
        "windows": {"length": length, "per_document": 1},
        "protocol": {"kind": "sweep", "reach": length // 2, "runs": {1: 1}},
        "conditions": ["truncate", "shuffle", "replace(source='document')"],
        "batch": 1,
        "first_token": "none",
    }


def work(folder: Path, config: Config, shard: str | None) -> Made:
    """Score a run, or a shard of it, with made-up losses."""
    made = Made()
    probe.runs.begun.score_unit = made.score
    probe.runs.loaded.check_model = lambda *_: Report(())
    probe.runs.run.run(config, Store(folder / "run", None if shard is None else parse_shard(shard)))
    return made


def compete(folder: Path, writers: int, kills: int) -> tuple[int, int]:
    """Let processes score a shard each, some of which are killed.

    Returns:
        How many were killed, and the most files that there were at once.
    """
    rng, killed, most = np.random.default_rng(0), 0, 0

    def start(number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, "--folder", str(folder)]
        return subprocess.Popen(
            [*command, "--shard", f"{number}/{writers}"], stderr=subprocess.DEVNULL
        )

    running = {number: start(number) for number in range(writers)}
    while running:
        time.sleep(float(rng.uniform(1, 4)))
        most = max(most, len(list((folder / "run").glob("scores/*"))))
        if killed < kills and most:
            victim = int(rng.choice(list(running)))
            running[victim].kill()
            running[victim].wait()
            killed, running[victim] = killed + 1, start(victim)
        for number, process in list(running.items()):
            if process.poll() == 0:
                del running[number]
            elif process.poll() is not None:
                raise SystemExit(f"shard {number} ended with {process.poll()}")
    return killed, most


def told_of(folder: Path, units: int) -> str:
    """Rows that are lost and those that are there twice, of a run by several writers."""
    parts = str(folder / "run" / "scores" / "*.parquet")
    key = 'document, "window", condition, repeat, position, boundary'
    rows, distinct, keys = duckdb.execute(
        f"""SELECT sum(n), count(*), (SELECT count(*) FROM (SELECT DISTINCT document, "window",
        condition, repeat FROM read_parquet('{parts}')))
        FROM (SELECT count(*) AS n FROM read_parquet('{parts}') GROUP BY {key})"""
    ).fetchone() or (0, 0, 0)
    return (
        f"{rows:,} rows, {rows - distinct:,} twice; {4 * units - keys:,} of {4 * units:,} keys lost"
    )


def timed(call: Any) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--length", type=int, default=256, help="tokens of a window")
    parser.add_argument("--folder", type=Path, required=True, help="made, and removed at the end")
    parser.add_argument("--writers", type=int, default=1, help="processes, a shard each")
    parser.add_argument("--kills", type=int, default=0, help="how many of them are killed")
    parser.add_argument("--shard", help="score this one, in this process")
    parser.add_argument("--each", action="store_true", help="each unit is a part of its own")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    args = parser.parse_args()
    if args.shard:
        work(args.folder, check(json.loads((args.folder / "run.config").read_text())), args.shard)
        return
    args.folder.mkdir(parents=True)
    content = configuration(args.folder, args.units, args.length)
    (args.folder / "run.config").write_text(json.dumps(content))
    config, run = check(content), args.folder / "run"
    if args.each:
        probe.results.scores.MERGED = args.units + 1
    if args.writers > 1:
        started = time.perf_counter()
        killed, most = compete(args.folder, args.writers, args.kills)
        print(
            f"{args.writers} writers, {killed} killed, {time.perf_counter() - started:.0f} s; "
            f"{most:,} files at most; {told_of(args.folder, args.units)}"
        )
    planned: list[float] = []
    prepare = probe.runs.run.prepare

    def prepared(*given: Any) -> Experiment:
        started = time.perf_counter()
        experiment = prepare(*given)
        planned.append(time.perf_counter() - started)
        return experiment

    probe.runs.run.prepare = prepared
    load = os.getloadavg()[0]
    started = time.perf_counter()
    made = work(args.folder, config, None)
    whole = time.perf_counter() - started
    again = timed(lambda: work(args.folder, config, None))
    first = timed(lambda: read_folder(run, checked=False))
    second = timed(lambda: read_folder(run))
    told = timed(lambda: findings(open_run(run, write=False), brief=True))
    parts = list(run.glob("scores/*.parquet"))
    print(
        f"{args.units:,} units, {len(parts):,} parts, "
        f"{sum(part.stat().st_size for part in parts) / 2**20:.0f} MiB; run.json "
        f"{(run / 'run.json').stat().st_size / 2**20:.1f} MiB; load before {load:.1f}"
    )
    scored = (
        []
        if args.writers > 1
        else [
            ("a unit besides its scoring, first tenth", made.milliseconds(slice(0, 1)), "ms"),
            ("the same, last tenth", made.milliseconds(slice(9, 10)), "ms"),
            ("the whole run", whole, "s"),
        ]
    )
    for name, value, unit in (
        *scored,
        ("of it planning", planned[0], "s"),
        ("taken up again, planning apart", again - planned[1], "s"),
        ("opened, footers and checksums", first, "s"),
        ("opened again, losses too", second, "s"),
        ("opened, and what is kept of it worked out", told, "s"),
    ):
        print(f"{name:45}{value:10.2f} {unit}")
    if not args.keep:
        shutil.rmtree(args.folder)


if __name__ == "__main__":
    main()
