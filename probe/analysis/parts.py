"""Score parts: which of them can be read, and whether their losses are numbers."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from probe.analysis.footers import Footer, read_footer
from probe.analysis.views import pattern
from probe.errors import ProbeError
from probe.store import OF_ANOTHER

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
) -> tuple[dict[Path, str], dict[str, int], int]:
    """What cannot be used of the parts.

    Args:
        parts: The parts.
        rows: Whether to read their rows too.
        starts: Whether ``far_start`` is needed.
        tokens: Tokens of all windows, which no distance exceeds.
        identity: ``identity_hash`` of the run, where it has one.

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
        if told.farthest is not None and (text := _too_far(told.farthest, tokens)):
            problems[part] = text
    whole = {part: told for part, told in footers.items() if part not in problems}
    problems |= _copies(whole)
    without = sum("far_start" not in whole[part].names for part in whole if part not in problems)
    if not rows:
        return problems, {}, without
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
    return problems, _unusable_losses([part for part in left if part not in problems]), without


def _too_far(farthest: tuple[int, int], tokens: int | None) -> str | None:
    """Why a distance cannot be one, if so: bins up to a mad one would not fit the memory."""
    distance, position = farthest
    most = position if not tokens else min(position, tokens)
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
