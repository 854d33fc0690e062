"""windows.parquet: whether it tells of each window, once, where it begins and what it holds."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from probe.errors import ProbeError
from probe.results.files import damaged_pages
from probe.results.views import (
    LISTS,
    column_names,
    doubtful_offsets,
    may_lack,
    parquet_rows,
    row,
    usable_offsets,
)

NEEDED = ("document", "window", "start", "token_ids", "text")
_AGAIN = (
    "copy it back, or call probe run with its configuration again, which writes the file and scores"
    " nothing anew"
)


@dataclass(frozen=True)
class WindowFile:
    """What is known of a ``windows.parquet``.

    Args:
        tokens: Number of tokens of all windows.
        without_offsets: Windows that have text, but not an offset for each of their tokens.
        problem: Why the file cannot be used, if so.
    """

    tokens: int = 0
    without_offsets: int = 0
    problem: str | None = None


def check_windows(path: Path) -> WindowFile:
    """See that the file can be used.

    Args:
        path: A run's ``windows.parquet``.

    Raises:
        ProbeError: If it is missing, damaged, lacks a column or a value, or has a window twice.
    """
    try:
        state = path.stat()
        if not path.is_file():
            raise ProbeError(f"'{path}' is a folder; allowed: a file")
        found = _looked_at(path, (state.st_ino, state.st_size, state.st_mtime_ns))
    except FileNotFoundError as error:
        raise ProbeError(
            f"run '{path.parent}' has no windows.parquet, which alone tells where windows begin and"
            f" so how long the far context of a target is; {_AGAIN}"
        ) from error
    except (OSError, pa.ArrowException, duckdb.Error) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ProbeError(f"'{path}' cannot be read ({reason}); {_AGAIN}") from error
    if found.problem:
        raise ProbeError(f"'{path}' {found.problem}; {_AGAIN}")
    return found


@lru_cache(maxsize=1024)
def _looked_at(path: Path, state: tuple[int, ...]) -> WindowFile:
    """What is known of the file in this state: a command opens its run several times."""
    with pq.ParquetFile(path) as file:
        schema, footer = file.schema_arrow, file.metadata
        if missing := sorted(set(NEEDED) - set(schema.names)):
            return WindowFile(problem=f"lacks the columns {', '.join(missing)}")
        for name in (*NEEDED, *LISTS):
            if name in schema.names and (words := _other_kind(name, schema.field(name).type)):
                return WindowFile(
                    problem=f"has a column {name} of {schema.field(name).type}; allowed: {words}"
                )
        if wrong := damaged_pages(path):
            return WindowFile(problem=f"is damaged: {wrong}")
        at = [n for n, name in enumerate(column_names(footer)) if name == "token_ids"]
        groups = map(footer.row_group, range(footer.num_row_groups))
        tokens = sum(group.column(at[0]).num_values for group in groups)
        lists = [name for name in LISTS if name in schema.names and may_lack(footer, name)]
    if problem := _wrong_rows(path, lists):
        return WindowFile(problem=problem)
    return WindowFile(tokens, _without_offsets(path) if doubtful_offsets(path) else 0)


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


def _wrong_rows(path: Path, lists: list[str]) -> str | None:
    """What is missing of a window, or that one stands there twice.

    Args:
        path: The file.
        lists: The lists in which something may be missing.
    """
    missing = {name: f'"{name}" IS NULL' for name in ("document", "window", "start")}
    missing |= {name: f"list_count({name}) < len({name})" for name in lists}
    if "token_ids" in missing:
        missing["token_ids"] += " OR token_ids IS NULL"
    counts = ", ".join(f"count(*) FILTER (WHERE {check})" for check in missing.values())
    with duckdb.connect() as connection:
        parquet_rows(connection, [path]).create_view("windows")
        found = row(connection, f'SELECT {counts}, min(start), min("window") FROM windows')
        for name, count in zip(missing, found, strict=False):
            if count:
                return f"has {count:,} of its windows without {name}"
        for name, lowest in zip(("start", "window"), found[-2:], strict=True):
            if lowest is not None and lowest < 0:
                return f"has {lowest} as the {name} of a window; allowed: 0 or more"
        twice = connection.execute(
            """SELECT document, "window" FROM windows GROUP BY ALL HAVING count(*) > 1
            ORDER BY ALL"""
        ).fetchall()
    if not twice:
        return None
    document, window = twice[0]
    return (
        f"has {len(twice):,} of its windows more than once, the first is window {window} of"
        f" document '{document}'"
    )


def _without_offsets(path: Path) -> int:
    """Number of windows that have text, but not an offset for each token."""
    with duckdb.connect() as connection:
        rows = parquet_rows(connection, [path])
        rows.create_view("windows")
        usable = usable_offsets(rows.columns)
        query = f"SELECT count(*) FROM windows WHERE text IS NOT NULL AND NOT {usable}"
        return int(row(connection, query)[0])
