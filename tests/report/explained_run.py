"""An explained run for the page: a real summary, and small made-up frames around it."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from probe.analysis.answer import in_order
from probe.analysis.floor import is_noise
from probe.analysis.summary import Summary

EDGES = [0, 8, 16, 32, 64, 128, 256, 512, 1024]


@dataclass(frozen=True)
class Fit:
    """Intact loss by position."""

    table: pd.DataFrame
    floor: float = 2.1
    scale: float = 3.0
    exponent: float = 0.4
    rises: bool = False
    text: str = "2.10 + 3.00 · position^−0.40 nats"


def empty() -> pd.DataFrame:
    return pd.DataFrame()


@dataclass(frozen=True)
class Explained:
    """The fields of an explained run."""

    summary: Summary
    classes: pd.DataFrame = field(default_factory=empty)
    class_contexts: pd.DataFrame = field(default_factory=empty)
    class_counts: pd.DataFrame = field(default_factory=empty)
    occurrences: pd.DataFrame = field(default_factory=empty)
    copies: pd.DataFrame = field(default_factory=empty)
    information: pd.DataFrame = field(default_factory=empty)
    tolerance_curve: pd.DataFrame = field(default_factory=empty)
    hinges: pd.DataFrame = field(default_factory=empty)
    quantiles: pd.DataFrame = field(default_factory=empty)
    positions: Fit | None = None
    detectable: pd.DataFrame = field(default_factory=empty)


def explained(summary: Summary, *, name: str = "frequency") -> Explained:
    """Every part of the page has something to show; *name* is what a class is called."""
    conditions = in_order(
        str(c) for c in summary.curve["condition"].unique() if not is_noise(str(c))
    )
    return Explained(
        summary,
        classes=_classes(summary, name),
        class_contexts=_class_contexts(summary, conditions, name),
        class_counts=pd.DataFrame(
            {
                "class": [name, name, "copy"],
                "value": ["top 10 %", "rest", "yes"],
                "targets": [20000, 4000, 12],
                "share": [0.83, 0.17, 0.0],
                "documents": [24, 24, 3],
            }
        ),
        occurrences=_octaves(conditions, where=["near", "far", "nowhere"]),
        copies=_octaves(conditions, where=["near", "far"]),
        information=_information(conditions),
        tolerance_curve=_tolerances(conditions),
        hinges=pd.DataFrame(
            {
                "condition": conditions,
                "hinge": pd.array([700.0] * len(conditions)),
                "low": 500.0,
                "high": np.nan,
                "slope": 0.05,
                "intercept": 0.6,
                "residual": 0.01,
                "kind": "greater",
                "text": "> 500 (estimate 700; open above)",
            }
        ),
        quantiles=_quantiles(conditions),
        positions=_positions(summary),
        detectable=_octaves(conditions).assign(
            detectable=lambda rows: 0.004 + 0.1 / (1 + rows["distance_from"]),
            standard_error=0.002,
        ),
    )


def _classes(summary: Summary, name: str) -> pd.DataFrame:
    rows = summary.curve[~summary.curve["grey"] & ~summary.curve["condition"].map(is_noise)]
    parts = []
    for value, factor in (("top 10 %", 0.7), ("rest", 1.8)):
        part = rows.assign(value=value)
        for column in ("delta", "low", "high", "fit"):
            part[column] = part[column] * factor
        parts.append(part)
    return pd.concat(parts, ignore_index=True).assign(**{"class": name})


def _class_contexts(summary: Summary, conditions: list[str], name: str) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for condition in conditions:
        for tolerance in ("1%", "2%"):
            for value in ("top 10 %", "rest"):
                rows.append(
                    {
                        "class": name,
                        "value": value,
                        "condition": condition,
                        "tolerance": tolerance,
                        "kind": "number",
                        "text": "512 (448–640)",
                        "reasons": "",
                    }
                )
            rows.append(
                {
                    "class": "copy",
                    "value": "yes",
                    "condition": condition,
                    "tolerance": tolerance,
                    "kind": "unresolved",
                    "text": "unresolved (3 documents, at least 6 needed)",
                    "reasons": "3 documents, at least 6 needed",
                }
            )
    return pd.DataFrame(rows)


def _octaves(conditions: list[str], **others: list[str]) -> pd.DataFrame:
    rows = []
    for condition in conditions:
        for start, end in pairwise(EDGES):
            for where in others.get("where", [""]):
                size = {"far": 2.0, "near": 0.6, "nowhere": 0.3, "": 1.0}[where]
                delta = size * 0.8 / (1 + start) ** 0.5
                rows.append((condition, start, end, where, delta, delta * 0.7, delta * 1.3))
    columns = ["condition", "distance_from", "distance_to", "where", "delta", "low", "high"]
    return pd.DataFrame(rows, columns=columns).assign(targets=500, documents=24)


def _information(conditions: list[str]) -> pd.DataFrame:
    rows = _octaves([c for c in conditions if c != "truncate"])
    rows = rows.assign(ratio=1 + rows["delta"], low=0.6, high=1.4 + rows["delta"], reason="")
    rows["resolved"] = rows["distance_from"] < 512
    rows.loc[~rows["resolved"], ["ratio", "low", "high"]] = np.nan
    rows.loc[~rows["resolved"], "reason"] = "the interval of truncate contains 0"
    return rows.drop(columns=["where", "delta"])


def _tolerances(conditions: list[str]) -> pd.DataFrame:
    rows = []
    for condition in conditions:
        for tolerance in np.geomspace(0.001, 1, 25):
            length = None if tolerance < 0.01 else int(8 / tolerance)
            low = 400 if length is None else int(length * 0.7)
            high = None if length is None or length > 600 else int(length * 1.4)
            kind = "unresolved" if tolerance < 0.002 else "greater" if high is None else "number"
            rows.append((condition, tolerance, np.log1p(tolerance), kind, length, low, high))
    columns = ["condition", "tolerance", "epsilon", "kind", "length", "low", "high"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype(dict.fromkeys(["length", "low", "high"], "Int64"))


def _quantiles(conditions: list[str]) -> pd.DataFrame:
    rows = _octaves(conditions)
    shares = {"q01": -1, "q05": -0.4, "q25": -0.05, "q50": 0.01, "q75": 0.3, "q95": 2, "q99": 6}
    return rows.assign(**{name: rows["delta"] * size for name, size in shares.items()})


def _positions(summary: Summary) -> Fit:
    table = summary.losses.by_position.copy()
    for column, factor in (("low", 0.95), ("high", 1.05), ("fit", 1.0)):
        table[column] = table["loss"] * factor
    return Fit(table)
