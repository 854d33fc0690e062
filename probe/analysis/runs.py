"""A run folder: opening it, and saying what is wrong with it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from probe.analysis.views import pattern
from probe.errors import ProbeError

COLUMNS = (
    "document",
    "window",
    "position",
    "boundary",
    "distance",
    "condition",
    "repeat",
    "nll",
    "nll_intact",
)
"""Columns of a score part that every analysis needs."""
_HOLDS = b"context_probe.holds"


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder that can be read.

    Args:
        path: The folder.
        record: Content of its ``run.json``.
        parts: Its readable score parts, in order of name.
        warnings: What a reader should know: parts left out, a run that is not finished.
    """

    path: Path
    record: Mapping[str, Any]
    parts: tuple[Path, ...]
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The run's own name, or that of its folder."""
        return str(self.record.get("name") or self.path.name)


def open_run(path: str | Path, *, checked: bool = True) -> Run:
    """Open a run folder and check every score part of it.

    Args:
        path: The folder that holds ``run.json``, ``windows.parquet`` and ``scores/``.
        checked: Read the rows of every part too, for damage and losses that are no number; without,
            only the parts' footers are read.

    Returns:
        The run; what can be read is used, what cannot is named in ``warnings``.

    Raises:
        ProbeError: If the folder, ``run.json``, ``windows.parquet`` or every score part is
            missing or unreadable, or if a loss is not a finite number.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ProbeError(f"no run folder at '{folder}'")
    record = _read_record(folder / "run.json")
    _read_windows_schema(folder / "windows.parquet")
    found = sorted((folder / "scores").glob("*.parquet"))
    problems, bad = _check(found, checked)
    parts = tuple(part for part in found if part not in problems)
    warnings = [f"scores/{part.name} is left out: {text}" for part, text in problems.items()]
    if not parts:
        reason = "; ".join(warnings) if warnings else "nothing has been scored yet"
        raise ProbeError(f"run '{folder}' has no readable score part ({reason})")
    if bad:
        counts = ", ".join(f"'{condition}' has {count}" for condition, count in bad.items())
        raise ProbeError(f"losses of run '{folder}' are NaN, infinite or missing: {counts}")
    if record.get("status") != "complete":
        warnings.append(
            f"run '{folder.name}' is {record.get('status') or 'unfinished'}:"
            " this is what has been scored so far"
        )
    return Run(folder, record, parts, tuple(warnings))


def _read_record(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ProbeError(f"'{path.parent}' is no run folder: it has no run.json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProbeError(f"'{path}' cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise ProbeError(f"'{path}' holds a {type(record).__name__}, expected an object")
    for key in ("model", "data", "plan", "config", "counts"):
        if not isinstance(record.get(key, {}), dict):
            held = type(record[key]).__name__
            raise ProbeError(f"'{path}' holds a {held} at '{key}', expected an object")
    return record


def _read_windows_schema(path: Path) -> None:
    try:
        names = set(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise ProbeError(f"'{path}' is missing or cannot be read: {error}") from error
    if missing := {"document", "window", "start", "token_ids", "text"} - names:
        raise ProbeError(f"'{path}' lacks the columns {', '.join(sorted(missing))}")


def _check(parts: Sequence[Path], rows: bool) -> tuple[dict[Path, str], dict[str, int]]:
    """The parts that cannot be used and why; and the losses in the others that are no number."""
    problems: dict[Path, str] = {}
    held: dict[str, Path] = {}
    for part in parts:
        if text := _footer_problem(part, held):
            problems[part] = text
    whole = [part for part in parts if part not in problems]
    if not rows:
        return problems, {}
    try:
        return problems, _unusable_losses(whole)
    except duckdb.Error:
        # A page is damaged behind a good footer; which part it is takes one look at each.
        for part in whole:
            try:
                _unusable_losses([part])
            except duckdb.Error as error:
                problems[part] = f"it cannot be read ({str(error).splitlines()[0]})"
    return problems, _unusable_losses([part for part in whole if part not in problems])


def _footer_problem(part: Path, held: dict[str, Path]) -> str | None:
    """Why a part cannot be used, as far as its footer tells.

    Args:
        part: The part.
        held: What the parts before it hold, to which this one's is added: a copy that a backup left
            would count its rows twice.
    """
    try:
        schema = pq.read_schema(part)
    except (OSError, pa.ArrowException) as error:
        return f"it cannot be read ({str(error).splitlines()[0]})"
    names = set(schema.names)
    if missing := [name for name in COLUMNS if name not in names]:
        return f"it lacks the columns {', '.join(missing)}"
    keys = [repr(key) for key in json.loads((schema.metadata or {}).get(_HOLDS, b"[]"))]
    if twice := [key for key in keys if key in held]:
        return f"it holds what {held[twice[0]].name} holds"
    held |= dict.fromkeys(keys, part)
    return None


def _unusable_losses(parts: Sequence[Path]) -> dict[str, int]:
    """Number of losses that are no finite number, by condition; reads every needed column."""
    if not parts:
        return {}
    everything = ", ".join(f'"{name}"' for name in COLUMNS)
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"""SELECT condition, count(*) FILTER (WHERE
                NOT (coalesce(isfinite(nll), false) AND coalesce(isfinite(nll_intact), false))),
                bit_xor(hash({everything}))
            FROM read_parquet($parts, union_by_name = true, hive_partitioning = false)
            GROUP BY condition ORDER BY condition""",
            {"parts": [pattern(part) for part in parts]},
        ).fetchall()
    return {str(condition): int(count) for condition, count, _ in rows if count}
