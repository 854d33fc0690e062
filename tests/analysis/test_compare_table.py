"""Runs as rows of one table."""

import math

import pytest
from compare_runs import change_record, random_text, rows_of, step
from simulated import Simulation, write_run

from probe.analysis.compare import run_table
from probe.analysis.compare.table import shown
from probe.analysis.summary import summarise


def made(folder, **changes):
    known = {
        "curves": {"truncate": step(32), "shuffle": step(16)},
        "windows": 1,
        "length": 256,
        "boundaries": (128,),
        "reach": 128,
    }
    return write_run(folder, Simulation(**(known | changes)))


def test_a_row_says_what_the_run_is_and_reads(tmp_path):
    """Names, counts, losses against plain sums, answers as the summary has them."""
    a = random_text(made(tmp_path / "a", name="one", model="m1", data="d1"))
    change_record(a, model={"revision": "0123456789abcdef" * 2})
    b = change_record(made(tmp_path / "b", name="two", text=False), model={"revision": "main"})
    table = run_table([a, b])
    assert table["run"].tolist() == ["one", "two"]
    assert table["revision"].tolist() == ["01234567", "main"]
    first = table.iloc[0]
    assert first[["model", "data", "dtype", "condition"]].tolist() == [
        *("m1", "d1", "float32", "truncate")
    ]
    assert first[["documents", "windows", "targets"]].tolist() == [8, 8, 8 * 128]
    rows = rows_of(a).query("condition == 'intact'")
    assert first["loss"] == pytest.approx(rows.nll.mean())
    assert first["perplexity"] == pytest.approx(math.exp(rows.nll.mean()))
    expected = rows.nll.sum() / math.log(2) / rows.bytes.sum()
    assert first["bits_per_byte"] == pytest.approx(expected)
    assert math.isnan(table["bits_per_byte"].iloc[1])
    context = summarise(a, write=False).context("truncate", "1%")
    assert first["1%"] == context.text()
    assert first[["1% length", "1% low", "1% high"]].tolist() == [
        *(context.estimate, context.lower, context.upper)
    ]


def test_what_is_open_or_unknown_is_missing(tmp_path):
    """Neither a run that stays above the tolerance nor one of few documents has a length."""
    far = made(tmp_path / "a", curves={"truncate": step(999)})
    few = made(tmp_path / "b", documents=3)
    table = run_table([far, few])
    assert table["1% length"].isna().all()
    assert table["1% high"].isna().all()
    assert table["1%"].tolist() == ["> 128", "unresolved"]


def test_runs_of_one_name_are_told_by_their_folders(tmp_path):
    """A table whose rows cannot be told apart says nothing."""
    folders = [made(tmp_path / name) for name in "ab"]
    assert run_table(folders)["run"].tolist() == ["simulated (a)", "simulated (b)"]


def test_without_truncate_the_most_common_condition_stands_in(tmp_path):
    """One condition for the whole table; a run that lacks it has a dash."""
    a = made(tmp_path / "a", curves={"replace": step(8), "shuffle": step(16)})
    b = made(tmp_path / "b", curves={"shuffle": step(16)}, name="other")
    table = run_table([a, b])
    assert set(table["condition"]) == {"shuffle"}
    only = run_table([made(tmp_path / "c", curves={})])
    assert only[["condition", "1%"]].iloc[0].tolist() == ["truncate", "–"]


def test_the_printed_table_is_words(tmp_path):
    """No limits of their own, rounded numbers, a dash for what is missing."""
    found = shown(run_table([made(tmp_path / "a", text=False)]))
    assert found["bits per byte"].tolist() == ["–"]
    assert found["targets"].tolist() == ["1,024"]
    assert "1% low" not in found.columns
    assert {"1%", "2%", "5%", "10%"} <= set(found.columns)
