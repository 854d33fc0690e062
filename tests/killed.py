"""A process that scores runs in children and kills them: imported once, forked for every try.

Reads a try a line, as JSON: a ``configuration``, a folder for ``results``, and how it ends:
``seconds`` after the start, ``after_first`` seconds after the first unit, in the middle of its
write number ``write``, or by itself. ``pause`` is slept after each unit, so that a moment can hit
every stage of a run. Prints what came of it, a line each.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import transformers.models.llama.modeling_llama  # noqa: F401 (so that no try imports it)
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401 (imported lazily)

from probe.config import check
from probe.runs.run import run


def die_in(write: int) -> None:
    """Let the process end when a file is written, but has not got its name."""
    sync, calls = os.fsync, iter(range(1, 1_000))

    def end_or_sync(file: int) -> None:
        if next(calls) == write:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(file)

    os.fsync = end_or_sync


def score(one: dict[str, Any], report: int) -> None:
    """Score a configuration, and report every unit."""

    def listen(_: object) -> None:
        os.write(report, b".")
        time.sleep(one.get("pause", 0))

    run(check(one["configuration"]), Path(one["results"]), listen=listen)


def attempt(one: dict[str, Any]) -> dict[str, Any]:
    """One try, in a child of its own."""
    started = time.monotonic()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if "write" in one:
                die_in(one["write"])
            score(one, write)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    if "seconds" in one:
        time.sleep(one["seconds"])
        os.kill(child, signal.SIGKILL)
    units = len(os.read(read, 1))
    first = time.monotonic() - started
    if "after_first" in one:
        time.sleep(one["after_first"])
        os.kill(child, signal.SIGKILL)
    while more := os.read(read, 100):
        units += len(more)
    os.close(read)
    _, status = os.waitpid(child, 0)
    return {"first": first, "units": units, "status": os.waitstatus_to_exitcode(status)}


if __name__ == "__main__":
    datasets.disable_progress_bars()
    for line in sys.stdin:
        print(json.dumps(attempt(json.loads(line))), flush=True)
