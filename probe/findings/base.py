"""A finding: one answered question of a run, as plain values; the list of all, and their files.

A finding is a file of this package. It registers a function from an open run to a
:class:`Finding`, and what `probe plot` can draw of it; no renderer and no command knows it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, Literal

import pandas as pd

from probe.analysis.open_run import OpenRun
from probe.analysis.scan import Counter
from probe.errors import UsageError
from probe.findings.chart import Chart
from probe.findings.table import Table
from probe.results.files import csv_text, write_text
from probe.text import json_text, suggestion

Files = Mapping[str, pd.DataFrame | dict[str, Any]]
"""Files of a run folder by name: a frame is a CSV file; a dictionary is a JSON file, or a part of
one that several findings share."""
Level = Literal["answer", "brief", "detail"]
"""When a finding is worked out and where it is told: an ``answer`` leads, `run` prints it too;
``brief`` is worked out by `run`, for the files of the run folder, and told by `report`; ``detail``
is worked out and told by `report` alone."""


@dataclass(frozen=True)
class Marks:
    """Tokens that the token explorer marks.

    Args:
        rule: Which tokens these are, in words.
        title: What a token says of itself, ``None`` if it is not marked; by its delta and its
            intact loss (nats).
        rows: SQL: which rows of the view ``targets`` take part.
    """

    rule: str
    title: Callable[[float, float], str | None]
    rows: str = "NOT grey"


@dataclass(frozen=True, eq=False)
class Finding:
    """What was found, as plain values: no drawing and no printing.

    Args:
        id: Its address on the page.
        title: Its heading.
        sentence: What was found, one sentence.
        basis: What it rests on.
        tables: Its tables, in the order of reading.
        charts: Its charts.
        caveats: What limits it, one line each.
        more: Sentences that stand below the first.
        headlines: Sentences that are told beside the run's answer.
        notes: What could not be worked out, told with the caveats of the run's answer.
        files: What it keeps in the run folder.
        marks: Tokens that the token explorer marks.
        terms: What words mean that are used here, or in other findings of the run; the page says
            it where a word is first used.
        level: Where it is told; by default as it is registered.
        order: Its place among the findings; set by :func:`findings`.
    """

    id: str
    title: str
    sentence: str = ""
    basis: str = ""
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    caveats: Sequence[str] = ()
    more: Sequence[str] = ()
    headlines: Sequence[str] = ()
    notes: Sequence[str] = ()
    files: Files = field(default_factory=dict)
    marks: Marks | None = None
    terms: Mapping[str, str] = field(default_factory=dict)
    level: Level | None = None
    order: int = 0

    @property
    def shown(self) -> bool:
        """Whether there is anything to show; else it is files, headlines, notes and terms alone."""
        return bool(self.sentence or self.tables or self.charts)


@dataclass(frozen=True)
class Option:
    """An option that `probe plot` has for some kinds of figure.

    Args:
        flag: As it is written, ``--by``.
        name: The keyword under which charts get its value.
        help: What it does.
        choices: What is allowed; without any, every text.
        default: Its value where it is not given.
        type: Of the value.
        metavar: What stands for the value in the help.
    """

    flag: str
    name: str
    help: str
    choices: Sequence[str] = ()
    default: Any = None
    type: type = str
    metavar: str | None = None


CONDITION = Option(
    "--condition",
    "condition",
    "Only this condition, such as 'shuffle(span=20)'.",
    metavar="C",
)

Drawing = Chart | Sequence[Chart]
"""One chart, or several below one another in one figure."""
Drawn = Iterator[tuple[str, Drawing]]
"""Figures, each with what its file's name has behind the kind: nothing, or a token class."""


@dataclass(frozen=True)
class Plot:
    """A kind of figure that `probe plot` draws.

    Args:
        kind: The name behind ``--kind``. Where a run's answer has a figure of its own for the kind,
            it is drawn in place of another finding's.
        charts: What it draws of some runs, given the values of its options by keyword.
        runs: How many runs it takes; ``None`` is any number.
        options: Its options.
        finding: Name of the finding that it is of; set when that is registered.
    """

    kind: str
    charts: Callable[..., Drawn]
    runs: int | None = 1
    options: Sequence[Option] = ()
    finding: str = ""


def only(frame: pd.DataFrame, column: str, value: str | None, option: str) -> pd.DataFrame:
    """The rows with a value, all where none is asked for.

    Args:
        frame: The rows.
        column: Where the value stands.
        value: The value.
        option: What asked for it, for the error.

    Raises:
        UsageError: If no row has it.
    """
    if value is None:
        return frame
    rows = frame[frame[column] == value]
    if rows.empty:
        known = list(dict.fromkeys(frame[column].astype(str)))
        hint = suggestion(value, known, f"allowed: {', '.join(known) or 'none'}")
        raise UsageError(f"{option} '{value}' was not found{hint}")
    return rows


Work = Callable[[OpenRun, Sequence[OpenRun]], Finding | None]


@dataclass(frozen=True)
class Entry:
    """A registered finding.

    Args:
        name: Its name; a protocol names the finding that answers it by it.
        work: From a run, and the other runs that are told of with it, to the finding; ``None``
            where it says nothing of this run.
        order: Its place among the findings.
        level: When it is worked out.
        plots: What can be drawn of it on request.
        counts: What counts the rows for it, so that it need not read them again.
        losses: Whether it is about losses, and says nothing of a run without.
    """

    name: str
    work: Work
    order: int
    level: Level
    plots: Sequence[Plot]
    counts: Callable[[OpenRun], Counter] | None = None
    losses: bool = True


WorkOfAll = Callable[[Sequence[OpenRun], Sequence[Sequence[Finding]]], Finding | None]
"""From several runs, and the findings of each, to one about all; ``None`` where there is none."""


_ENTRIES: dict[str, Entry] = {}
_OF_ALL: dict[str, tuple[WorkOfAll, Sequence[Plot]]] = {}


def register(
    name: str,
    *,
    order: int,
    level: Level = "detail",
    plots: Sequence[Plot] = (),
    counts: Callable[[OpenRun], Counter] | None = None,
    losses: bool = True,
) -> Callable[[Work], Work]:
    """Register a function as the finding of this name; a name that comes again is replaced.

    Args:
        name: Its name.
        order: Its place among the findings; the answer is below 100.
        level: When it is worked out.
        plots: What `probe plot` can draw of it.
        counts: What counts the rows for it as a run is opened.
        losses: Whether it is about losses, and says nothing of a run without.
    """

    def enter(work: Work) -> Work:
        own = tuple(replace(plot, finding=name) for plot in plots)
        _ENTRIES[name] = Entry(name, work, order, level, own, counts, losses)
        return work

    return enter


def entries() -> list[Entry]:
    """All registered findings in their order; those of this package are imported for that."""
    package = import_module("probe.findings")
    for module in walk_packages(package.__path__, "probe.findings."):
        import_module(module.name)
    return sorted(_ENTRIES.values(), key=lambda entry: entry.order)


def counters(run: OpenRun) -> list[Counter]:
    """What counts the rows for all findings, to be handed to ``open_run``."""
    if not run.has_losses:
        return []
    return [entry.counts(run) for entry in entries() if entry.counts is not None]


def plots() -> list[Plot]:
    """All that can be drawn on request, in the order of the findings."""
    of_one = [plot for entry in entries() for plot in entry.plots]
    return of_one + [plot for _, own in _OF_ALL.values() for plot in own]


def choose(known: Sequence[Plot], runs: Sequence[OpenRun], kind: str, flag: str = "--kind") -> Plot:
    """What draws a kind of figure of these runs: where it has one, the finding that answers them.

    Args:
        known: All that draw the kind.
        runs: The runs.
        kind: The kind.
        flag: What stands before a kind where it is asked for.

    Raises:
        UsageError: If the runs have no such figure, or too many runs are given.
    """
    answers = {
        run.folder.kind: plot for run in runs for plot in known if run.is_answered_by(plot.finding)
    }
    without = [run for run in runs if not run.has_length]
    protocol = without[0].folder.kind if without else None
    if without and protocol not in answers:
        raise UsageError(
            f"{flag} {kind}: a run with protocol {protocol} has no lengths; allowed: {flag} curve"
        )
    if without and any(run.folder.kind != protocol for run in runs):
        raise UsageError(
            f"{flag} {kind}: some of the runs have protocol {protocol}; allowed: all or none"
        )
    plot = answers[protocol] if without else next(iter(known))
    if plot.runs is not None and len(runs) > plot.runs:
        raise UsageError(f"{flag} {kind}: of protocol {protocol} one run is drawn; got {len(runs)}")
    return plot


def findings(run: OpenRun, others: Sequence[OpenRun] = (), *, brief: bool = False) -> list[Finding]:
    """Work out what is to be said of a run.

    Args:
        run: The open run.
        others: Other runs that are told of with it.
        brief: Only what `probe run` tells and keeps.

    Returns:
        The findings in their order, those that answer the run before all others.
    """
    found = []
    for entry in entries():
        if brief and entry.level == "detail":
            continue
        if entry.losses and not run.has_losses:
            continue
        with run.reading():
            finding = entry.work(run, others)
        if finding is None:
            continue
        caveat, caveats = run.length_caveat, finding.caveats
        if finding.shown and caveat and caveat not in caveats:  # a finding may be read alone
            caveats = [*caveats, caveat]
        level = finding.level or entry.level
        found.append(replace(finding, level=level, order=entry.order, caveats=caveats))
    return sorted(found, key=lambda finding: finding.level != "answer")  # stable


def register_of_all(name: str, *, plots: Sequence[Plot] = ()) -> Callable[[WorkOfAll], WorkOfAll]:
    """Register a function as a finding about several runs together.

    Args:
        name: Its name; one that comes again is replaced.
        plots: What `probe plot` can draw of it.
    """

    def enter(work: WorkOfAll) -> WorkOfAll:
        _OF_ALL[name] = work, [replace(plot, finding=name) for plot in plots]
        return work

    return enter


def findings_of_all(
    runs: Sequence[OpenRun], findings_of_each: Sequence[Sequence[Finding]]
) -> list[Finding]:
    """What is to be said of several runs together, where two of them or more measure losses.

    Args:
        runs: The open runs.
        findings_of_each: The findings of each.
    """
    entries()
    pairs = [pair for pair in zip(runs, findings_of_each, strict=True) if pair[0].has_losses]
    if len(pairs) < min(2, len(runs)):
        return []
    runs, findings_of_each = zip(*pairs, strict=True)
    together = (work(runs, findings_of_each) for work, _ in _OF_ALL.values())
    return [finding for finding in together if finding is not None]


def refuse_without_losses(runs: Iterable[OpenRun]) -> None:
    """Refuse runs that measure no loss where losses are compared.

    Raises:
        UsageError: If there is one.
    """
    for run in runs:
        if not run.has_losses:
            raise UsageError(
                f"run '{run.path}' measures {run.folder.reading.measure} and no loss; allowed: "
                "runs whose losses can be compared"
            )


def write_files(run: OpenRun, findings: Iterable[Finding]) -> list[Path]:
    """Write the files of some findings into the run folder, each whole or not at all.

    Args:
        run: The run.
        findings: Its findings.

    Returns:
        The files that are there now, in the order of the findings.
    """
    texts = file_texts(findings)
    for name, text in texts.items():
        write_text(run.path / name, text)
    return [file for name in texts if (file := run.path / name).is_file()]


def file_texts(findings: Iterable[Finding]) -> dict[str, str]:
    """The files of some findings by name, as they are written.

    Args:
        findings: Findings of one run; parts of one JSON file are put together, and lists that stand
            under the same key are joined.

    Returns:
        CSV and JSON, in the order of the findings.
    """
    tables: dict[str, pd.DataFrame] = {}
    parts: dict[str, dict[str, Any]] = {}
    names: dict[str, None] = {}
    for finding in findings:
        for name, content in finding.files.items():
            names[name] = None
            if isinstance(content, pd.DataFrame):
                tables[name] = content
            else:
                _join(parts.setdefault(name, {}), content)
    return {
        name: csv_text(tables[name]) if name in tables else json_text(parts[name]) for name in names
    }


def _join(whole: dict[str, Any], part: dict[str, Any]) -> None:
    for key, value in part.items():
        known = whole.get(key)
        if isinstance(known, list | tuple) and isinstance(value, list | tuple):
            whole[key] = [*known, *value]
        else:
            whole[key] = value
