"""Where the target last occurred, relative to the boundary: delta near, far and nowhere."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from probe.analysis.open_run import OpenRun
from probe.classes.curves import ClassCurves
from probe.findings.base import Finding
from probe.findings.table import Table, between, by_condition, pivot, ranged, records

SUBJECTS = {
    "occurrences": "tokens last seen in the far text",
    "copies": "tokens that continue text seen in the far text",
}
OTHERS = {"nowhere": "tokens not seen before", "near": "those last seen in the near text"}
PLACES = {place: f"seen {place}" for place in ("far", "near", "nowhere")}


def occurrences(run: OpenRun, found: ClassCurves) -> Finding:
    """Delta by where the target last occurred: a table, no length.

    Args:
        run: The open run.
        found: Its token classes.
    """
    rows, copies = found.occurrences, found.copies
    files = {"findings.json": {"occurrences": records(rows), "copies": records(copies)}}
    nothing = Finding("occurrences", "Where the target last occurred", files=files)
    if not run.has_length or rows.empty:
        return nothing
    tables = [_table(rows, "Delta (nats per token) by where the target last occurred")]
    if len(copies):
        caption = "Delta (nats per token) by where the text that the target continues was seen"
        tables.append(_table(copies, caption))
    main = run.main_condition
    sentence = f"Under {main} no distance has both tokens last seen far and tokens not seen before."
    if pair := _farthest(rows[rows["condition"] == main], "nowhere"):
        far, nowhere = pair
        sentence = (
            f"Under {main} at {between(far)}: {ranged(far, 'delta')} nats where the token was last"
            f" seen in the far text, {ranged(nowhere, 'delta')} where it had not been seen."
        )
    return replace(
        nothing,
        sentence=sentence,
        tables=tables,
        caveats=[
            "Near and far are relative to the boundary, so that a target changes its group with"
            " distance: no length can be read off."
        ],
    )


def last_seen(found: ClassCurves, condition: str) -> str:
    """Tokens last seen in the far text beside the others, at the farthest distance with both.

    Args:
        found: The token classes of a run.
        condition: The condition.
    """
    frames = {"occurrences": found.occurrences, "copies": found.copies}
    for name, subject in SUBJECTS.items():
        rows = frames[name][frames[name]["condition"] == condition]
        for other, called in OTHERS.items():
            pair = _farthest(rows, other)
            if pair is None or any(row[end] is None for row in pair for end in ("low", "high")):
                continue
            far, less = pair
            if less["high"] < far["low"]:
                return (
                    f"Under {condition} at distances {between(far)}, delta is"
                    f" {ranged(far, 'delta')} nats per token for {subject} and"
                    f" {ranged(less, 'delta')} for {called}."
                )
    return ""


def _farthest(rows: pd.DataFrame, other: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """The rows of far and of another place at the farthest octave that has both."""
    cells = {(row["distance_from"], row["where"]): row for row in records(rows)}
    both = [start for start, where in cells if where == "far" and (start, other) in cells]
    return (cells[max(both), "far"], cells[max(both), other]) if both else None


def _table(rows: pd.DataFrame, caption: str) -> Table:
    """Delta by condition and octave, a column for each place."""
    named = rows.assign(where=rows["where"].map(PLACES))
    return pivot(
        caption,
        by_condition(named),
        [name for name in PLACES.values() if (named["where"] == name).any()],
        by="where",
        cell=lambda row: ranged(row, "delta"),
        head={"condition": lambda row: str(row["condition"]), "distance": between},
    )
