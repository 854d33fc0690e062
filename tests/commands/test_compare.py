"""`probe compare`: one table, the differences of two runs, mistakes in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from simulated import Simulation, write_run

from probe.analysis.open_run import open_run
from probe.commands.main import group
from probe.errors import ProbeError
from probe.findings.compare.finding import run_table
from probe.results.files import read_csv

CURVES = {"truncate": lambda distances: np.where(distances < 32, 0.3, 0.0)}
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
GOLDEN = Path(__file__).parents[1] / "golden" / "runs"
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


@pytest.mark.slow
def test_two_runs_are_compared(folders):
    """The table, then losses, octaves, lengths and notes; what a name hides is escaped."""
    found = probe(folders[0], folders[3], "--full")
    assert found.exit_code == 0, found.output
    text = found.stdout
    table = text.partition("\n\nB − A")[0]
    sentence, *blocks = table.split("\n\n")
    assert sentence.startswith("At distances of ")
    assert all(block.startswith("run ") for block in blocks)
    assert all(word in table for word in ("model", "dtype", "bits per byte", "1 %", "10 %"))
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


@pytest.mark.slow
def test_a_sentence_and_one_screen_come_first(folders):
    """What it comes to, both runs side by side, the octaves, what limits it; the rest in --full."""
    found = probe(folders[0], folders[3])
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert lines[0].startswith("At distances of 16–127 tokens under truncate, B − A is 0 nats per")
    assert "\nA: first, tiny-model on made-up\nB: evil\\x1b[31m\\u202ename, " in found.stdout
    assert "\nintact     3.238   3.238   0 (0 to 0)\n" in found.stdout
    assert lines[-1].endswith(": --full")
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    assert not {"\x1b", "\u202e"} & set(found.stdout)


@pytest.mark.slow
def test_many_runs_are_models_by_data(folders):
    """One table of cells, and once what the runs share; every table in full."""
    found = probe(*folders[:3])
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("3 runs: 1 model on 1 data set.\n\nEffective context (tokens) ")
    assert "\ntiny-model (window length 512) " in found.stdout
    assert "in other windows or targets, differences are by document" in found.stdout
    assert "- window length: 256 in first, second, 512 in third" in found.stdout
    full = probe(*folders[:3], "--full").stdout
    assert full.count("Effective context (tokens) at ") == 4
    assert "\nrun     model       revision" in full


@pytest.mark.slow
def test_a_run_alone_is_told(folders):
    """Its row of the table, and how its conditions differ."""
    found = probe(folders[0])
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("At the farthest distances: truncate − intact is ")
    assert "\nrun    model       revision" in found.stdout


@pytest.mark.slow
@pytest.mark.parametrize("form", ["md", "latex", "csv"])
def test_cells_are_printed_in_other_forms(folders, form):
    """The tables alone, for a paper or a program."""
    found = probe(*folders[:3], "--format", form, "--value", "delta@20")
    assert found.exit_code == 0, found.output
    caption = "Delta (nats per token) at 16–31 tokens under truncate, with its 95 % interval"
    start = {
        "md": f"{caption}\n\n| model",
        "latex": f"% {caption}\n\\begin{{tabular}}{{lr}}",
        "csv": "run,row,model,data,condition,at,kind,value,low,high,reach,text\nfirst,",
    }
    assert found.stdout.startswith(start[form])
    assert found.stderr == ""


@pytest.mark.slow
def test_what_a_program_reads_stands_alone(folders, tmp_path):
    """Where files are written too, standard error tells it."""
    table, figure = tmp_path / "runs.csv", tmp_path / "curves.svg"
    for form in (["--json"], ["--format", "json"], ["--format", "csv"]):
        found = probe(*folders[:2], *form, "--csv", table, "--figure", figure)
        assert found.exit_code == 0, found.output
        assert found.stdout == probe(*folders[:2], *form).stdout
        assert str(table) in found.stderr
        assert str(figure) in found.stderr


@pytest.mark.slow
def test_json_is_what_its_schema_says(folders, tmp_path):
    """Of one run, of two with their difference, of many; everything of a name is escaped."""
    schema = json.loads((SCHEMAS / "compare.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema)
    names = [("attend", "attend-near"), ("sweep-pairs", "few"), ("suffix", "suffix")]
    pairs = [[GOLDEN / name for name in pair] for pair in names]
    for runs in ([folders[0]], folders[::3], folders[:3], *pairs):
        found = probe(*runs, "--json")
        assert found.exit_code == 0, found.output
        assert found.stdout.isascii()
        content = json.loads(found.stdout)
        check.validate(content)
        assert len(content["runs"]) == len(runs)
        assert (content["difference"] is None) == (len(runs) != 2)
    more = ("--csv", tmp_path / "runs.csv", "--figure", tmp_path / "all.svg")
    said = json.loads(probe(*folders[:2], "--json", "--value", "delta@9", *more).stdout)
    check.validate(said)
    assert said["value"] == "delta@9"
    assert {cell["kind"] for cell in said["cells"]} == {"delta"}
    assert " ".join(probe(*folders[:2]).stdout.split()).startswith(said["difference"]["sentence"])
    wrong = {**said, "cells": [{**said["cells"][0], "kind": "guess"}]}
    assert not check.is_valid(wrong)
    assert not check.is_valid({**said, "difference": {}})


@pytest.mark.slow
def test_a_late_error_names_its_run(folders, tmp_path):
    """Of two open runs the one whose file is damaged, not the one that was opened last."""
    a, b = (shutil.copytree(folders[0], tmp_path / name) for name in "ab")
    with open_run(a, write=False) as first, open_run(b, write=False) as second:
        for part in (a / "scores").iterdir():
            part.write_bytes(b"no parquet")
        with pytest.raises(ProbeError, match=f"the scores of '{a}' cannot be read"):
            run_table([first, second])


@pytest.mark.slow
def test_many_runs_are_one_table_and_one_overlay(folders, tmp_path):
    """No differences; the table of runs as CSV, the curves in the format that was asked for."""
    found = probe(*folders[:3], "--csv", tmp_path / "runs.csv", "--figure", tmp_path / "all.png")
    assert found.exit_code == 0, found.output
    assert "B − A" not in found.stdout
    table = read_csv(tmp_path / "runs.csv")
    assert table["run"].tolist() == ["first", "second", "third"]
    assert table["1% length"].tolist() == [32, 32, 32]
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "all.svg").exists()


@pytest.mark.slow
def test_run_folders_are_only_read(folders, tmp_path):
    """A folder of somebody else's results is left as it is."""
    folder = shutil.copytree(folders[0], tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
    assert probe(folder).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))} == before


@pytest.mark.slow
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


@pytest.mark.slow
def test_other_settings_are_said(folders, tmp_path):
    """Rows are read each with its own, differences with those of A; both are told."""
    other = shutil.copytree(folders[1], tmp_path / "other")
    record = json.loads((other / "run.json").read_text("utf-8"))
    record["config"]["analysis"] |= {"tolerances": ["5%"], "confidence": 0.9}
    (other / "run.json").write_text(json.dumps(record), encoding="utf-8")
    text = " ".join(probe(folders[0], other, "--full").stdout.split())
    table, differences = text.split("B − A, ", 1)
    assert "- confidence: 0.95 in first, 0.9 in second; each row of the table is read" in table
    assert "- tolerances: 1% 2% 5% 10% in first, 5% in second; each row" in table
    assert "(95 % intervals over documents)" in differences
    said = "- both are read with the analysis settings of A: tolerances 1% 2% 5% 10% (in B 5%), "
    assert said in differences
    assert "confidence 0.95 (in B 0.9)" in differences
    assert "settings" not in probe(*folders[:2]).stdout
    assert "each row" not in probe(*folders[:2]).stdout


@pytest.mark.slow
def test_runs_of_one_name_are_told_apart(folders, tmp_path):
    """By as much of their folders as differs, in the table and in the comparison."""
    places = [shutil.copytree(folders[0], tmp_path / name / "first") for name in "xy"]
    text = probe(*places, "--full").stdout
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
        (["{a}", "--value", "loss"], 2, "--value 'loss'; allowed: length, delta@512"),
        (["{a}", "--json", "--format", "md"], 2, "--json is --format json; got --format md"),
        (["{a}", "--json", "--full"], 2, "--full: JSON holds everything"),
        (["{a}", "--json", "--condition", "truncate"], 2, "--condition: JSON holds everything"),
        (["{a}", "--format", "json", "--tolerance", ""], 2, "--tolerance: JSON holds everything"),
        (["{a}", "--value", "\x1b"], 2, "--value '\\x1b'; allowed: length"),
        (["{a}", "--condition", "x"], 2, "condition 'x' was not found; allowed: truncate"),
        (["{a}", "--tolerance", "3%"], 2, "tolerance '3%' was not found; allowed: 1%"),
        (["{a}", "--tolerance", "1%", "--value", "delta@8"], 2, "belongs to --value length"),
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
