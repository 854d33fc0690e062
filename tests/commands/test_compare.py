"""`probe compare`: one table, the differences of two runs, mistakes in one line."""

import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from simulated import Simulation, write_run

from probe.commands.main import group

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
    assert "Delta, B − A (nats a token)\ndistance (tokens)  truncate\n0–7 " in text
    assert "Delta, B − A (bits per byte)\ndistance (bytes)" in text
    assert "Effective context, B − A (tokens)" in text
    assert "truncate\n  tolerance " in text
    assert "- paired: the same 8 windows of 8 documents" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "evil\\x1b[31m\\u202ename" in text


def test_many_runs_are_one_table_and_one_overlay(folders, tmp_path):
    """Three rows, no differences; the table as CSV, the curves as PNG and SVG."""
    found = probe(*folders[:3], "--csv", tmp_path / "runs.csv", "--figure", tmp_path / "all.png")
    assert found.exit_code == 0, found.output
    assert "B − A" not in found.stdout
    table = pd.read_csv(tmp_path / "runs.csv")
    assert table["run"].tolist() == ["first", "second", "third"]
    assert table["1% length"].tolist() == [32, 32, 32]
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "all.svg").is_file()


def test_run_folders_are_only_read(folders, tmp_path):
    """A folder of somebody else's results is left as it is."""
    folder = shutil.copytree(folders[0], tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
    assert probe(folder).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))} == before


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["{a}", "nowhere"], 1, "no run folder at 'nowhere'"),
        ([], 2, "Missing argument"),
        (["{a}", "--csv", "nowhere/x.csv"], 1, "nowhere/x.csv: No such file"),
    ],
)
def test_mistakes_are_told_in_a_line(folders, arguments, status, words):
    """What is wrong, the value, no traceback."""
    found = probe(*(argument.format(a=folders[0]) for argument in arguments))
    assert found.exit_code == status, found.output
    assert words in found.stderr
    assert "Traceback" not in found.output
