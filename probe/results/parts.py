"""Score parts: which of them can be read, and whether their losses are numbers."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from probe.errors import ProbeError
from probe.results.files import damaged_pages
from probe.results.footer import HOLDS, IDENTITY, OF_ANOTHER, Key, held_keys
from probe.results.verified_files import VerifiedFiles
from probe.results.views import pattern


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
    """Read a part's footer; a file is looked at once.

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
        with pq.ParquetFile(part) as file:
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


def score_parts(folder: Path) -> list[Path]:
    """The score parts of a run folder in order of name, none where nothing was scored yet.

    Raises:
        ProbeError: If what stands at ``scores`` is no folder, or cannot be read.
    """
    scores = folder / "scores"
    try:
        # Unlike a glob, this does not take a folder that may not be read for an empty one.
        return sorted(part for part in scores.iterdir() if part.suffix == ".parquet")
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise ProbeError(f"'{scores}' is a file; allowed: a folder of score parts") from error
    except OSError as error:
        raise ProbeError(f"'{scores}' cannot be read: {error.strerror or error}") from error


def check_parts(
    parts: Sequence[Path],
    rows: bool,
    starts: bool,
    tokens: int | None = None,
    identity: str | None = None,
    farthest: int = 0,
) -> tuple[dict[Path, str], dict[str, int], int]:
    """What cannot be used of the parts.

    Args:
        parts: The parts.
        rows: Whether to read their rows too, for pages that are not what was written and losses
            that are no number.
        starts: Whether ``far_start`` is needed.
        tokens: Tokens of all windows, which no distance exceeds.
        identity: ``identity_hash`` of the run, where it has one.
        farthest: See :class:`probe.results.record.Reading`.

    Returns:
        The parts that cannot be used and why; the losses in the others that are no number; how many
        have no ``far_start``.
    """
    needed = (*COLUMNS, *["far_start"] * starts)
    footers = {part: read_footer(part, needed) for part in parts}
    problems = {part: told.problem for part, told in footers.items() if told.problem}
    for part, told in footers.items():
        if identity is not None and told.identity not in (None, identity):
            problems[part] = f"it is {OF_ANOTHER}"
        if told.farthest is not None and (text := _too_far(told.farthest, tokens, farthest)):
            problems[part] = text
    whole = {part: told for part, told in footers.items() if part not in problems}
    problems |= _copies(whole)
    without = sum("far_start" not in whole[part].names for part in whole if part not in problems)
    if not rows:
        return problems, {}, without
    problems |= _damaged([part for part in whole if part not in problems])
    left = [part for part in whole if part not in problems]
    try:
        return problems, _unusable_losses(left), without
    except duckdb.Error:
        # A page is damaged behind a good footer; which part it is takes one look at each.
        for part in left:
            try:
                _unusable_losses([part])
            except duckdb.Error as error:
                problems[part] = f"it cannot be read ({str(error).splitlines()[0]})"
                _forget(part)
    return problems, _unusable_losses([part for part in left if part not in problems]), without


def _too_far(farthest: tuple[int, int], tokens: int | None, beyond: int) -> str | None:
    """Why a distance cannot be one, if so: bins up to a mad one would not fit the memory."""
    distance, position = farthest
    most = max(beyond, position if not tokens else min(position, tokens))
    if distance <= most:
        return None
    return f"it has a distance of {distance:,} tokens; allowed: up to {most:,} in these windows"


def _copies(footers: Mapping[Path, Footer]) -> dict[Path, str]:
    """The parts that hold what one before them holds: a copy would count its rows twice."""
    problems: dict[Path, str] = {}
    held: dict[object, Path] = {}
    sizes = Counter(part.stat().st_size for part, told in footers.items() if not told.held)
    for part, told in footers.items():
        marks: Sequence[object] = told.held
        # A part that another tool wrote does not say what it holds; equal bytes are a copy too.
        if not told.held and told.rows and sizes[part.stat().st_size] > 1:
            marks = [hashlib.sha256(part.read_bytes()).digest()]
        if twice := [mark for mark in marks if mark in held]:
            problems[part] = f"it holds what {held[twice[0]].name} holds"
        else:
            held |= dict.fromkeys(marks, part)
    return problems


def _damaged(parts: Sequence[Path]) -> dict[Path, str]:
    found = {part: damaged_pages(part) for part in parts}
    damaged = {part: text for part, text in found.items() if text}
    for part in damaged:
        _forget(part)
    return damaged


def _forget(part: Path) -> None:
    """Let the next call of the run read every page again, and put the part aside."""
    VerifiedFiles(part.parent.parent).forget()


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
