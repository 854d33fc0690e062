"""Runs that are killed: the process of ``killed.py``, started once for all tests of a session."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tiny_run import CHECKOUT, environment


class Tries:
    """A process to which tries are sent one by one, see ``killed.py``."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def __call__(self, **one: Any) -> dict[str, Any]:
        """What came of a try: a ``configuration``, a folder for ``results``, and how it ends."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(one, default=str) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


@pytest.fixture(scope="session", name="tries")
def process_of_tries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tries]:
    with subprocess.Popen(
        [sys.executable, str(CHECKOUT / "tests" / "killed.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(tmp_path_factory.mktemp("tries")),
    ) as process:
        yield Tries(process)
        assert process.stdin is not None
        process.stdin.close()
