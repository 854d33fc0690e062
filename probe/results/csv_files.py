"""Tables as CSV files in which no spreadsheet finds a formula, and reading them back."""

import csv
import re
from pathlib import Path
from typing import Any

import pandas as pd

from probe.results.files import write_text

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_GUARDED = re.compile(r"''*[=+\-@\t\r\n]")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table of a run folder as :func:`write_text` does; :func:`read_csv` reads it."""
    write_text(path, csv_text(table))


def csv_text(table: pd.DataFrame, *, digits: int | None = 8) -> str:
    """A table as CSV in which no spreadsheet finds a formula.

    Args:
        table: The table, without its index.
        digits: Digits of a float; ``None`` is as many as it has.

    Returns:
        The text. A cell or column name that begins as a formula does stands behind an apostrophe;
        numbers stay numbers.
    """
    table = table.rename(columns=_guarded)
    for name in table.select_dtypes(exclude="number").columns:
        table[name] = table[name].map(_guarded, na_action="ignore")
    form = None if digits is None else f"%.{digits}g"
    text = table.to_csv(index=False, float_format=form, lineterminator="\n")
    if "\r" in text:  # Python's writer leaves it bare, and every reader takes it for a line's end
        text = table.to_csv(
            index=False, float_format=form, lineterminator="\n", quoting=csv.QUOTE_ALL
        )
    return text


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table that was written as :func:`csv_text` writes it, without its apostrophes."""
    table = pd.read_csv(path).rename(columns=_unguarded)
    for name in table.select_dtypes(exclude="number").columns:
        table[name] = table[name].map(_unguarded, na_action="ignore")
    return table


def _guarded(value: Any) -> Any:
    """A text behind one more apostrophe where a spreadsheet, or our reader, would change it."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _unguarded(value: Any) -> Any:
    return value[1:] if isinstance(value, str) and _GUARDED.match(value) else value
