"""How long `probe report` takes on a large run, and how much memory: rows made up, same schema.

    python benchmarks/rows.py --rows 100000000 --folder /tmp/rows

Writes a run folder of about that many score rows, as the store writes them: windows of 4,096
tokens, four a document, the default sweep to 2,048, one part for each ``--batch`` windows, the
conditions intact, truncate, shuffle and replace, and noise on four windows. Then fresh processes
read it, checksums and all: what `probe run` works out at its end (the run opened, and its brief
findings), the whole of `probe report`, once as it labels all tokens and then as it finds their
labels kept, and `probe weigh`, over every token of the windows. Each tells its seconds, those of
the processor, and the most memory it held; where others use the machine, compare those of the
processor.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from probe.protocols.base import WindowsConfig
from probe.protocols.sweep import SweepProtocol
from probe.results.scores import SCHEMA, WINDOWS, Store

LENGTH, REACH, PER_DOCUMENT = 4096, 2048, 4
PLAN = SweepProtocol(reach=REACH).plan(WindowsConfig(length=LENGTH))
CONDITIONS = {"truncate": 1.0, "shuffle": 2.2, "replace(source='document')": 1.6}
SHARED = {"replace(source='document')"}  # the conditions whose short runs cost little
NOISE = "noise(windows=4)"


def rows_of_window(condition: str) -> tuple[np.ndarray, np.ndarray]:
    """Boundary and position inside the window of each row of a condition."""
    runs = PLAN.runs(condition in SHARED or condition == NOISE)
    boundary = np.concatenate([np.full(run.stop - run.first, run.boundary) for run in runs])
    position = np.concatenate([np.arange(run.first, run.stop) for run in runs])
    return boundary, position


def columns(document: int, window: int, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    """The rows of one window, condition by condition."""
    start = window * LENGTH
    losses = rng.gamma(2.0, 1.6, size=LENGTH).astype(np.float32)
    scale = np.exp(0.4 * rng.normal())
    position = np.arange(LENGTH - REACH, LENGTH)
    minus = np.full(len(position), -1)
    name = f"book-{document:05d}.txt"
    conditions = [*CONDITIONS, NOISE] if document == window == 0 else [*CONDITIONS]
    for condition in ["intact", *conditions]:
        if condition == "intact":
            far_start = boundary = distance = minus
            nll = intact = losses[position]
        else:
            boundary, position = rows_of_window(condition)
            distance = position - boundary
            spread = 1e-5 if condition == NOISE else 0.4
            curve = CONDITIONS.get(condition, 0.0) * scale / (1 + distance)
            intact = losses[position]
            nll = intact + curve + spread * rng.standard_normal(len(position), dtype=np.float32)
            far_start, boundary = np.full(len(position), start), boundary + start
        yield {
            "document": name,
            "window": window,
            "position": position + start,
            "far_start": far_start,
            "boundary": boundary,
            "distance": distance,
            "condition": condition,
            "repeat": 0,
            "nll": nll,
            "nll_intact": intact,
        }


def write_part(folder: Path, batch: int, part: int) -> int:
    """Write one part of *batch* windows; returns its rows."""
    rng = np.random.default_rng([0, part])
    found, keys = [], []
    for number in range(part * batch, (part + 1) * batch):
        document, window = divmod(number, PER_DOCUMENT)
        for one in columns(document, window, rng):
            count = len(np.asarray(one["position"]))
            found.append(
                {
                    name: np.full(count, value, dtype=object if isinstance(value, str) else None)
                    if np.ndim(value) == 0
                    else value
                    for name, value in one.items()
                }
            )
            keys.append((str(one["document"]), window, str(one["condition"]), 0))
    joined = {name: np.concatenate([one[name] for one in found]) for name in SCHEMA.names}
    Store(folder).write_part(joined, keys)
    return len(joined["nll"])


def write_windows(folder: Path, windows: int) -> None:
    """Write windows.parquet in row groups, about four bytes of text a token."""
    rng = np.random.default_rng(1)
    words = np.array([f" {number:03x}" for number in range(4096)])
    with pq.ParquetWriter(
        folder / "windows.parquet", WINDOWS, compression="zstd", write_page_checksum=True
    ) as writer:
        for at in range(0, windows, 256):
            numbers = np.arange(at, min(at + 256, windows))
            ids = rng.integers(4096, size=(len(numbers), LENGTH), dtype=np.int32)
            offsets = np.arange(len(numbers) + 1, dtype=np.int32) * LENGTH
            starts = np.tile(np.arange(LENGTH, dtype=np.int32) * 4, len(numbers))
            tokens, first, last = (
                pa.ListArray.from_arrays(offsets, pa.array(values, pa.int32()))
                for values in (ids.ravel(), starts, starts + 4)
            )
            window = (numbers % PER_DOCUMENT).astype(np.int32)
            table = {
                "document": [f"book-{number // PER_DOCUMENT:05d}.txt" for number in numbers],
                "window": window,
                "start": window * LENGTH,
                "token_ids": tokens,
                "char_start": first,
                "char_end": last,
                "text": ["".join(row) for row in words[ids]],
            }
            writer.write_table(pa.table(table, schema=WINDOWS))


def write_run(folder: Path, rows: int, batch: int) -> int:
    """Write the run folder; returns its rows."""
    per_window = sum(len(one["position"]) for one in columns(1, 0, np.random.default_rng(0)))
    parts = max(1, round(rows / per_window / batch))
    (folder / "scores").mkdir(parents=True)
    spawned = multiprocessing.get_context("spawn")  # no fork of a process that has threads
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawned) as pool:
        written = sum(pool.map(partial(write_part, folder, batch), range(parts), chunksize=16))
    write_windows(folder, parts * batch)
    Store(folder).write_frequencies(lambda: np.arange(4096, 0, -1))
    documents = [{"id": f"book-{n:05d}.txt"} for n in range(-(-parts * batch // PER_DOCUMENT))]
    record = {
        "name": folder.name,
        "status": "complete",
        "config": {"analysis": {}, "seed": 0},
        "model": {"name": "made-up"},
        "data": {"name": "made-up", "documents": documents},
        "plan": {
            "conditions": {
                name: {"curve_start": PLAN.curve_start(name in SHARED)} for name in CONDITIONS
            }
        },
    }
    Store(folder).write_record(record)
    return written


def answer_here(folder: Path) -> None:
    """What `probe run` works out and keeps at its end, in this process."""
    from probe.analysis.open_run import open_run
    from probe.findings.base import findings, write_files

    with open_run(folder) as run:
        write_files(run, findings(run, brief=True))
        print(*(context.text() for context in run.contexts), sep="; ")


def report_here(folder: Path) -> None:
    """`probe report` in this process, without what it prints."""
    from probe.commands.main import group

    group(["report", str(folder)], standalone_mode=False)


def weigh_here(folder: Path) -> None:
    """`probe weigh` in this process, without what it prints."""
    from probe.commands.main import group

    group(["weigh", str(folder), "--distance", "1024"], standalone_mode=False)


PARTS = {"answer": answer_here, "report": report_here, "weigh": weigh_here}


def measure(part: str, folder: Path) -> str:
    """What a fresh process takes for a part; returns what it prints."""
    load = os.getloadavg()[0]
    command = [sys.executable, __file__, "--only", part, "--folder", str(folder)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)  # of this child alone, unlike getrusage
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{part} failed")
    print(
        f"{part}: {time.perf_counter() - started:.1f} s, of processors {used.ru_utime:.1f} s and"
        f" {used.ru_stime:.1f} s of the system; {used.ru_maxrss / 1024:.0f} MiB at most; load"
        f" before {load:.1f}"
    )
    return printed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=8, help="windows of a part")
    parser.add_argument("--folder", type=Path, required=True, help="made, and removed at the end")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="keep the folder, and use it again")
    parser.add_argument("--only", choices=PARTS, help="only read the folder, in this process")
    args = parser.parse_args()
    if args.only:
        PARTS[args.only](args.folder)
        return
    if not args.folder.exists():
        started = time.perf_counter()
        rows = write_run(args.folder, args.rows, args.batch)
        print(f"{rows:,} rows written in {time.perf_counter() - started:.0f} s")
    parts = list(args.folder.glob("scores/*.parquet"))
    size = sum(part.stat().st_size for part in parts) / 2**30
    print(f"{len(parts):,} parts, {size:.2f} GiB, {os.cpu_count()} cores")
    answers = [measure("answer", args.folder) for _ in range(args.repeats)]
    for _ in range(args.repeats + 1):
        kept = (args.folder / "classes.parquet").exists()
        print("labels kept," if kept else "labels worked out,", end=" ")
        measure("report", args.folder)
    measure("weigh", args.folder)
    print(*answers[:1])
    if not args.keep:
        shutil.rmtree(args.folder)


if __name__ == "__main__":
    main()
