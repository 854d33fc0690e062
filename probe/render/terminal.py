"""Findings as text for the terminal."""

import textwrap
from collections.abc import Iterator, Sequence

from probe.findings.base import Finding
from probe.findings.table import Table
from probe.text import aligned, printable, wrapped


def answers(findings: Sequence[Finding]) -> Iterator[str]:
    """The answers of a run: sentence, basis, tables, caveats; several lines each.

    Args:
        findings: The findings of one run. What others of them could not work out is told with the
            first answer, where `probe run` works them out too.
    """
    notes = [note for one in findings if one.level == "brief" for note in one.notes]
    for finding in findings:
        if finding.level == "answer" and finding.shown:
            yield text(finding, notes)
            notes = []


def details(findings: Sequence[Finding]) -> Iterator[str]:
    """What else a run says: what is told beside its answer, tables, and what is missing.

    Args:
        findings: The findings of one run. Sentences of its answers are not told again.
    """
    others = [one for one in findings if one.level != "answer"]
    if lines := [printable(line) for one in others for line in one.headlines]:
        yield "\n".join(lines)
    for one in others:
        yield from (table_text(table) for table in one.tables if table.shown != "page")
    if notes := [note for one in others if one.level == "detail" for note in one.notes]:
        yield bullets(notes)


def text(finding: Finding, notes: Sequence[str] = (), *, wrap: bool = False) -> str:
    """One finding: sentences, what they rest on, tables, caveats.

    Args:
        finding: The finding.
        notes: More caveats.
        wrap: Whether long caveats go on in a line below.
    """
    lines = [line for line in (finding.sentence, *finding.more, finding.basis) if line]
    tables = [table_text(table) for table in finding.tables if table.shown != "page"]
    caveats = bullets([*finding.caveats, *notes], wrap=wrap)
    return "\n\n".join(part for part in ("\n".join(lines), *tables, caveats) if part)


def table_text(table: Table) -> str:
    """A table in columns, below its caption."""
    rows = [table.headers, *table.rows]
    if table.listed:
        rows = [["", *row] for row in table.rows]
    lines = aligned(rows, rule=table.rule, numbers=table.numbers, blocks=table.blocks)
    lines = textwrap.indent(lines, " " * table.indent)
    parts = [f"{table.caption}\n{lines}" if table.captioned else lines]
    if table.below:
        parts.append("\n".join(map(wrapped, table.below)))
    return "\n\n".join(parts)


def bullets(lines: Sequence[str], *, wrap: bool = False) -> str:
    """Remarks, a line each, or several where it is to be wrapped."""
    remarks = [f"- {printable(line)}" for line in lines]
    return "\n".join(map(wrapped, remarks) if wrap else remarks)
