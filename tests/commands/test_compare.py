"""`probe compare`: one table, the differences of two runs, mistakes in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from simulated import Simulation, write_run

from probe.commands.main import group
from probe.results.files import read_csv

CURVES = {"truncate": lambda distances: np.where(distances < 32, 0.3, 0.0)}
HOSTILE = "evil\x1b[31m\u202ename"


def probe(*arguments):
    return CliRunner().invoke(group, ["compare", *map(str, arguments)])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three runs, the third with other windows, and one that is named to do harm."""
    root = tmp_path_factory.mktemp("runs")
    names = ("first", "second", "third", HOSTILE)
    return [
        write_run(
            root / str(number),
            Simulation(
                CURVES,
                windows=1,
                length=512 if name == "third" else 256,
                boundaries=(128,),
                reach=128,
                name=name,
            ),
        )
        for number, name in enumerate(names)
    ]


def test_two_runs_are_compared(folders):
    """The table, then losses, octaves, lengths and notes; what a name hides is escaped."""
    found = probe(folders[0], folders[3])
    assert found.exit_code == 0, found.output
    text = found.stdout
    table = text.partition("\n\nB − A")[0]
    assert all(block.startswith("run ") for block in table.split("\n\n"))
    assert all(word in table for word in ("model", "dtype", "bits per byte", "1%", "10%"))
    assert max(len(line) for line in text.splitlines() if "evil" not in line) <= 100
    assert "B − A, paired (95 % intervals over documents)\nA: first\n" in text
    assert "nats per token  3.2379  3.2379  0 (0 to 0)" in text
    assert "Delta, B − A (nats per token)\ndistance (tokens)  truncate\n0–7 " in text
    assert "Delta, B − A (bits per byte)\ndistance (bytes)" in text
    assert "Effective context, B − A (tokens)" in text
    assert "truncate\n  tolerance " in text
    assert "- paired: the same 8 windows of 8 documents" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "evil\\x1b[31m\\u202ename" in text


def test_many_runs_are_one_table_and_one_overlay(folders, tmp_path):
    """Three rows, no differences; the table as CSV, the curves in the format that was asked for."""
    found = probe(*folders[:3], "--csv", tmp_path / "runs.csv", "--figure", tmp_path / "all.png")
    assert found.exit_code == 0, found.output
    assert "B − A" not in found.stdout
    table = read_csv(tmp_path / "runs.csv")
    assert table["run"].tolist() == ["first", "second", "third"]
    assert table["1% length"].tolist() == [32, 32, 32]
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "all.svg").exists()


def test_run_folders_are_only_read(folders, tmp_path):
    """A folder of somebody else's results is left as it is."""
    folder = shutil.copytree(folders[0], tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
    assert probe(folder).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))} == before


def test_files_go_where_they_are_sent(folders, tmp_path):
    """Folders are made, a link stays a link, a device is written."""
    link, figure = tmp_path / "link.csv", tmp_path / "a" / "b" / "all.PDF"
    link.symlink_to(tmp_path / "held.csv")
    found = probe(*folders[:2], "--csv", link, "--figure", figure)
    assert found.exit_code == 0, found.output
    assert link.is_symlink()
    assert (tmp_path / "held.csv").read_text("utf-8").startswith("run,model,")
    (drawn,) = figure.parent.iterdir()
    assert drawn.read_bytes().startswith(b"%PDF")
    assert f"All runs: {drawn}\n" in found.stdout
    assert probe(*folders[:2], "--csv", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()


def test_other_settings_are_said(folders, tmp_path):
    """Rows are read each with its own, differences with those of A; both are told."""
    other = shutil.copytree(folders[1], tmp_path / "other")
    record = json.loads((other / "run.json").read_text("utf-8"))
    record["config"]["analysis"] |= {"tolerances": ["5%"], "confidence": 0.9}
    (other / "run.json").write_text(json.dumps(record), encoding="utf-8")
    text = " ".join(probe(folders[0], other).stdout.split())
    table, differences = text.split("B − A", 1)
    assert "- confidence: 0.95 in first, 0.9 in second; each row of the table is read" in table
    assert "- tolerances: 1% 2% 5% 10% in first, 5% in second; each row" in table
    assert "(95 % intervals over documents)" in differences
    said = "- both are read with the analysis settings of A: tolerances 1% 2% 5% 10% (in B 5%), "
    assert said in differences
    assert "confidence 0.95 (in B 0.9)" in differences
    assert "settings" not in probe(*folders[:2]).stdout
    assert "each row" not in probe(*folders[:2]).stdout


def test_runs_of_one_name_are_told_apart(folders, tmp_path):
    """By as much of their folders as differs, in the table and in the comparison."""
    places = [shutil.copytree(folders[0], tmp_path / name / "first") for name in "xy"]
    text = probe(*places).stdout
    assert "\nx/first  tiny-model" in text
    assert "\nA: x/first\nB: y/first\n" in text


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["{a}", "nowhere"], 2, "no run folder at 'nowhere'"),
        ([], 2, "Missing argument"),
        (["{a}", "--csv", "{a}"], 2, "is a folder; allowed: a file"),
        (["{a}", "--csv", ""], 2, "--csv '' is no name; allowed: a file"),
        (["{a}", "--csv", "{a}/run.json/x.csv"], 1, "run.json/x.csv: "),
        pytest.param(
            ["{a}", "--csv", "/dev/full"],
            1,
            "Error: /dev/full: No space left on device\n",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device"),
        ),
        (["{a}", "--figure", "x.tiff"], 2, "allowed: a file that ends in .png, .svg or .pdf"),
        (["{a}", "--figure", "x"], 2, "--figure 'x': allowed: a file that ends in .png"),
    ],
)
def test_mistakes_are_told_in_a_line(folders, arguments, status, words):
    """What is wrong, the value, no traceback."""
    found = probe(*(argument.format(a=folders[0]) for argument in arguments))
    assert found.exit_code == status, found.output
    assert words in found.stderr
    assert found.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in found.output
