"""The files that findings keep in a run folder: CSV tables, and JSON that several of them share."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from probe.analysis.open_run import OpenRun
from probe.findings.base import Finding
from probe.results.files import write_csv, write_text


def write_files(run: OpenRun, findings: Iterable[Finding]) -> list[Path]:
    """Write the files of some findings into the run folder, each whole or not at all.

    Args:
        run: The run.
        findings: Its findings; parts of one JSON file are put together, and lists that stand under
            the same key are joined.

    Returns:
        The files that are there now, in the order of the findings.
    """
    tables: dict[str, pd.DataFrame] = {}
    parts: dict[str, dict[str, Any]] = {}
    names: dict[str, None] = {}
    for finding in findings:
        for name, content in finding.files.items():
            names[name] = None
            if isinstance(content, pd.DataFrame):
                tables[name] = content
            else:
                _join(parts.setdefault(name, {}), content)
    for name, table in tables.items():
        write_csv(run.path / name, table)
    for name, part in parts.items():
        text = json.dumps(plain(part), indent=2, ensure_ascii=False, allow_nan=False)
        write_text(run.path / name, f"{text}\n")
    return [file for name in names if (file := run.path / name).is_file()]


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


def _join(whole: dict[str, Any], part: dict[str, Any]) -> None:
    for key, value in part.items():
        known = whole.get(key)
        if isinstance(known, list | tuple) and isinstance(value, list | tuple):
            whole[key] = [*known, *value]
        else:
            whole[key] = value
