"""A comparison as plain values, for programs; ``docs/schemas/compare.json`` describes them."""

from collections.abc import Sequence
from typing import Any

from probe.analysis.open_run import OpenRun
from probe.findings.compare.comparison import Comparison
from probe.findings.compare.conclusion import sentence
from probe.findings.compare.finding import COLUMNS, run_table
from probe.findings.compare.matched import confounds, in_common, matched
from probe.findings.compare.pivot import Value, cells
from probe.findings.table import records

SCHEMA = 1
"""Version of the document; a key that is there stays."""
_ABOUT = [name for name in COLUMNS if name != "condition"]


def comparison_record(
    runs: Sequence[OpenRun], value: Value, comparison: Comparison | None = None
) -> dict[str, Any]:
    """What `probe compare --json` prints.

    Args:
        runs: The runs.
        value: What the cells hold.
        comparison: The comparison of two runs.

    Returns:
        ``runs`` (one an entry, with its intact loss), ``cells`` (every condition and tolerance of
        every run, columns :data:`probe.findings.compare.pivot.CELL_COLUMNS`), ``notes`` on how the
        runs are matched, and ``difference``, which is ``None`` but of two runs.
    """
    table = records(run_table(runs)[_ABOUT])
    kinds = [run.folder.kind for run in runs]
    return {
        "schema": SCHEMA,
        "runs": [
            {**row, "protocol": kind, "confidence": run.analysis.confidence}
            for row, kind, run in zip(table, kinds, runs, strict=True)
        ],
        "value": "length" if value.octave is None else f"delta@{value.octave}",
        "cells": records(cells(runs, value)),
        "notes": [*filter(None, [in_common(runs)]), *confounds(runs), *matched(runs)],
        "difference": None if comparison is None else _difference(comparison),
    }


def _difference(comparison: Comparison) -> dict[str, Any]:
    frames = ("far", "octaves", "contexts", "losses", "patterns", "accuracy")
    return {
        "a": comparison.a,
        "b": comparison.b,
        "sentence": sentence(comparison),
        "comparable": not comparison.hindrance,
        "pairing": comparison.pairing,
        "confidence": comparison.confidence,
        "condition": comparison.condition,
        "unit": comparison.unit,
        **{name: records(getattr(comparison, name)) for name in frames},
        "notes": list(comparison.notes),
    }
