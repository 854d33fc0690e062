"""Tables of a run in plain text: the contrasts by distance, and what a mean hides."""

from collections.abc import Hashable, Mapping
from typing import Any

from probe.analysis.bootstrap import too_few
from probe.analysis.floor import without_noise
from probe.analysis.summary import Summary
from probe.text import aligned, difference


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
    found = rows.sort_values("distance_from", kind="stable").to_dict("records")
    cells = {
        (row["contrast"], _octave(row)): difference(row["delta"], row["low"], row["high"])
        for row in found
    }
    names = list(dict.fromkeys(rows["contrast"].astype(str)))
    lines = [["distance", *names]]
    lines += [
        [octave, *(cells.get((name, octave), "–") for name in names)]
        for octave in dict.fromkeys(map(_octave, found))
    ]
    few = too_few(summary.documents) if rows["low"].isna().any() else ""
    title = f"Contrasts (nats a token{f'; no interval: {few}' if few else ''})"
    return f"{title}\n{aligned(lines)}"


def tail_table(summary: Summary) -> str:
    """By condition and octave: targets helped and hurt, and the top 1 %'s part of the sum.

    Returns:
        Several lines, empty where the run has no curve.
    """
    rows = without_noise(summary.tails)
    if rows.empty:
        return ""
    lines = [["condition", "distance", "helped", "hurt", "top 1 % of the sum"]]
    for row in rows.to_dict("records"):
        top = f"{row['top_share']:.0%}" if row["top_share"] == row["top_share"] else "–"
        shares = f"{row['helped']:.0%}", f"{row['hurt']:.0%}"
        lines.append([str(row["condition"]), _octave(row), *shares, top])
    return "Targets that far context helped and hurt\n" + aligned(lines)


def _octave(row: Mapping[Hashable, Any]) -> str:
    return f"{row['distance_from']:,}–{row['distance_to'] - 1:,}"
