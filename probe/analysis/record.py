"""The files that keep what was found: ``curve.csv``, ``summary.json``, and every other CSV file."""

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from probe.analysis.floor import NoiseFloor
from probe.results.csv_files import write_csv
from probe.results.files import write_text

if TYPE_CHECKING:
    from probe.analysis.summary import Summary


def write_summary(summary: "Summary") -> None:
    """Write ``curve.csv`` and ``summary.json`` into the run folder, each whole or not at all."""
    write_csv(summary.run.path / "curve.csv", summary.curve)
    text = json.dumps(to_record(summary), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(summary.run.path / "summary.json", text + "\n")


def to_record(summary: "Summary") -> dict[str, Any]:
    """The content of ``summary.json``: plain values, numbers to eight digits, no NaN.

    Returns:
        A dictionary that :mod:`json` can write; missing numbers are ``None``.
    """
    octaves = summary.contrasts[summary.contrasts["scale"] == "octave"]
    record = {
        "run": summary.run.name,
        "status": summary.run.record.get("status"),
        "model": summary.model,
        "data": summary.data,
        "documents": summary.documents,
        "windows": summary.windows,
        "targets": summary.targets,
        "reach": summary.reach,
        "far": {"shortest": summary.far[0], "longest": summary.far[1]},
        "analysis": {
            **asdict(summary.analysis),
            "tolerances": [tolerance.text for tolerance in summary.analysis.tolerances],
        },
        "effective_context": [
            {**asdict(context), "text": context.text()} for context in summary.contexts
        ],
        "noise_floor": None if summary.floor is None else _floor(summary.floor),
        "losses": {
            "by_condition": records(summary.losses.by_condition),
            "by_position": records(summary.losses.by_position),
            "by_quarter": records(summary.losses.by_quarter),
            "worsening": summary.losses.worsening,
        },
        "contrasts": records(octaves.drop(columns="scale")),
        "reading": records(summary.reading),
        "tails": records(summary.tails),
        "document_lengths": records(summary.lengths),
        "documents_spread": records(summary.spread),
        "without_group": records(summary.without_group),
        "flags": summary.flags,
        "warnings": summary.warnings,
    }
    found: dict[str, Any] = plain(record)
    return found


def _floor(floor: NoiseFloor) -> dict[str, Any]:
    octaves = pd.DataFrame(
        {
            "distance_from": floor.lower,
            "distance_to": floor.upper,
            "limit": floor.limit,
            "targets": floor.targets,
        }
    )
    return {"condition": floor.condition, "octaves": records(octaves)}


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as dictionaries, missing values as ``None``."""
    values = frame.astype(object).where(frame.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in values.to_dict("records")]


def plain(value: Any) -> Any:
    """The value in JSON's own types: what is not finite is ``None``, floats have eight digits."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value
