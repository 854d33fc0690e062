"""Runs on Ray whose workers or driver are killed at random: what is lost, what is doubled?

    python benchmarks/kills.py --times 20 --folder /tmp/kills

Each run is killed once, by SIGKILL, and the same command is started again where its driver was
killed, too. Its rows are then compared with those of one process: rows that are missing, rows that
are there twice, and the largest difference of a loss.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from benchmarks.units import configuration
from probe.config import check
from probe.runs.run import run

KEY = ["document", "window", "condition", "repeat", "boundary", "position"]
PROBE = [sys.executable, "-c", "from probe.commands.main import main; main()"]
VICTIMS = ("worker", "driver", "both")


def rows(folder: Path) -> pd.DataFrame:
    """All rows of a run, by key."""
    parts = [pq.read_table(part).to_pandas() for part in sorted(folder.glob("scores/*.parquet"))]
    frame = pd.concat([part.astype({"document": str, "condition": str}) for part in parts])
    return frame.set_index(KEY).sort_index()


def start(folder: Path) -> "subprocess.Popen[bytes]":
    """A driver with two workers, in a session of its own."""
    with (folder / "told.txt").open("ab") as told:
        return subprocess.Popen(
            [*PROBE, "run", "run.yaml", "--ray", "--workers", "2"],
            cwd=folder,
            stdout=told,
            stderr=told,
            start_new_session=True,
        )


def actors(driver: int) -> list[int]:
    """Processes of the driver's workers."""
    found = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]
    listed = [
        (int(pid), int(parent), args) for pid, parent, args in (x.split(None, 2) for x in found)
    ]
    below = {driver}
    for _ in range(4):
        below |= {pid for pid, parent, _ in listed if parent in below}
    return [pid for pid, _, args in listed if pid in below and args.startswith("ray::Worker")]


def wait(found: Callable[[], object], seconds: float = 300.0) -> None:
    """Wait until something is there."""
    until = time.monotonic() + seconds
    while not found():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.01)


def attempt(folder: Path, victim: str, fraction: float, units: int) -> int:
    """One run, killed when about a fraction of it is there; the units that were kept then."""
    folder.mkdir(parents=True)
    shutil.copy(folder.parent / "run.yaml", folder / "run.yaml")
    driver, scores = start(folder), folder / "results" / "run" / "scores"
    wait(lambda: driver.poll() is not None or actors(driver.pid))
    wait(
        lambda: driver.poll() is not None or len(list(scores.glob("*.parquet"))) >= fraction * units
    )
    kept = len(list(scores.glob("*.parquet")))
    if victim != "driver":
        for pid in actors(driver.pid)[:1]:
            os.kill(pid, signal.SIGKILL)
    if victim != "worker":
        driver.kill()
        driver.wait()
        driver = start(folder)
    if driver.wait():
        raise SystemExit((folder / "told.txt").read_text(encoding="utf-8"))
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="made, and removed at the end")
    args = parser.parse_args()
    args.folder.mkdir(parents=True)
    content = configuration(args.folder.resolve(), args.units, 256)
    (args.folder / "run.yaml").write_text(json.dumps(content), encoding="utf-8")  # YAML, too
    whole = rows(run(check(content), args.folder / "whole"))
    rng, worst = np.random.default_rng(args.seed), [0, 0, 0.0]
    for number in range(args.times):
        victim, fraction = VICTIMS[number % len(VICTIMS)], rng.uniform(0, 0.9)
        kept = attempt(args.folder / f"{number}", victim, fraction, args.units)
        found = rows(args.folder / f"{number}" / "results" / "run")
        lost = len(whole.index.difference(found.index))
        twice = int(found.index.duplicated().sum())
        both = found[~found.index.duplicated()].reindex(whole.index)
        apart = float((both["nll"] - whole["nll"]).abs().max())
        worst = [max(before, now) for before, now in zip(worst, (lost, twice, apart), strict=True)]
        print(
            f"{number + 1}: {victim} killed with {kept} of {args.units} units kept: "
            f"{lost} rows lost, {twice} twice, losses up to {apart:.1e} nats apart",
            flush=True,
        )
        shutil.rmtree(args.folder / f"{number}")
    print(
        f"{args.times} runs of {len(whole):,} rows: at most {worst[0]} lost, {worst[1]} twice, "
        f"losses up to {worst[2]:.1e} nats apart"
    )
    shutil.rmtree(args.folder)


if __name__ == "__main__":
    main()
