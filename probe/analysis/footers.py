"""What the footer of a score part tells: its columns, what it holds, the range of its numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from probe.analysis.pages import damage
from probe.store import HOLDS, IDENTITY, Key, held_keys


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


_KINDS: dict[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    **dict.fromkeys(("document", "condition"), ("text", _is_text)),
    **dict.fromkeys(
        ("window", "position", "far_start", "boundary", "distance", "repeat"),
        ("a whole number", pa.types.is_integer),
    ),
    **dict.fromkeys(
        ("nll", "nll_intact", "kl", "entropy"), ("a floating number", pa.types.is_floating)
    ),
    "top1": ("a bool", pa.types.is_boolean),
}
"""What a column holds where a part has it, in words and as a check."""
_NEVER_MISSING = ("document", "window", "position", "boundary", "distance", "condition", "repeat")
_LOWEST = {"window": 0, "position": 0, "boundary": -1, "distance": -1, "repeat": 0}


@dataclass(frozen=True)
class Footer:
    """What is known of a part without its rows.

    Args:
        problem: Why it cannot be used, if so; all else is empty then.
        names: Its columns.
        held: What it holds; empty for a part that does not say so, as other tools write them.
        rows: Number of its rows.
        farthest: Its longest distance and its last position (tokens), ``None`` without rows.
        identity: ``identity_hash`` of the run it is of; ``None`` where it does not say so.
    """

    problem: str | None = None
    names: frozenset[str] = frozenset()
    held: tuple[Key, ...] = ()
    rows: int = 0
    farthest: tuple[int, int] | None = None
    identity: str | None = None


def read_footer(part: Path, needed: tuple[str, ...]) -> Footer:
    """Read a part's footer and look at the checksums of its pages; a file is looked at once.

    Args:
        part: The part.
        needed: Columns that it must have.
    """
    try:
        state = part.stat()
    except OSError as error:
        return Footer(_unreadable(error))
    return _read(part, needed, (state.st_ino, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=65536)
def _read(part: Path, needed: tuple[str, ...], state: tuple[int, ...]) -> Footer:
    """The footer of the file in this state: a command opens its run several times."""
    try:
        with pq.ParquetFile(part, page_checksum_verification=True) as file:
            return _told(part, file, needed)
    except (OSError, pa.ArrowException) as error:
        return Footer(_unreadable(error))


def _unreadable(error: Exception) -> str:
    return f"it cannot be read ({(str(error).splitlines() or [''])[0]})"


def _told(part: Path, file: pq.ParquetFile, needed: tuple[str, ...]) -> Footer:
    schema = file.schema_arrow
    names = schema.names
    if missing := [name for name in needed if name not in names]:
        return Footer(f"it lacks the columns {', '.join(missing)}")
    if twice := [name for name in _KINDS if names.count(name) > 1]:
        return Footer(f"it has the column {twice[0]} twice")
    for name, (words, fits) in _KINDS.items():
        if name in names and not fits(schema.field(name).type):
            return Footer(f"its column {name} is {schema.field(name).type}; allowed: {words}")
    try:
        held = held_keys(schema) if HOLDS in (schema.metadata or {}) else []
    except ValueError as error:
        return Footer(str(error))
    if wrong := damage(part, file.metadata):
        return Footer(wrong)
    rows = int(file.metadata.num_rows)
    if not rows:
        return Footer("it has no rows")
    ranges = {name: column_range(file, name) for name in _NEVER_MISSING}
    for name, (nulls, lowest, _) in ranges.items():
        if nulls:
            return Footer(f"{nulls:,} of its {rows:,} rows have no {name}")
        if lowest is not None and name in _LOWEST and lowest < _LOWEST[name]:
            return Footer(f"its lowest {name} is {lowest}; allowed: {_LOWEST[name]} or more")
    longest, last = ranges["distance"][2], ranges["position"][2]
    farthest = None if longest is None or last is None else (longest, last)
    said = (schema.metadata or {}).get(IDENTITY)
    identity = None if said is None else said.decode(errors="replace")
    return Footer(None, frozenset(names), tuple(held), rows, farthest, identity)


def column_range(file: pq.ParquetFile, name: str) -> tuple[int, int | None, int | None]:
    """Missing values of a column, and the lowest and the highest of its whole numbers.

    From the footer where it tells, else from the values.

    Args:
        file: The file.
        name: A flat column.

    Returns:
        The number of missing values; lowest and highest, ``None`` for text and without a value.
    """
    at, footer = file.schema.names.index(name), file.metadata
    found = [
        footer.row_group(group).column(at).statistics for group in range(footer.num_row_groups)
    ]
    if not all(one is not None and one.has_null_count for one in found):
        return _counted(file, name)
    nulls = sum(one.null_count for one in found)
    filled = [one for one in found if one.num_values]
    if _KINDS[name][0] == "text" or not filled:
        return nulls, None, None
    if not all(one.has_min_max for one in filled):
        return _counted(file, name)
    return nulls, int(min(one.min for one in filled)), int(max(one.max for one in filled))


def _counted(file: pq.ParquetFile, name: str) -> tuple[int, int | None, int | None]:
    values = file.read(columns=[name]).column(0)
    if _KINDS[name][0] == "text" or values.null_count == len(values):
        return values.null_count, None, None
    ends = pc.min_max(values).as_py()
    return values.null_count, int(ends["min"]), int(ends["max"])
