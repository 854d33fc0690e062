"""A comparison in words: losses, differences by octave, effective contexts, then the notes."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from probe.analysis.answer import in_order
from probe.analysis.compare.comparison import Comparison
from probe.analysis.compare.lengths import SHOWN


def table_text(table: pd.DataFrame) -> str:
    """A frame of words as aligned plain text, with a line below its head."""
    return aligned([list(map(str, table.columns)), *table.to_numpy().tolist()], rule=True)


def comparison_text(comparison: Comparison) -> str:
    """The whole comparison of two runs as plain text, without a newline at the end.

    Args:
        comparison: What :func:`probe.analysis.compare.compare` gives.

    Returns:
        Several lines; every interval is one over documents.
    """
    share = f"{comparison.confidence * 100:g} % intervals over documents"
    how = "paired" if comparison.paired else "unpaired"
    parts = [f"B − A, {how} ({share})\nA: {comparison.a}\nB: {comparison.b}", _losses(comparison)]
    for unit in dict.fromkeys(comparison.octaves["unit"]):
        parts += [_octaves(comparison, str(unit)), _contexts(comparison, str(unit))]
    parts.append("\n".join(f"- {note}" for note in comparison.notes))
    return "\n\n".join(filter(None, parts))


def aligned(lines: Sequence[Sequence[str]], *, rule: bool = False) -> str:
    """Rows of words in columns; with *rule* a line of hyphens below the first."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    if rule:
        rows.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(rows)


def _losses(comparison: Comparison) -> str:
    rows = [["intact loss", "A", "B", "B − A"]]
    for row in comparison.losses.to_dict("records"):
        means = [f"{row[side]:.4f}" for side in ("a", "b")]
        rows.append([str(row["unit"]), *means, _interval(row)])
    return aligned(rows) if len(rows) > 1 else ""


def _octaves(comparison: Comparison, unit: str) -> str:
    rows = comparison.octaves[comparison.octaves["unit"] == unit]
    names = in_order(rows["condition"].astype(str))
    cells = {
        (str(row["condition"]), int(row["distance_from"])): _interval(row)
        for row in rows.to_dict("records")
    }
    spans = sorted(zip(rows["distance_from"], rows["distance_to"], strict=True))
    ends = {int(start): int(end) for start, end in spans}
    lines = [[f"distance ({unit})", *names]]
    lines += [
        [f"{start:,}–{end - 1:,}", *(cells.get((name, start), "–") for name in names)]
        for start, end in ends.items()
    ]
    return f"Delta, B − A ({SHOWN[unit]})\n{aligned(lines)}"


def _contexts(comparison: Comparison, unit: str) -> str:
    rows = comparison.contexts[comparison.contexts["unit"] == unit]
    order = in_order(rows["condition"].astype(str))
    lines = [["condition", "tolerance", "A", "B", "B − A"]]
    columns = ["condition", "tolerance", "a_text", "b_text", "text"]
    for name in order:
        lines += rows.loc[rows["condition"] == name, columns].astype(str).to_numpy().tolist()
    return f"Effective context, B − A ({unit})\n{aligned(lines)}" if len(lines) > 1 else ""


def _interval(row: Mapping[Hashable, Any]) -> str:
    limits = (
        f"{row['low']:+.4f} to {row['high']:+.4f}" if row["low"] == row["low"] else "no interval"
    )
    return f"{row['difference']:+.4f} ({limits})"
