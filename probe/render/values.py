"""Findings as plain values, for JSON: what ``docs/schemas/report.json`` describes."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from probe.analysis.open_run import OpenRun
from probe.findings.base import Finding


def run_values(
    run: OpenRun, findings: Sequence[Finding], files: Iterable[Path], page: Path | None
) -> dict[str, Any]:
    """What is said of one run.

    Args:
        run: The open run.
        findings: Its findings.
        files: Files that were written of it, beside the page.
        page: Its page; ``None`` where it could not be written.
    """
    return {
        "run": str(run.path),
        "name": run.name,
        "protocol": run.folder.kind,
        "model": run.model,
        "data": run.data,
        "documents": len(run.documents),
        "windows": run.windows,
        "targets": run.targets,
        "unit": run.unit,
        "confidence": run.analysis.confidence,
        "answers": [{**asdict(one), "text": one.text()} for one in run.contexts],
        "findings": [finding_values(one) for one in findings],
        "warnings": list(run.warnings),
        "files": [str(file) for file in dict.fromkeys(files)],
        "page": None if page is None else str(page),
    }


def finding_values(finding: Finding) -> dict[str, Any]:
    """One finding: its words, and its tables with their cells as they are shown.

    Args:
        finding: The finding.
    """
    return {
        "id": finding.id,
        "title": finding.title,
        "level": finding.level,
        "sentence": finding.sentence,
        "more": list(finding.more),
        "headlines": list(finding.headlines),
        "basis": finding.basis,
        "caveats": list(finding.caveats),
        "notes": list(finding.notes),
        "tables": [
            {
                "caption": table.caption,
                "columns": list(table.headers),
                "rows": [list(row) for row in table.rows],
            }
            for table in finding.tables
        ],
        "files": list(finding.files),
    }
