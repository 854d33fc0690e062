"""Tables of a run in plain text: the contrasts by distance, and what a mean hides."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from probe.analysis.floor import is_noise
from probe.analysis.summary import Summary


def contrast_table(summary: Summary) -> str:
    """The contrasts by octave of distance, nats a token with their intervals.

    Each is a difference of losses on common targets, and may be negative; they are no shares of
    a whole.

    Returns:
        Several lines, empty where the run has no contrast.
    """
    rows = summary.contrasts[summary.contrasts["scale"] == "octave"]
    if rows.empty:
        return ""
    found = _records(rows.sort_values("distance_from", kind="stable"))
    cells = {
        (row["contrast"], _octave(row)): (
            f"{row['delta']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        )
        for row in found
    }
    names = list(dict.fromkeys(rows["contrast"].astype(str)))
    lines = [["distance", *names]]
    lines += [
        [octave, *(cells.get((name, octave), "–") for name in names)]
        for octave in dict.fromkeys(map(_octave, found))
    ]
    return "Contrasts (nats a token)\n" + _aligned(lines)


def tail_table(summary: Summary) -> str:
    """By condition and octave: targets helped and hurt, and the top 1 %'s part of the sum.

    Returns:
        Several lines, empty where the run has no curve.
    """
    rows = summary.tails[~summary.tails["condition"].map(is_noise).astype(bool)]
    if rows.empty:
        return ""
    lines = [["condition", "distance", "helped", "hurt", "top 1 % of the sum"]]
    for row in _records(rows):
        top = f"{row['top_share']:.0%}" if row["top_share"] == row["top_share"] else "–"
        shares = f"{row['helped']:.0%}", f"{row['hurt']:.0%}"
        lines.append([str(row["condition"]), _octave(row), *shares, top])
    return "Targets that far context helped and hurt\n" + _aligned(lines)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _octave(row: Mapping[str, Any]) -> str:
    return f"{row['distance_from']}–{row['distance_to'] - 1}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
