"""A comparison in words: losses, differences by octave, effective contexts, then the notes."""

import textwrap
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from probe.analysis.answer import in_order
from probe.analysis.compare.comparison import Comparison
from probe.analysis.compare.lengths import SHOWN
from probe.text import WIDTH, difference, in_blocks, printable


def table_text(table: pd.DataFrame) -> str:
    """A frame of words as aligned plain text, with a line below its head."""
    return in_blocks([list(map(str, table.columns)), *table.to_numpy().tolist()], rule=True)


def comparison_text(comparison: Comparison) -> str:
    """The whole comparison of two runs as plain text, without a newline at the end.

    Args:
        comparison: What :func:`probe.analysis.compare.compare` gives.

    Returns:
        Several lines; every interval is one over documents.
    """
    share = f"{comparison.confidence * 100:g} % intervals over documents"
    how = "paired" if comparison.paired else "unpaired"
    names = {"A": comparison.a, "B": comparison.b}
    sides = "\n".join(f"{side}: {printable(name)}" for side, name in names.items())
    parts = [f"B − A, {how} ({share})\n{sides}", _losses(comparison)]
    for unit in dict.fromkeys(comparison.octaves["unit"]):
        parts += [_octaves(comparison, str(unit)), _contexts(comparison, str(unit))]
    parts += [_patterns(comparison), note_lines(comparison.notes)]
    return "\n\n".join(filter(None, parts))


def note_lines(notes: Sequence[str]) -> str:
    """Notes as a list, each a line of its own or several."""
    return "\n".join(wrapped(f"- {printable(note)}") for note in notes)


def wrapped(text: str, indent: str = "  ") -> str:
    """A line of at most :data:`WIDTH` characters, the rest of it below, indented."""
    return textwrap.fill(
        text,
        WIDTH,
        subsequent_indent=indent,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _losses(comparison: Comparison) -> str:
    rows = [["intact loss", "A", "B", "B − A"]]
    for row in comparison.losses.to_dict("records"):
        means = [f"{row[side]:.4f}" for side in ("a", "b")]
        rows.append([str(row["unit"]), *means, _interval(row)])
    return in_blocks(rows) if len(rows) > 1 else ""


def _patterns(comparison: Comparison) -> str:
    """What each attention pattern of both runs loses, and the difference."""
    rows = [["pattern", "A", "B", "B − A"]]
    for row in comparison.patterns.to_dict("records"):
        means = [f"{row[side]:+.4f}" for side in ("a", "b")]
        rows.append([str(row["condition"]), *means, _interval(row)])
    if len(rows) == 1:
        return ""
    return f"Delta of attention patterns, B − A (nats a token)\n{in_blocks(rows)}"


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
    return f"Delta, B − A ({SHOWN[unit]})\n{in_blocks(lines)}"


def _contexts(comparison: Comparison, unit: str) -> str:
    """Lengths by condition; what several tolerances have in common is said once."""
    rows = comparison.contexts[comparison.contexts["unit"] == unit]
    blocks, told = [], []
    for name in in_order(rows["condition"].astype(str)):
        own = rows[rows["condition"] == name]
        sides = _by_tolerance(own, {"a_text": "A", "b_text": "B"})
        blocks.append(f"{printable(name)}\n{sides}\n\n{_by_tolerance(own, {'text': 'B − A'})}\n")
        if (own["kind"] != "number").any():
            told.append(f"{printable(name)}: {_last_delta(own.iloc[0], unit)}")
    if not blocks:
        return ""
    if told:
        told.insert(0, "where a length has no difference, that of delta at the longest distances:")
        blocks.append("\n".join(map(wrapped, told)))
    return "\n".join([f"Effective context, B − A ({unit})", *blocks]).rstrip()


def _by_tolerance(rows: pd.DataFrame, columns: Mapping[str, str]) -> str:
    """Some columns of one condition, the tolerances that agree in all of them in one row."""
    texts: dict[tuple[str, ...], list[str]] = {}
    for row in rows.to_dict("records"):
        key = tuple(str(row[name]) for name in columns)
        texts.setdefault(key, []).append(str(row["tolerance"]))
    lines = [["tolerance", *columns.values()]]
    lines += [[", ".join(at), *text] for text, at in texts.items()]
    return textwrap.indent(in_blocks(lines), "  ")


def _last_delta(row: "pd.Series[Any]", unit: str) -> str:
    """The difference of delta at the longest distances that both runs measured."""
    at = f"{int(row['delta_from']):,}–{int(row['delta_to']) - 1:,}"
    value, low, high = (float(row[f"delta_{name}"]) for name in ("difference", "low", "high"))
    return f"{difference(value, low, high)} {SHOWN[unit]} at {at}"


def _interval(row: Mapping[Hashable, Any]) -> str:
    return difference(row["difference"], row["low"], row["high"])
