"""`probe report`: answers, where the page goes, and a folder that cannot be written."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import (  # noqa: F401 (a fixture among them)
    FIGURES,
    PNG,
    Finished,
    finished_run,
    good,
    mistake,
    probe,
    write,
)
from simulated import Simulation, write_run
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    text_folder,
)

from probe.analysis.open_run import open_run
from probe.errors import UnwrittenWarning
from probe.findings.base import findings, write_files

CURVES = {"truncate": lambda distance: 0.5 / (1 + distance)}
SMALL = {"documents": 6, "windows": 1, "length": 64, "boundaries": (32,), "reach": 32}
FILES = ("curve.csv", "summary.json", "classes.csv", "findings.json", "classes.parquet")


@pytest.fixture(name="runs")
def two_runs(tmp_path: Path) -> tuple[Path, Path]:
    first, second = (
        write_run(tmp_path / "results" / name, Simulation(CURVES, seed=seed, name=name, **SMALL))
        for seed, name in enumerate(("a", "b"))
    )
    return first, second


def report(*arguments: object) -> Result:
    """A report with one class, the fewest that there can be."""
    return probe("report", *arguments, "--class", "kind")


def pages(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_report_of_two(finished: Finished, base: dict[str, Any], tmp_path: Path) -> None:
    """Several runs are told one after another, and drawn over one another."""
    config = write(tmp_path / "other.yaml", base, name="other", conditions=["truncate"])
    other = tmp_path / "results" / "other"
    answer = good(probe("run", config, "--results", other.parent))
    run = finished.copy(tmp_path / "copies")
    own = finished.result.stdout.replace(str(finished.results), str(run.results))
    text = good(probe("report", run.folder, other))
    overlay = run.folder / "figures" / "curves.png"
    assert text.startswith(f"{own}\nContrasts (nats per token) by distance (tokens)\n")
    assert f"\n\n{answer}\nContrasts" in text
    assert text.count("Targets that far context helped and hurt (by more than 1e−5 nats)\n") == 2
    assert text.count("Page: ") == 2
    assert f"\nAll runs: {overlay}\nAll runs: {run.folder / 'reports.html'}\n" in text
    assert overlay.read_bytes().startswith(PNG)
    lone = (run.folder / FIGURES[0]).read_bytes()
    assert overlay.read_bytes() not in (lone, (other / FIGURES[0]).read_bytes())


def test_report_on_no_run(tmp_path: Path) -> None:
    """A folder that is no run, or is not there, is named: status 2."""
    none = tmp_path / "none"
    assert mistake(probe("report", none), 2) == f"no run folder at '{none}'"
    assert mistake(probe("report", tmp_path), 2).startswith(f"'{tmp_path}' is no run folder")
    assert not list(tmp_path.iterdir())


# -- a folder that cannot be written --------------------------------------------------------------


@pytest.fixture(name="blocked")
def blocked_run(tmp_path: Path) -> Path:
    """A run with something in the way of every file: root may write where others may not."""
    folder = write_run(tmp_path / "a", Simulation(CURVES, name="a", **SMALL))
    for name in (*FILES, "report.html", "figures/curve.png", "figures/curve.svg"):
        (folder / name).mkdir(parents=True)
    return folder


def notes(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("note: ")]


@pytest.mark.slow
def test_the_page_elsewhere(blocked: Path, tmp_path: Path) -> None:
    """The answer is printed, each file that is missing told once, the page there: success."""
    page = tmp_path / "out" / "page.html"
    result = report(blocked, "--output", page)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("tiny-model on made-up: ")
    assert f"Page: {page}\n" in result.stdout
    assert "Numbers:" not in result.stdout
    assert "Figure:" not in result.stdout
    assert page.is_file()
    told = notes(result)
    assert len(told) == len(set(told)) == len(FILES) + 1
    for name in (*FILES, "figures/curve.png"):
        assert f"note: cannot write {blocked / name}: Is a directory" in told
    assert result.stderr.splitlines() == told


@pytest.mark.slow
def test_the_page_there(blocked: Path) -> None:
    """The page that was asked for cannot be written: answer and notes first, then status 1."""
    result = report(blocked)
    assert result.exit_code == 1
    assert result.stdout.startswith("tiny-model on made-up: ")
    assert len(notes(result)) == len(FILES) + 1
    assert result.stderr.splitlines()[-1] == (
        f"Error: cannot write {blocked / 'report.html'}: Is a directory"
    )


@pytest.mark.slow
def test_one_of_several_runs(blocked: Path, tmp_path: Path) -> None:
    """A run's own page is a note; the page of all is what was asked for."""
    other = write_run(tmp_path / "b", Simulation(CURVES, name="b", seed=1, **SMALL))
    page = tmp_path / "out.html"
    result = report(blocked, other, "--output", page)
    assert result.exit_code == 0, result.output
    assert f"note: cannot write {blocked / 'report.html'}: Is a directory" in notes(result)
    assert (page.is_file(), (other / "report.html").is_file()) == (True, True)
    assert f"Numbers: {other / 'summary.json'}, {other / 'curve.csv'}\n" in result.stdout


@pytest.mark.slow
def test_a_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission is told as it is, for figures too; nothing half-written is left."""
    folder = write_run(tmp_path / "a", Simulation(CURVES, name="a", **SMALL))
    before = sorted(folder.rglob("*"))
    write, make = Path.write_text, Path.mkdir

    def refuse_text(path: Path, *content: str, **how: str) -> int:
        if folder in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return write(path, *content, **how)

    def refuse_folder(path: Path, *how: int, **more: bool) -> None:
        if folder in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        make(path, *how, **more)

    monkeypatch.setattr(Path, "write_text", refuse_text)
    monkeypatch.setattr(Path, "mkdir", refuse_folder)
    result = report(folder, "--output", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    for name in ("curve.csv", "summary.json", "classes.csv", "findings.json"):
        assert f"note: cannot write {folder / name}: Permission denied" in notes(result)
    assert any(f"cannot write {folder / 'figures'}" in line for line in notes(result))
    assert sorted(folder.rglob("*")) == sorted([*before, folder / "classes.parquet"])


@pytest.mark.slow
def test_from_python(blocked: Path) -> None:
    """A notebook has its findings, and a warning for each file."""
    with (
        pytest.warns(UnwrittenWarning, match="cannot write .*: Is a directory") as warned,
        open_run(blocked) as run,
    ):
        assert write_files(run, findings(run, brief=True)) == []
    assert (len(run.documents), len(warned)) == (6, 2)
