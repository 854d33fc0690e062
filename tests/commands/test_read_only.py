"""`probe report` of a folder that cannot be written: the answer, and a note for each file."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from simulated import Simulation, write_run

from probe.analysis.summary import summarise
from probe.commands.main import group
from probe.errors import UnwrittenWarning

CURVES = {"truncate": lambda distance: 0.5 / (1 + distance)}
SMALL = {"documents": 6, "windows": 1, "length": 64, "boundaries": (32,), "reach": 32}
FILES = ("curve.csv", "summary.json", "classes.csv", "findings.json", "classes.parquet")


@pytest.fixture(name="blocked")
def blocked_run(tmp_path: Path) -> Path:
    """A run with something in the way of every file: root may write where others may not."""
    folder = write_run(tmp_path / "a", Simulation(CURVES, name="a", **SMALL))
    for name in (*FILES, "report.html", "figures/curve.png", "figures/curve.svg"):
        (folder / name).mkdir(parents=True)
    return folder


def report(*arguments: object) -> Result:
    return CliRunner().invoke(group, ["report", *map(str, arguments), "--class", "kind"])


def notes(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("note: ")]


def test_the_page_elsewhere(blocked: Path, tmp_path: Path) -> None:
    """The answer is printed, each file that is missing told once, the page there: success."""
    page = tmp_path / "out" / "page.html"
    result = report(blocked, "--output", page)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("tiny-model on made-up uses")
    assert f"Page: {page}\n" in result.stdout
    assert "Numbers:" not in result.stdout
    assert "Figure:" not in result.stdout
    assert page.is_file()
    told = notes(result)
    assert len(told) == len(set(told)) == len(FILES) + 1
    for name in (*FILES, "figures/curve.png"):
        assert f"note: cannot write {blocked / name}: Is a directory" in told
    assert result.stderr.splitlines() == told


def test_the_page_there(blocked: Path) -> None:
    """The page that was asked for cannot be written: answer and notes first, then status 1."""
    result = report(blocked)
    assert result.exit_code == 1
    assert result.stdout.startswith("tiny-model on made-up uses")
    assert len(notes(result)) == len(FILES) + 1
    assert result.stderr.splitlines()[-1] == (
        f"Error: cannot write {blocked / 'report.html'}: Is a directory"
    )


def test_several_runs(blocked: Path, tmp_path: Path) -> None:
    """A run's own page is a note; the page of all is what was asked for."""
    other = write_run(tmp_path / "b", Simulation(CURVES, name="b", seed=1, **SMALL))
    page = tmp_path / "out.html"
    result = report(blocked, other, "--output", page)
    assert result.exit_code == 0, result.output
    assert f"note: cannot write {blocked / 'report.html'}: Is a directory" in notes(result)
    assert (page.is_file(), (other / "report.html").is_file()) == (True, True)
    assert f"Numbers: {other / 'summary.json'}, {other / 'curve.csv'}\n" in result.stdout


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


def test_from_python(blocked: Path) -> None:
    """A notebook has its summary, and a warning for each file."""
    with pytest.warns(UnwrittenWarning, match="cannot write .*: Is a directory") as told:
        found = summarise(blocked)
    assert (found.documents, len(told)) == (6, 2)
