"""Score parts: which of them can be read, and whether their losses are numbers."""

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from probe.analysis.views import pattern

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


def check_parts(
    parts: Sequence[Path], rows: bool, starts: bool
) -> tuple[dict[Path, str], dict[str, int], int]:
    """What cannot be used of the parts.

    Args:
        parts: The parts.
        rows: Whether to read their rows too.
        starts: Whether ``far_start`` is needed.

    Returns:
        The parts that cannot be used and why; the losses in the others that are no number; how many
        have no ``far_start``.
    """
    problems: dict[Path, str] = {}
    held: dict[str, Path] = {}
    without = 0
    for part in parts:
        try:
            schema = pq.read_schema(part)
        except (OSError, pa.ArrowException) as error:
            problems[part] = f"it cannot be read ({str(error).splitlines()[0]})"
            continue
        if text := _footer_problem(schema, part, held, starts):
            problems[part] = text
        else:
            without += "far_start" not in schema.names
    whole = [part for part in parts if part not in problems]
    if not rows:
        return problems, {}, without
    try:
        return problems, _unusable_losses(whole), without
    except duckdb.Error:
        # A page is damaged behind a good footer; which part it is takes one look at each.
        for part in whole:
            try:
                _unusable_losses([part])
            except duckdb.Error as error:
                problems[part] = f"it cannot be read ({str(error).splitlines()[0]})"
    left = [part for part in whole if part not in problems]
    return problems, _unusable_losses(left), without


def _footer_problem(
    schema: pa.Schema, part: Path, held: dict[str, Path], starts: bool
) -> str | None:
    """Why a part cannot be used, as far as its footer tells.

    Args:
        schema: What its footer says.
        part: The part.
        held: What the parts before it hold, to which this one's is added: a copy that a backup left
            would count its rows twice.
        starts: Whether ``far_start`` is needed.
    """
    names = set(schema.names)
    if missing := [name for name in (*COLUMNS, *["far_start"] * starts) if name not in names]:
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
