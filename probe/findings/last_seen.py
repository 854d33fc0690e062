"""Where the target last occurred, relative to the boundary: delta near, far and nowhere."""

from typing import Any

import pandas as pd

from probe.analysis.fit import in_order
from probe.analysis.open_run import OpenRun
from probe.classes.curves import ClassCurves
from probe.findings.base import Finding
from probe.findings.table import Table, between, ranged, records

SUBJECTS = {
    "occurrences": "tokens that were last seen in the far text",
    "copies": "tokens that go on with text seen in the far text",
}
OTHERS = {"nowhere": "tokens that were not seen before", "near": "those that were seen near"}


def occurrences(run: OpenRun, found: ClassCurves) -> Finding:
    """Delta by where the target last occurred: a table, no length.

    Args:
        run: The open run.
        found: Its token classes.
    """
    files = {
        "findings.json": {
            "occurrences": records(found.occurrences),
            "copies": records(found.copies),
        }
    }
    title = "Where the target last occurred"
    if not run.has_length or found.occurrences.empty:
        return Finding("occurrences", title, files=files)
    tables = [_table(found.occurrences, "Delta (nats a token) by where the target last occurred")]
    if len(found.copies):
        caption = "Delta (nats a token) by where the text that the target continues was seen"
        tables.append(_table(found.copies, caption))
    rows = found.occurrences
    main = run.main_condition
    return Finding(
        "occurrences",
        title,
        _sentence(records(rows[rows["condition"] == main]), str(main)),
        tables=tables,
        caveats=[
            "Near or far is meant relative to the boundary, so that a target changes its group"
            " along the curve: a table, never a length."
        ],
        files=files,
    )


def last_seen(found: ClassCurves, condition: str) -> str:
    """Tokens last seen in the far text beside the others, at the farthest distance with both.

    Args:
        found: The token classes of a run.
        condition: The condition.
    """
    frames = {"occurrences": found.occurrences, "copies": found.copies}
    for name, subject in SUBJECTS.items():
        rows = frames[name]
        rows = rows[rows["condition"] == condition]
        cells = {(row["distance_from"], row["where"]): row for row in records(rows)}
        for other, called in OTHERS.items():
            both = [start for start, where in cells if where == "far" and (start, other) in cells]
            if not both:
                continue
            far, less = (cells[max(both), where] for where in ("far", other))
            if _known(far) and _known(less) and less["high"] < far["low"]:
                return (
                    f"Under {condition}, {subject} need it: at distances {between(far)} they lose"
                    f" {ranged(far, 'delta')} nats, {called} {ranged(less, 'delta')}."
                )
    return ""


def _known(row: dict[str, Any]) -> bool:
    return row["low"] is not None and row["high"] is not None


def _table(rows: pd.DataFrame, caption: str) -> Table:
    """Delta by condition and octave, a column for each place."""
    places = [place for place in ("far", "near", "nowhere") if (rows["where"] == place).any()]
    lines: dict[tuple[str, int, str], dict[str, str]] = {}
    for row in records(rows):
        key = str(row["condition"]), int(row["distance_from"]), between(row)
        lines.setdefault(key, {})[str(row["where"])] = ranged(row, "delta")
    order = {name: place for place, name in enumerate(in_order(key[0] for key in lines))}
    cells = [
        [key[0], key[2], *(lines[key].get(place, "–") for place in places)]
        for key in sorted(lines, key=lambda key: (order[key[0]], key[1]))
    ]
    headers = ["condition", "distance", *(f"seen {place}" for place in places)]
    return Table(caption, headers, cells)


def _sentence(rows: list[dict[str, Any]], main: str) -> str:
    """Far against nowhere at the farthest octave that has both."""
    cells = {(int(row["distance_from"]), row["where"]): row for row in rows}
    both = [start for start, where in cells if where == "far" and (start, "nowhere") in cells]
    if not both:
        return ""
    far, nowhere = (cells[max(both), place] for place in ("far", "nowhere"))
    return (
        f"Under {main} at {between(far)}: {ranged(far, 'delta')} nats where the token was last seen"
        f" in the far text, {ranged(nowhere, 'delta')} where it had not been seen."
    )
