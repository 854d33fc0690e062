"""The files that keep what was found: ``curve.csv``, ``summary.json``, and every other CSV file."""

import contextlib
import csv
import json
import math
import os
import re
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from probe.analysis.floor import NoiseFloor
from probe.errors import UnwrittenWarning

if TYPE_CHECKING:
    from probe.analysis.summary import Summary

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_GUARDED = re.compile(r"''*[=+\-@\t\r\n]")


def write_summary(summary: "Summary") -> None:
    """Write ``curve.csv`` and ``summary.json`` into the run folder, each whole or not at all."""
    write_csv(summary.run.path / "curve.csv", summary.curve)
    text = json.dumps(to_record(summary), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(summary.run.path / "summary.json", text + "\n")


def to_record(summary: "Summary") -> dict[str, Any]:
    """The content of ``summary.json``: plain values, numbers to eight digits, no NaN.

    Returns:
        A dictionary that :mod:`json` can write; missing numbers are ``None``.
    """
    octaves = summary.contrasts[summary.contrasts["scale"] == "octave"]
    record = {
        "run": summary.run.name,
        "status": summary.run.record.get("status"),
        "model": summary.model,
        "data": summary.data,
        "documents": summary.documents,
        "windows": summary.windows,
        "targets": summary.targets,
        "reach": summary.reach,
        "far": {"shortest": summary.far[0], "longest": summary.far[1]},
        "analysis": {
            **asdict(summary.analysis),
            "tolerances": [tolerance.text for tolerance in summary.analysis.tolerances],
        },
        "effective_context": [
            {**asdict(context), "text": context.text()} for context in summary.contexts
        ],
        "noise_floor": None if summary.floor is None else _floor(summary.floor),
        "losses": {
            "by_condition": records(summary.losses.by_condition),
            "by_position": records(summary.losses.by_position),
            "by_quarter": records(summary.losses.by_quarter),
            "worsening": summary.losses.worsening,
        },
        "contrasts": records(octaves.drop(columns="scale")),
        "reading": records(summary.reading),
        "tails": records(summary.tails),
        "document_lengths": records(summary.lengths),
        "documents_spread": records(summary.spread),
        "without_group": records(summary.without_group),
        "flags": summary.flags,
        "warnings": summary.warnings,
    }
    found: dict[str, Any] = plain(record)
    return found


def _floor(floor: NoiseFloor) -> dict[str, Any]:
    octaves = pd.DataFrame(
        {
            "distance_from": floor.lower,
            "distance_to": floor.upper,
            "limit": floor.limit,
            "targets": floor.targets,
        }
    )
    return {"condition": floor.condition, "octaves": records(octaves)}


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as dictionaries, missing values as ``None``."""
    values = frame.astype(object).where(frame.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in values.to_dict("records")]


def plain(value: Any) -> Any:
    """The value in JSON's own types: what is not finite is ``None``, floats have eight digits."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value


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


def write_text(path: Path, text: str) -> None:
    """Write a file of a run folder by way of a temporary name, so that nobody meets half of it.

    The folder may be somebody else's, read-only, or on a full disk: that costs the file alone, and
    is a :class:`probe.errors.UnwrittenWarning`.

    Args:
        path: The file.
        text: What it shall hold; a lone surrogate, of a folder's name, is escaped.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        temporary.replace(path)
    except OSError as error:
        warn_unwritten(path, error)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def warn_unwritten(path: Path, error: OSError) -> None:
    """Warn that a file could not be written."""
    # In pyarrow's own words a temporary name stands.
    reason = os.strerror(error.errno) if error.errno else str(error)
    warnings.warn(f"cannot write {path}: {reason}", UnwrittenWarning, stacklevel=3)
