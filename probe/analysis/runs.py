"""A run folder: opening it, and saying what is wrong with it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from probe.analysis.parts import check_parts
from probe.analysis.views import connect
from probe.analysis.words import counted
from probe.errors import ProbeError

SCHEMA = 1
"""Version of the results contract; another one's folders are older, or refused."""


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

    @property
    def model(self) -> str:
        """The model's name to show."""
        return str((self.record.get("model") or {}).get("name") or "the model")

    @property
    def data(self) -> str:
        """The data set's name to show."""
        return str((self.record.get("data") or {}).get("name") or "the data")


def protocol_kind(record: Mapping[str, Any]) -> str | None:
    """The kind of protocol that a run's ``run.json`` names, ``None`` where it names none."""
    config = record.get("config") or {}
    return (config.get("protocol") or {}).get("kind")


@contextmanager
def connected(run: Run, *, checked: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """The rows of a run, open inside a ``with``; see :func:`probe.analysis.views.connect`.

    Args:
        run: The run.
        checked: Look for rows of windows that it has not.

    Raises:
        ProbeError: If a row cannot be read, there or inside the ``with``.
    """
    try:
        with connect(run.path / "windows.parquet", run.parts, checked=checked) as connection:
            yield connection
    except duckdb.Error as error:
        raise ProbeError(f"the scores of '{run.path}' cannot be read: {error}") from error


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
    older = _check_schema(folder, record)
    _read_windows_schema(folder / "windows.parquet")
    found = sorted((folder / "scores").glob("*.parquet"))
    starts = protocol_kind(record) in ("band", "passages")
    problems, bad, without = check_parts(found, checked, starts)
    parts = tuple(part for part in found if part not in problems)
    warnings = [
        *older,
        *(f"scores/{part.name} is left out: {why}" for part, why in problems.items()),
    ]
    if not parts:
        reason = "; ".join(warnings) if warnings else "nothing has been scored yet"
        raise ProbeError(f"run '{folder}' has no readable score part ({reason})")
    if bad:
        counts = ", ".join(f"'{condition}' has {count}" for condition, count in bad.items())
        raise ProbeError(f"losses of run '{folder}' are NaN, infinite or missing: {counts}")
    if without:
        warnings.append(
            f"{counted(without, 'score part')} of '{folder.name}'"
            f" {'has' if without == 1 else 'have'} no column far_start: an older version or another"
            " tool wrote them; no length is read from that column"
        )
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


def _check_schema(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """What to say of a folder of another version; a record that names none is taken as it is.

    Raises:
        ProbeError: If a later version wrote it, or the version is no number.
    """
    schema = record.get("schema", SCHEMA)
    whole = type(schema) is int
    if whole and schema == SCHEMA:
        return []
    if whole and schema < SCHEMA:
        return [
            f"run '{folder.name}' has schema {schema}, older than {SCHEMA}: it is read as far as"
            " possible"
        ]
    raise ProbeError(
        f"'{folder / 'run.json'}' has schema {schema!r}; allowed: up to {SCHEMA}, that of this"
        " version"
    )


def _read_windows_schema(path: Path) -> None:
    if not path.is_file():
        raise ProbeError(
            f"run '{path.parent}' has no windows.parquet, which alone tells where windows begin and"
            " so how long the far context of a target is; copy it back, or call probe run with its"
            " configuration again, which writes the file and scores nothing anew"
        )
    try:
        names = set(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise ProbeError(f"'{path}' is missing or cannot be read: {error}") from error
    if missing := {"document", "window", "start", "token_ids", "text"} - names:
        raise ProbeError(f"'{path}' lacks the columns {', '.join(sorted(missing))}")
