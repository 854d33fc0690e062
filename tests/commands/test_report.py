"""`probe report --output`: where the page goes, of one run and of several."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from simulated import Simulation, write_run

from probe.commands.main import group

CURVES = {"truncate": lambda d: 0.5 / (1 + d)}


@pytest.fixture(name="runs")
def two_runs(tmp_path: Path) -> tuple[Path, Path]:
    small = {
        "documents": 6,
        "windows": 1,
        "length": 64,
        "boundaries": (32,),
        "reach": 32,
    }
    first, second = (
        write_run(tmp_path / "results" / name, Simulation(CURVES, seed=seed, name=name, **small))
        for seed, name in enumerate(("a", "b"))
    )
    return first, second


def report(*arguments: object) -> Result:
    """A report with one class, for what is asked is only where it goes."""
    return CliRunner().invoke(group, ["report", *map(str, arguments), "--class", "kind"])


def pages(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))


def test_one_run(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """Its own folder, or a folder or a file of the user's."""
    one, _ = runs
    for number, (options, page) in enumerate(
        [
            ((), one / "report.html"),
            (("--output", tmp_path / "paper"), tmp_path / "paper" / "report.html"),
            (("--output", tmp_path / "x" / "my.html"), tmp_path / "x" / "my.html"),
        ]
    ):
        result = report(one, *options)
        assert result.exit_code == 0, result.output
        assert f"Page: {page}\n" in result.output
        assert len(pages(tmp_path)) == number + 1


def test_several_runs(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """A page of their own beside that of each; the curves stand where the page stands."""
    results = runs[0].parent
    result = report(*runs)
    assert result.exit_code == 0, result.output
    assert pages(results) == ["a/report.html", "a/reports.html", "b/report.html"]
    own = (runs[0] / "report.html").read_bytes()
    for output, page in (
        (tmp_path / "both.html", tmp_path / "both.html"),
        (tmp_path / "paper", tmp_path / "paper" / "report.html"),
        (runs[1], runs[1] / "reports.html"),
    ):
        result = report(*runs, "--output", output)
        assert result.exit_code == 0, result.output
        assert f"All runs: {page}\n" in result.output
        assert f"All runs: {page.parent / 'curves.png'}\n" in result.output
        assert "The runs" in page.read_text("utf-8")
    beside = sorted(file.name for file in (tmp_path / "paper").iterdir())
    assert beside == ["curves.png", "curves.svg", "report.html"]
    assert (runs[0] / "report.html").read_bytes() == own


def test_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """The page of one of the runs, and a file that is no page; nothing is written."""
    other = tmp_path / "notes.txt"
    other.write_text("mine", encoding="utf-8")
    for output, said in (
        (runs[1] / "report.html", "is the page of one of the runs; allowed: another file"),
        (other, "allowed: a folder, or a file that ends in .html"),
    ):
        result = report(*runs, "--output", output)
        assert result.exit_code == 2
        assert "Traceback" not in result.output
        assert said in result.output
    assert pages(tmp_path) == []
    assert other.read_text("utf-8") == "mine"
