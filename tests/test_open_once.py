"""`probe report` opens, connects, reads and aggregates a run once, whatever it tells of it."""

import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from simulated import Simulation, write_run

from probe.analysis import bootstrap, cells, fit, floor, sums
from probe.analysis import open_run as opening
from probe.commands.main import group
from probe.findings.base import entries
from probe.results import folder as folders
from probe.results import parts, views

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[1] / "results" / "example"
ONCE = (
    (folders, "read_folder"),
    (parts, "check_parts"),
    (folders, "check_windows"),
    (views, "connect"),
    (sums, "document_sums"),
    (bootstrap, "resample_weights"),
    (fit, "fitted_curves"),
    (opening, "curve_frame"),
    (fit, "draws_errors"),
    (floor, "noise_floor"),
    (views, "bytes_per_token"),
)
"""What a command does once for each run, and where it stands."""


class Calls(Counter[str]):
    """Counts calls of functions, wherever they are known by their own name."""

    def watch(self, patch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        """Count the calls of a function, also where other modules have imported it."""
        function: Callable[..., Any] = getattr(module, name)

        def counted(*given: Any, **named: Any) -> Any:
            self[name] += 1
            return function(*given, **named)

        probes = [each for name, each in sys.modules.items() if name.startswith("probe.")]
        for known in probes:
            if vars(known).get(name) is function:
                patch.setattr(known, name, counted)


@pytest.fixture(name="calls")
def counted_calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Every function of ``ONCE``, and passes over the rows, are counted."""
    entries()  # what findings import is known before it is watched
    calls = Calls()
    for module, name in ONCE:
        calls.watch(monkeypatch, module, name)
    make = cells._make

    def made(*given: Any) -> None:
        calls["one pass over the rows"] += 1
        make(*given)

    monkeypatch.setattr(cells, "_make", made)
    return calls


def report(*arguments: object) -> str:
    result = CliRunner().invoke(group, ["report", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def expected(runs: int) -> dict[str, int]:
    names = [name for _, name in ONCE] + ["one pass over the rows"]
    return dict.fromkeys(names, runs)


def test_one_run(calls: Calls, tmp_path: Path) -> None:
    """Once each, with every finding, the figure, the files and the page.

    A curve is fitted once more to the plain means: the answer without the documents that the
    example only read.
    """
    run = shutil.copytree(EXAMPLE, tmp_path / "example")
    assert f"Page: {run / 'report.html'}" in report(run)
    assert dict(calls) == {**expected(1), "fitted_curves": 2}


def test_several_runs(calls: Calls, tmp_path: Path) -> None:
    """Once for each run, also where they are told of together."""
    curves = {"truncate": lambda d: 0.5 / (1 + d), "shuffle": lambda d: 0.7 / (1 + d)}
    runs = [write_run(tmp_path / name, Simulation(curves, documents=6)) for name in ("a", "b")]
    report(*runs, "--output", tmp_path / "both.html")
    assert dict(calls) == expected(2)
