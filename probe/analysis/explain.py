"""An explained run: which tokens need far context, what kind of information it is, how surely."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from probe.analysis.fit import fitted_curves
from probe.analysis.information import Information, information_findings
from probe.analysis.opened import opened
from probe.analysis.positions import PositionFit
from probe.analysis.settings import Analysis
from probe.analysis.summary import Summary, summarise
from probe.analysis.sums import document_sums
from probe.classes.choice import is_user
from probe.classes.findings import ClassFindings, class_findings
from probe.classes.table import classify, default_classes
from probe.findings.table import plain, records
from probe.results.csv_files import write_csv
from probe.results.files import write_text
from probe.results.folder import connected


@dataclass(frozen=True, eq=False)
class Explanation:
    """All that is said of a run; distances in tokens, losses and deltas in nats a token.

    Args:
        summary: The answer: curves, effective contexts, contrasts.
        classes: Curves by token class, columns :data:`probe.classes.findings.CURVES`.
        class_contexts: Effective contexts by token class, columns
            :data:`probe.classes.findings.CONTEXTS`.
        class_counts: ``class, value, targets, share, documents``; every scored target once.
        occurrences: Delta by octave and by where the target's token last stood.
        copies: The same by where the text that the target continues was seen.
        information: Ablated information by octave.
        tolerance_curve: Length at every tolerance.
        hinges: Where a bent line through each curve reaches the ground.
        quantiles: Quantiles of delta by octave.
        positions: Intact loss by position, ``None`` where it was not measured.
        detectable: Smallest mean delta that would be found, by bin.
        notes: What is missing and what limits these, one line each.
    """

    summary: Summary
    classes: pd.DataFrame
    class_contexts: pd.DataFrame
    class_counts: pd.DataFrame
    occurrences: pd.DataFrame
    copies: pd.DataFrame
    information: pd.DataFrame
    tolerance_curve: pd.DataFrame
    hinges: pd.DataFrame
    quantiles: pd.DataFrame
    positions: PositionFit | None
    detectable: pd.DataFrame
    notes: tuple[str, ...]


def explain(
    run_dir: str | Path,
    *,
    analysis: Analysis | None = None,
    classes: Sequence[str] | None = None,
    write: bool = True,
) -> Explanation:
    """Read a run folder and work out all that is said of it.

    Args:
        run_dir: The run folder.
        analysis: How to read it; by default what its configuration says.
        classes: Token classes as text, such as ``last_occurrence(edges=[1, 64, 512])`` or
            ``my.py:rare``; by default those of its configuration that are no code, else the
            built-in ones that need nothing else.
        write: Whether to write ``summary.json``, ``curve.csv``, ``findings.json`` and
            ``classes.csv`` into the folder.

    Returns:
        The explanation.

    Raises:
        ProbeError: If the folder cannot be read, or holds no score.
        UsageError: If a tolerance or a token class is not understood.
    """
    summary = summarise(run_dir, analysis=analysis, write=write)
    run, how = summary.run, summary.analysis
    asked = how.classes if classes is None else tuple(classes)
    refused: tuple[str, ...] = ()
    if classes is None and analysis is None:
        asked, refused = _without_code(asked)
    with connected(run, checked=False) as connection:
        by_class, information = _findings(summary, connection, asked, write)
    found = Explanation(
        summary=summary,
        classes=by_class.curves,
        class_contexts=by_class.contexts,
        class_counts=by_class.counts,
        occurrences=by_class.occurrences,
        copies=by_class.copies,
        information=information.information,
        tolerance_curve=information.tolerance_curve,
        hinges=information.hinges,
        quantiles=information.quantiles,
        positions=information.positions,
        detectable=information.detectable,
        notes=(*by_class.notes, *information.notes, *refused),
    )
    if write:
        _write(found)
    return found


def _without_code(
    names: Sequence[str] | None,
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Leave out the files that a run folder names: it may come from anyone, and they are code."""
    if names is None:
        return None, ()
    refused = tuple(
        f"token class {name!r} is named by run.json and was not run, because it is code; to run "
        f"it: --class {name}"
        for name in names
        if is_user(name)
    )
    return tuple(name for name in names if not is_user(name)) or None, refused


def _findings(
    summary: Summary,
    connection: duckdb.DuckDBPyConnection,
    classes: Sequence[str] | None,
    write: bool,
) -> tuple[ClassFindings, Information]:
    """Open the run once more: the same curves, drawn with the same documents."""
    run, how = summary.run, summary.analysis
    found = opened(connection, run, how, floor=summary.floor)
    rows = document_sums(connection, found.edges, found.starts)
    fitted = fitted_curves(rows, found.documents, found.weights, how.confidence)
    information = information_findings(found, fitted, summary.losses)
    names = default_classes(run) if classes is None else classes
    return class_findings(found, classify(run, names, write=write)), information


def _write(found: Explanation) -> None:
    """Write ``findings.json`` and ``classes.csv``, each whole or not at all."""
    folder = found.summary.run.path
    write_csv(folder / "classes.csv", found.classes)
    record: dict[str, Any] = {"run": found.summary.run.name, "notes": found.notes}
    for field in fields(found):
        value = getattr(found, field.name)
        if isinstance(value, pd.DataFrame) and field.name != "classes":
            record[field.name] = records(value)
    if found.positions is not None:
        law = {**vars(found.positions), "table": records(found.positions.table)}
        record["positions"] = law
    text = json.dumps(plain(record), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / "findings.json", text + "\n")
