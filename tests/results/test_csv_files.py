"""CSV files: no spreadsheet finds a formula in a user's text, and our reader gives it back."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.results.csv_files import csv_text, read_csv, write_csv

ROOT = Path(__file__).parents[2]
SIGNS = ("=", "+", "-", "@", "\t", "\r")
FORMULAS = ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "=", "'=1", "''-1"]


@given(st.lists(st.text("=+-@'\t\r\n, \"ax1"), min_size=1, max_size=5))
def test_no_cell_begins_as_a_formula(texts: list[str]) -> None:
    """Read by Python's own reader, each text stands behind an apostrophe or as it is."""
    table = pd.DataFrame({"=name": texts, "delta": [-0.5] * len(texts)})
    head, *rows = csv.reader(io.StringIO(csv_text(table), newline=""))
    assert head == ["'=name", "delta"]
    for (cell, number), text in zip(rows, texts, strict=True):
        assert not cell.startswith(SIGNS)
        assert cell in (text, f"'{text}")
        assert number == "-0.5"


@pytest.mark.parametrize("kind", ["object", "str", "category"])
def test_what_is_written_is_read(kind: str, tmp_path: Path) -> None:
    """Texts, numbers and what is missing come back as they were, also what has apostrophes."""
    texts = [*FORMULAS, "plain", "it's", "'quoted'", "a=b", "− 3", None]
    table = pd.DataFrame(
        {
            "=text": pd.Series(texts, dtype=kind),
            "delta": [-1.25 * number for number in range(len(texts))],
            "length": pd.Series([-3, *range(len(texts) - 1)], dtype="Int64"),
        }
    )
    before = table.copy()
    write_csv(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(table, before)
    found = read_csv(tmp_path / "a.csv")
    assert [*found["=text"]][:-1] == texts[:-1]
    assert pd.isna(found["=text"].iloc[-1])
    assert [*found["delta"]] == [*table["delta"]]
    assert [*found["length"]] == [*table["length"]]


def test_a_table_without_formulas_is_as_pandas_writes_it() -> None:
    """Nothing else about a file is ours."""
    table = pd.DataFrame(
        {
            "condition": pd.Categorical(["truncate", "replace(source='document')"]),
            "delta": [0.123456789, -1e-9],
            "grey": [True, False],
            "short": ["> 640", "–"],
        }
    )
    plain = table.to_csv(index=False, float_format="%.8g", lineterminator="\n")
    assert csv_text(table) == plain
    assert "0.123456789" in csv_text(table, digits=None)


def test_every_file_is_written_there() -> None:
    """No other module writes or reads CSV by itself."""
    files = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("probe/**/*.py")
        if {"to_csv", "read_csv"} & set(path.read_text("utf-8").replace("(", ".").split("."))
    }
    assert files == {"probe/results/csv_files.py"}
