"""Runs that tests open: what is said of them, and stand-ins of which some parts are made up."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from probe.analysis.fit import FittedCurve
from probe.analysis.open_run import OpenRun, open_run
from probe.analysis.settings import Analysis
from probe.findings.base import Finding, findings, write_files
from probe.render.terminal import answers
from probe.results.record import Record, read_record

Work = Callable[..., Any]


def opened(folder: Path, *, write: bool = False, **how: Any) -> OpenRun:
    """An open run that writes nothing; fields of its analysis settings can be changed by name."""
    classes = how.pop("classes", None)
    analysis = replace(
        Analysis.from_record(Record.model_validate(read_record(folder / "run.json"))), **how
    )
    return open_run(folder, analysis=analysis if how else None, classes=classes, write=write)


def changed(run: OpenRun, **parts: Any) -> OpenRun:
    """The run, with parts of it made up: ``floor``, ``starts`` and others that it works out."""
    for name, value in parts.items():
        setattr(run, name, value)
    return run


def saying(run: OpenRun, said: Mapping[Work, Any]) -> OpenRun:
    """The run, with made-up answers of functions that are asked of a run once."""
    run._known |= said
    return run


def of_curves(fitted: Mapping[str, FittedCurve], **parts: Any) -> Any:
    """A run of which only the fitted curves are there."""
    defaults = {
        "analysis": Analysis(tolerances=()),
        "floor": None,
        "bytes_per_token": None,
        "length_change": 0.0,
    }
    return SimpleNamespace(fitted=fitted, **(defaults | parts))


def answer(run: OpenRun) -> str:
    """What `probe run` prints of a run."""
    return "\n\n".join(answers(findings(run, brief=True)))


def by_id(run: OpenRun, **how: Any) -> dict[str, Finding]:
    """The findings of a run that show something, by their address on the page."""
    return {finding.id: finding for finding in findings(run, **how) if finding.shown}


def written(folder: Path, **how: Any) -> OpenRun:
    """A run after its files were written, as `probe report` does."""
    run = opened(folder, write=True, **how)
    write_files(run, findings(run))
    return run
