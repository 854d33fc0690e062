"""Which tokens need far text, in words: classes whose intervals lie apart, and no others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probe.analysis.record import records
from probe.report.answers import main_condition
from probe.report.explained import Explained, between, frame, ranged

APART = (
    "Values are told apart where their intervals do not meet, each at its own confidence; of many"
    " values the two that lie farthest apart are named."
)
_LAST_SEEN = {
    "occurrences": "tokens that were last seen in the far text",
    "copies": "tokens that go on with text seen in the far text",
}
_OTHERS = {"nowhere": "tokens that were not seen before", "near": "those that were seen near"}


@dataclass(frozen=True)
class Contrast:
    """Two values of a token class whose lengths have intervals that do not meet.

    Args:
        name: The class.
        tolerance: The tolerance of both lengths.
        more: The value that needs more context, and its answer.
        less: The other value, and its answer.
        apart: Lower limit of the one over the upper limit of the other.
    """

    name: str
    tolerance: str
    more: tuple[str, str]
    less: tuple[str, str]
    apart: float

    def text(self) -> str:
        """Both values with their answers."""
        (more, long), (less, brief) = self.more, self.less
        at = self.tolerance.replace("%", " %")
        return f"by {self.name} at {at}, {long} tokens for “{more}”, {brief} for “{less}”"


def which(explained: Explained) -> list[str]:
    """One or two sentences: which tokens need far text, or that no class differs.

    Args:
        explained: The run.

    Returns:
        Nothing for a run without token classes, or without answers for two values of any.
    """
    main = main_condition(explained.summary)
    if main is None or not _classes(explained, main):
        return []
    lines = [seen] if (seen := last_seen(explained, main)) else []
    found = contrasts(explained, main)
    if found:
        best = found[0]
        (more, long), (less, brief) = best.more, best.less
        lines.append(
            f"Of all token classes, lengths lie farthest apart by {best.name}: at a tolerance of"
            f" {best.tolerance.replace('%', ' %')} under {main} {long} tokens for “{more}” and"
            f" {brief} for “{less}”."
        )
    elif not lines and _resolved(explained, main):
        lines.append(
            f"No class of tokens is told from another under {main}: all their intervals meet."
        )
    return lines


def contrasts(explained: Explained, condition: str) -> list[Contrast]:
    """The farthest pair of values of each class, the farthest of all first.

    Args:
        explained: The run.
        condition: The condition of the lengths.
    """
    columns = ("class", "value", "condition", "tolerance", "kind", "text", "low", "high")
    every = frame(explained, "class_contexts", *columns)
    every = every[(every["condition"] == condition) & (every["kind"] != "unresolved")]
    best: dict[str, Contrast] = {}
    for (name, tolerance), rows in every.groupby(["class", "tolerance"], sort=False):
        found = _apart(str(name), str(tolerance), records(rows))
        if found and (found.name not in best or found.apart > best[found.name].apart):
            best[found.name] = found
    return sorted(best.values(), key=lambda found: -found.apart)


def class_finding(explained: Explained, condition: str) -> str:
    """What the classes tell of a condition, class by class."""
    found = contrasts(explained, condition)
    rest = [
        name for name in _classes(explained, condition) if name not in {one.name for one in found}
    ]
    parts = [one.text() for one in found]
    if rest and _resolved(explained, condition):
        parts.append(f"no value is told from another in {', '.join(rest)}")
    return f"Effective context under {condition}: {'; '.join(parts)}." if parts else ""


def last_seen(explained: Explained, condition: str) -> str:
    """Tokens last seen in the far text beside the others, at the farthest distance with both."""
    for name, subject in _LAST_SEEN.items():
        columns = ("condition", "distance_from", "distance_to", "where", "delta", "low", "high")
        rows = frame(explained, name, *columns)
        rows = rows[rows["condition"] == condition]
        cells = {(row["distance_from"], row["where"]): row for row in records(rows)}
        for other, called in _OTHERS.items():
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


def _classes(explained: Explained, condition: str) -> list[str]:
    rows = frame(explained, "class_contexts", "class", "condition")
    return list(dict.fromkeys(rows.loc[rows["condition"] == condition, "class"].astype(str)))


def _resolved(explained: Explained, condition: str) -> bool:
    """Whether two values of any class have answers that could differ."""
    rows = frame(explained, "class_contexts", "class", "condition", "tolerance", "kind")
    rows = rows[(rows["condition"] == condition) & (rows["kind"] != "unresolved")]
    return bool((rows.groupby(["class", "tolerance"]).size() > 1).any())


def _apart(name: str, tolerance: str, rows: Sequence[dict[str, Any]]) -> Contrast | None:
    """The highest lower limit beside the lowest upper limit, where they do not meet."""
    long = max(
        (row for row in rows if not pd.isna(row["low"])), key=lambda row: row["low"], default=None
    )
    short = min(
        (row for row in rows if not pd.isna(row["high"])),
        key=lambda row: row["high"],
        default=None,
    )
    if long is None or short is None or long["low"] <= short["high"]:
        return None
    pairs = [(str(row["value"]), str(row["text"])) for row in (long, short)]
    return Contrast(name, tolerance, pairs[0], pairs[1], long["low"] / max(1, short["high"]))
