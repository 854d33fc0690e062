"""A run folder: opening it, and saying what is wrong with its files."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from probe.errors import ProbeError, UsageError
from probe.results.files import damaged_pages
from probe.results.parts import check_parts, score_parts
from probe.results.record import PLAIN, Needs, Reading, Record, older_schema, read_record
from probe.results.verified_files import VerifiedFiles
from probe.results.views import (
    LISTS,
    column_names,
    doubtful_offsets,
    may_lack,
    parquet_rows,
    row,
    usable_offsets,
)
from probe.text import counted, shown

_NEEDED = ("document", "window", "start", "token_ids", "text")
_AGAIN = (
    "copy it back, or call probe run with its configuration again, which writes the file and scores"
    " nothing anew"
)


@dataclass(frozen=True, eq=False)
class RunFolder:
    """A run folder that can be read.

    Args:
        path: The folder.
        record: Content of its ``run.json``.
        parts: Its readable score parts, in order of name.
        warnings: What a reader should know: parts left out, a run that is not finished.
        reading: How its rows are read.
    """

    path: Path
    record: Mapping[str, Any]
    parts: tuple[Path, ...]
    warnings: tuple[str, ...] = ()
    reading: Reading = PLAIN

    @cached_property
    def facts(self) -> Record:
        """The record, with a type for each value that is used."""
        return Record.model_validate(self.record)

    @property
    def kind(self) -> str | None:
        """The kind of its protocol, ``None`` where ``run.json`` names none."""
        return self.facts.config.protocol.kind

    @property
    def name(self) -> str:
        """The run's own name, or that of its folder."""
        return self.facts.name or self.path.name


def read_folder(
    path: str | Path,
    *,
    checked: bool = True,
    reading: Callable[[Mapping[str, Any]], Reading] = lambda _: PLAIN,
    needs: Needs = lambda _: {},
) -> RunFolder:
    """Open a run folder and check every score part of it.

    Args:
        path: The folder that holds ``run.json``, ``windows.parquet`` and ``scores/``.
        checked: Read the rows of every part too, for damage and losses that are no number; without,
            only the parts' footers are read.
        reading: From its ``run.json`` to how its rows are read.
        needs: See :func:`probe.results.record.read_record`.

    Returns:
        The run; what can be read is used, what cannot is named in ``warnings``.

    Raises:
        UsageError: If there is no run folder.
        ProbeError: If ``run.json``, ``windows.parquet`` or every score part is missing or
            unreadable, or if a loss is not a finite number.
    """
    folder = Path(path)
    try:
        if folder.is_file():
            raise UsageError(f"'{folder}' is a file; allowed: a run folder")
        if not folder.is_dir():
            raise UsageError(f"no run folder at '{folder}'")
    except OSError as error:  # a name too long, or a folder that may not be entered
        raise UsageError(f"no run folder at {shown(str(folder))}: {error.strerror}") from error
    record = read_record(folder / "run.json", needs)
    older = older_schema(folder, record)
    tokens, without_offsets = check_windows(folder / "windows.parquet")
    found = score_parts(folder)
    how = reading(record)
    problems, bad, without = check_parts(
        found, checked, how.needs_far_start, tokens, record.get("identity_hash"), how.farthest
    )
    parts = tuple(part for part in found if part not in problems)
    warnings = [
        *older,
        *filter(None, [how.caveat]),
        *(f"scores/{one.name} is left out: {problems[one]}" for one in found if one in problems),
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
    if without_offsets:
        warnings.append(
            f"windows.parquet of '{folder.name}' has no offset for each token of"
            f" {counted(without_offsets, 'window')}: their text is left out"
        )
    if record.get("status") != "complete":
        warnings.append(
            f"run '{folder.name}' is {record.get('status') or 'unfinished'}:"
            " this is what has been scored so far"
        )
    return RunFolder(folder, record, parts, tuple(warnings), how)


def unique_labels(runs: Sequence[RunFolder]) -> list[str]:
    """A name for each run, no two alike.

    A run that shares its name has as much of its folder's path as tells them apart; where its name
    is not the folder's, both. One folder that comes twice is numbered.

    Args:
        runs: The runs.
    """
    paths = [run.path.resolve() for run in runs]
    found = []
    for run, path in zip(runs, paths, strict=True):
        alike = {other for one, other in zip(runs, paths, strict=True) if one.name == run.name}
        tail = _tail(path, alike - {path})
        longer = tail if path.name == run.name else f"{run.name} ({tail})"
        found.append(longer if len(alike) > 1 else run.name)
    return [
        f"{name} ({found[: index + 1].count(name)})" if found.count(name) > 1 else name
        for index, name in enumerate(found)
    ]


def _tail(path: Path, others: Collection[Path]) -> str:
    """As much of a path's end as no other ends with, at least its last part."""
    for size in range(1, len(path.parts)):
        end = path.parts[-size:]
        if all(other.parts[-size:] != end for other in others):
            return "/".join(end)
    return str(path)


def check_windows(path: Path) -> tuple[int, int]:
    """See that the file tells of each window, once, where it begins and what it holds.

    Args:
        path: A run's ``windows.parquet``.

    Returns:
        Tokens of all windows; windows that have text, but not an offset for each of their tokens.

    Raises:
        ProbeError: If it is missing, damaged, lacks a column or a value, or has a window twice.
    """
    try:
        state = path.stat()
        if not path.is_file():
            raise ProbeError(f"'{path}' is a folder; allowed: a file")
        return _looked_at(path, (state.st_ino, state.st_size, state.st_mtime_ns))
    except FileNotFoundError as error:
        raise ProbeError(
            f"run '{path.parent}' has no windows.parquet, the only record of where windows begin,"
            f" and so of how long the far context of a target is; {_AGAIN}"
        ) from error
    except (OSError, pa.ArrowException, duckdb.Error) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise _unusable(path, f"cannot be read ({reason})") from error


def _unusable(path: Path, why: str) -> ProbeError:
    return ProbeError(f"'{path}' {why}; {_AGAIN}")


@lru_cache(maxsize=1024)
def _looked_at(path: Path, state: tuple[int, ...]) -> tuple[int, int]:
    """What is known of the file in this state: a command opens its run several times."""
    with pq.ParquetFile(path) as file:
        schema, footer = file.schema_arrow, file.metadata
        if missing := sorted(set(_NEEDED) - set(schema.names)):
            raise _unusable(path, f"lacks the columns {', '.join(missing)}")
        for name in (*_NEEDED, *LISTS):
            if name in schema.names and (words := _other_kind(name, schema.field(name).type)):
                kind = schema.field(name).type
                raise _unusable(path, f"has a column {name} of {kind}; allowed: {words}")
        if wrong := damaged_pages(path):
            VerifiedFiles(path.parent).forget()
            raise _unusable(path, f"is damaged: {wrong}")
        at = column_names(footer).index("token_ids")
        groups = map(footer.row_group, range(footer.num_row_groups))
        tokens = sum(group.column(at).num_values for group in groups)
        lists = [name for name in LISTS if name in schema.names and may_lack(footer, name)]
    with duckdb.connect() as connection:
        rows = parquet_rows(connection, [path])
        rows.create_view("windows")
        if problem := _wrong_rows(connection, lists):
            raise _unusable(path, problem)
        if not doubtful_offsets(path):
            return tokens, 0
        unusable = f"text IS NOT NULL AND NOT {usable_offsets(rows.columns)}"
        return tokens, int(row(connection, f"SELECT count(*) FROM windows WHERE {unusable}")[0])


def _other_kind(name: str, kind: pa.DataType) -> str | None:
    """What a column should hold, where it holds something else."""
    if name in ("window", "start"):
        return None if pa.types.is_integer(kind) else "whole numbers"
    if name in LISTS:
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        fits = lists and pa.types.is_integer(kind.value_type)
        return None if fits else "lists of whole numbers"
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    # A run of token ids alone that another tool wrote may have a column of nothing.
    fits = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    return None if fits else "text"


def _wrong_rows(connection: duckdb.DuckDBPyConnection, lists: Sequence[str]) -> str | None:
    """What is missing of a window, or that one stands there twice.

    Args:
        connection: One with the view ``windows``.
        lists: The lists in which something may be missing.
    """
    missing = {name: f'"{name}" IS NULL' for name in ("document", "window", "start")}
    missing |= {name: f"list_count({name}) < len({name})" for name in lists}
    if "token_ids" in missing:
        missing["token_ids"] += " OR token_ids IS NULL"
    counts = ", ".join(f"count(*) FILTER (WHERE {check})" for check in missing.values())
    found = row(connection, f'SELECT {counts}, min(start), min("window") FROM windows')
    for name, count in zip(missing, found, strict=False):
        if count:
            return f"has {count:,} of its windows without {name}"
    for name, lowest in zip(("start", "window"), found[-2:], strict=True):
        if lowest is not None and lowest < 0:
            return f"has {lowest} as the {name} of a window; allowed: 0 or more"
    twice = connection.execute(
        'SELECT document, "window" FROM windows GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL'
    ).fetchall()
    if not twice:
        return None
    document, window = twice[0]
    return (
        f"has {len(twice):,} of its windows more than once, the first is window {window} of"
        f" document '{document}'"
    )
