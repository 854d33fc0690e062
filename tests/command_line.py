"""What tests of the command line share: a call, its answer or its mistake, and a finished run."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from tiny_run import CHECKOUT, changed, environment

from probe.commands.main import group

PNG = b"\x89PNG\r\n\x1a\n"
FIGURES = ("figures/curve.png", "figures/curve.svg")
NUMBERS = ("summary.json", "curve.csv")
# Runs the command line as a user does, then says on stderr what the process holds.
INSIDE = """
import json, os, runpy, sys
sys.argv = ["cli.py", *sys.argv[1:]]
try:
    runpy.run_path("cli.py", run_name="__main__")
finally:
    held = {"loaded": sorted(sys.modules), "policy": os.environ.get("OMP_WAIT_POLICY")}
    print(json.dumps(held), file=sys.stderr)
"""


@dataclass(frozen=True)
class Finished:
    """A run that went through: its configuration, its results, what was said."""

    config: Path
    results: Path
    result: Result

    @property
    def folder(self) -> Path:
        return self.results / "tiny"

    def copy(self, results: Path) -> "Finished":
        """The same run in another place, for a test that changes it."""
        shutil.copytree(self.results, results)
        return Finished(self.config, results, self.result)


def probe(*arguments: object, charset: str = "utf-8") -> Result:
    """Call the command line in this process, with an output of an encoding."""
    return CliRunner(charset=charset).invoke(group, [str(argument) for argument in arguments])


def process(*command: str, caches: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        env=environment(caches) | extra,
    )


def write(file: Path, content: Mapping[str, Any], **changes: Any) -> Path:
    """The configuration that ``changed`` gives, as a file."""
    file.write_text(yaml.safe_dump(changed(content, **changes)), encoding="utf-8")
    return file


def mistake(result: Result, status: int) -> str:
    """What a command that failed said: its status, one line, and nothing besides."""
    (line,) = mistakes(result, status)
    return line


def mistakes(result: Result, status: int) -> list[str]:
    """The lines of stderr behind ``Error:``, where nothing else was said."""
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    return result.stderr.removeprefix("Error: ").splitlines()


def last_line(result: Result, status: int) -> str:
    """The mistake of a run that had begun: below its notes and its bar."""
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert errors == result.stderr.splitlines()[-1:]
    return errors[0].removeprefix("Error: ")


def good(result: Result) -> str:
    """The answer of a command that went through."""
    assert result.exit_code == 0, result.output
    assert "Error" not in result.stderr
    return result.stdout


@pytest.fixture(scope="module", name="finished")
def finished_run(base: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The base configuration, run once; tests only read it."""
    place = tmp_path_factory.mktemp("finished")
    config = write(place / "tiny.yaml", base)
    results = place / "results"
    return Finished(config, results, probe("run", config, "--results", results))
