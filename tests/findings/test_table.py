"""Tables as plain data."""

import json

import numpy as np
import pandas as pd

from probe.findings.table import pivot, records


def test_lines_with_equal_texts_can_be_told_apart():
    """A class ``a: b`` with the value ``c``, and a class ``a`` with the value ``b: c``."""
    rows = [
        {"class": "a: b", "value": "c", "at": "1%", "text": "1"},
        {"class": "a", "value": "b: c", "at": "1%", "text": "2"},
        {"class": "a", "value": "b: c", "at": "2%", "text": "3"},
    ]

    def made(**how):
        head = {"class": lambda row: f"{row['class']}: {row['value']}"}
        table = pivot("", rows, ["1%", "2%"], by="at", cell=lambda r: r["text"], head=head, **how)
        return [list(row) for row in table.rows]

    assert made(line=["class", "value"]) == [["a: b: c", "1", "–"], ["a: b: c", "2", "3"]]
    assert made() == [["a: b: c", "2", "3"]], "by their texts alone they are one line"


def test_rows_are_plain_values_whatever_the_columns_hold():
    """Those of Python, so that JSON takes them; what is missing is none."""
    columns = {
        "whole": np.array([1, 2], dtype=np.int32),
        "share": np.array([0.5, np.nan], dtype=np.float32),
        "word": ["a", None],
        "kind": pd.Categorical(["u", None]),
        "nullable": pd.array([3, None], dtype="Int64"),
        "boxed": pd.Series([np.int64(4), np.bool_(True)], dtype=object),
        "sure": [True, False],
    }
    first, second = records(pd.DataFrame(columns))
    assert first == dict(zip(columns, (1, 0.5, "a", "u", 3, 4, True), strict=True))
    assert second == dict(zip(columns, (2, None, None, None, None, True, False), strict=True))
    assert json.loads(json.dumps([first, second])) == [first, second]
    assert records(pd.DataFrame(columns).iloc[:0]) == []
