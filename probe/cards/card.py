"""The card of a run: its answer with all that is needed to cite it and to check it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from probe.analysis.open_run import OpenRun
from probe.cards.papers import bibtex
from probe.cards.private import shareable, shorten
from probe.cards.row_hash import HOW, PROTECTS, row_hash
from probe.findings.answer import counts, summary_record
from probe.findings.base import Finding
from probe.findings.table import Table
from probe.results.record import Record

SCHEMA = 1
"""Version of the card's JSON."""
_MODEL = ("name", "path", "revision", "class", "parameters", "dtype", "attention")
_DATA = ("name", "path", "data_files", "revision", "split")
_CHECK = ("technique", "passed", "mean", "worst", "unit")


@dataclass(frozen=True)
class Answer:
    """What a finding of the run answers, in words.

    Args:
        sentences: What was found.
        basis: What it rests on.
        tables: Its tables, as captions, headers and rows.
        caveats: What limits it, one line each.
    """

    sentences: tuple[str, ...]
    basis: str
    tables: tuple[Table, ...]
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """A run as it is cited; nothing in it names a path of the machine that it was made on.

    Args:
        run: Name of the run.
        status: ``complete``, or that something is missing.
        answers: The answers, the first being the run's own.
        effective_context: The lengths by condition and tolerance, as in ``summary.json``.
        unit: What lengths are counted in: ``tokens`` or ``ms``.
        model: Its name, where it is from, and the commit or hash of its weights.
        data: Its name, where it is from, and how much of it was measured.
        protocol: The protocol's options.
        windows: How windows were cut.
        conditions: Canonical texts of the conditions.
        settings: First token, repeats, seed, measures, and how the run is read.
        check: Outcomes of the self-check (nats, where no unit is said).
        versions: Versions that scored the run.
        rows: Number and hash of the rows, how it is made, and what it is good for.
        bibtex: BibTeX of this tool and of the papers behind protocol and conditions.
    """

    run: str
    status: str
    answers: tuple[Answer, ...]
    effective_context: tuple[dict[str, Any], ...]
    unit: str
    model: dict[str, Any]
    data: dict[str, Any]
    protocol: dict[str, Any]
    windows: dict[str, Any]
    conditions: tuple[str, ...]
    settings: dict[str, Any]
    check: tuple[dict[str, Any], ...]
    versions: dict[str, Any]
    rows: dict[str, Any]
    bibtex: str

    def record(self) -> dict[str, Any]:
        """The card as JSON has it."""
        content = asdict(self)
        for answer in content["answers"]:
            keep = ("caption", "headers", "rows")
            answer["tables"] = [{name: table[name] for name in keep} for table in answer["tables"]]
        return {"schema": SCHEMA, **content}


def make_card(run: OpenRun, found: Sequence[Finding]) -> Card:
    """Put together what is said of a run when it is shared.

    Args:
        run: The open run.
        found: Its findings; those that answer it are told.
    """
    record = shareable(run.record)
    facts = Record.model_validate(record)
    config, told = facts.config, record.get("config") or {}
    conditions = tuple(facts.plan.conditions)
    rows = row_hash(run.folder.parts)
    return Card(
        run=run.name,
        status=facts.status or "unfinished",
        answers=_answers(found, lengths=bool(run.contexts)),
        effective_context=tuple(summary_record(run)["effective_context"]),
        unit=run.unit,
        model=_chosen(_MODEL, record.get("identity"), record.get("model")),
        data=_chosen(_DATA, told.get("data"), record.get("data"))
        | {"measured": ", ".join(counts(run)), "documents": len(run.documents)},
        protocol=config.protocol.model_dump(mode="json", exclude_none=True),
        windows=config.windows,
        conditions=conditions,
        settings=_chosen(("first_token", "repeats", "measures", "patterns", "seed"), told)
        | {"analysis": _analysis(run)},
        check=tuple(_chosen(_CHECK, outcome.model_dump(mode="json")) for outcome in facts.check),
        versions=facts.versions,
        rows={"count": rows.rows, "sha256": rows.sha256, "how": HOW, "protects": PROTECTS},
        bibtex=bibtex(run.folder.kind, conditions, facts.versions.get("context-probe")),
    )


def _chosen(names: Sequence[str], *parts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Some values by name, a later part's before an earlier one's; what is missing has no entry."""
    known = {name: part[name] for part in parts if part for name in names if name in part}
    return {name: known[name] for name in names if known.get(name) is not None}


def _answers(found: Sequence[Finding], *, lengths: bool) -> tuple[Answer, ...]:
    """The answers; where lengths were read they are told apart, and the first has no table."""
    answers = [one for one in found if one.level == "answer" and one.shown]
    return tuple(
        Answer(
            tuple(shorten(line) for line in (one.sentence, *one.more) if line),
            shorten(one.basis),
            () if lengths and not number else _tables(one),
            tuple(map(shorten, one.caveats)),
        )
        for number, one in enumerate(answers)
    )


def _tables(finding: Finding) -> tuple[Table, ...]:
    return tuple(table for table in finding.tables if table.shown != "page")


def _analysis(run: OpenRun) -> dict[str, Any]:
    how = run.analysis
    return {
        "tolerances": [tolerance.text for tolerance in how.tolerances],
        "confidence": how.confidence,
        "resamples": how.resamples,
        "bins_per_octave": how.bins_per_octave,
    }
