"""A finding is one file: one that no renderer and no command knows is told like the others."""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from simulated import Simulation, write_run

from probe.analysis.open_run import OpenRun
from probe.commands.main import group
from probe.findings import base
from probe.findings.base import Drawn, Finding, Option, Plot, entries, register
from probe.findings.chart import Chart, Series, linear_axis, names_axis
from probe.findings.table import Table
from probe.results.files import read_csv

ROOT = Path(__file__).parents[1]
SHIFT = Option("--shift", "shift", "smallest: added to every value.", default=0.0, type=float)


def smallest(run: OpenRun) -> Chart:
    """The smallest delta of each condition."""
    rows = run.curve.groupby("condition")["delta"].min()
    values = rows.to_numpy(float)
    return Chart(
        "The smallest delta of a condition",
        names_axis([str(name) for name in rows.index]),
        linear_axis(values, "delta (nats per token)"),
        [Series("smallest", np.arange(len(values), dtype=float), values, points=True)],
        how="The lower, the less far text helps anywhere.",
        file="smallest",
    )


def plot(runs: Sequence[OpenRun], *, shift: float = 0.0) -> Drawn:
    """The chart, for `probe plot --kind smallest`."""
    (run,) = runs
    assert isinstance(shift, float)
    yield "", smallest(run)


def work(run: OpenRun, others: Sequence[OpenRun] = ()) -> Finding:
    """A finding with everything that a renderer may have to show."""
    rows = run.curve.groupby("condition", as_index=False)["delta"].min()
    cells = [[str(row["condition"]), f"{row['delta']:.3f}"] for _, row in rows.iterrows()]
    return Finding(
        "smallest",
        "The smallest delta",
        "Somewhere delta is smallest.",
        "Read off the curve.",
        tables=[Table("Smallest delta", ["condition", "delta"], cells, shown="both")],
        charts=[smallest(run)],
        caveats=["a minimum is biased downwards"],
        files={"smallest.csv": rows, "findings.json": {"smallest": len(rows)}},
    )


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The finding, for the length of a test."""
    entries()
    register("smallest", order=30, level="answer", plots=[Plot("smallest", plot, 1, [SHIFT])])(work)
    yield
    del base._ENTRIES["smallest"]


@pytest.fixture(name="folder")
def run_folder(tmp_path: Path) -> Path:
    curves = {"truncate": lambda d: 0.5 / (1 + d), "shuffle": lambda d: 0.7 / (1 + d)}
    simulation = Simulation(curves, windows=1, length=128, boundaries=(64,), reach=64)
    return write_run(tmp_path / "run", simulation)


@pytest.mark.slow
def test_it_is_reported(folder: Path) -> None:
    """On the terminal, on the page, as files and as a figure."""
    result = CliRunner().invoke(group, ["report", str(folder), "--class", "kind"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    at = lines.index("Somewhere delta is smallest.")
    assert lines[at + 1] == "Read off the curve."
    assert lines[at + 3 : at + 5] == ["Smallest delta", "condition  delta"]
    assert "- a minimum is biased downwards" in lines
    assert f"Figure: {folder / 'figures' / 'smallest.png'}" in lines
    assert (folder / "figures" / "smallest.svg").is_file()
    assert list(read_csv(folder / "smallest.csv")["condition"]) == ["noise", "shuffle", "truncate"]
    assert '"smallest": 3' in (folder / "findings.json").read_text("utf-8")
    page = (folder / "report.html").read_text("utf-8")
    ids = re.findall(r'<h2 id="(\w+)"', page)
    assert ids.index("answer") < ids.index("explorer") < ids.index("smallest")
    assert "The lower, the less far text helps anywhere." in page
    assert page.count("The smallest delta of a condition") == 2  # its title, and its name


@pytest.mark.slow
def test_it_is_plotted(folder: Path) -> None:
    """With an option of its own, which no other kind takes."""
    help_text = CliRunner().invoke(group, ["plot", "--help"]).output
    assert "smallest" in help_text
    assert "--shift" in help_text
    figures = folder / "figures"
    result = CliRunner().invoke(
        group, ["plot", str(folder), "--kind", "smallest", "--shift", "1.5"]
    )
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == f"Figure: {figures / 'smallest-1.5.png'}"
    result = CliRunner().invoke(group, ["plot", str(folder), "--shift", "1.5"])
    assert result.exit_code == 2
    assert "--shift belongs to --kind smallest; got --kind curve" in result.stderr


def test_no_renderer_and_no_command_names_a_finding() -> None:
    """Renderers take any; of the commands, those that are about one finding alone name it."""
    modules = {path.stem for path in (ROOT / "probe" / "findings").glob("*.py")}
    modules |= {path.name for path in (ROOT / "probe" / "findings").iterdir() if path.is_dir()}
    shared = {"__init__", "base", "chart", "table", "__pycache__"}
    about = {"keys": {"longppl", "key_tokens"}, "compare": {"compare"}, "_matrix": {"compare"}}
    about["plan"] = {"proxy"}  # how a budget is divided with one
    for room in ("render", "commands"):
        for path in (ROOT / "probe" / room).glob("*.py"):
            allowed = about.get(path.stem, set()) if room == "commands" else set()
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = set()
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
                elif isinstance(node, ast.Import):
                    names = {each.name for each in node.names}
                for name in names:
                    if name.startswith("probe.findings."):
                        module = name.split(".")[2]
                        assert module not in modules - shared - allowed, f"{path} imports {name}"
