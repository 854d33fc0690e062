"""The page: findings of runs in, one HTML file out that needs nothing but itself."""

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from probe import __version__
from probe.analysis.open_run import OpenRun
from probe.errors import ProbeError, UsageError
from probe.findings.base import Finding
from probe.findings.table import Place, Table, decimals
from probe.render.explorer import MOST_BYTES, STEPS, WEIGHT_STEPS, Explorer, explore
from probe.render.markup import element, text_markup, visible
from probe.render.svg import draw, legend
from probe.results.files import write_bytes
from probe.results.folder import unique_labels
from probe.text import unbroken

_STYLES = ("colours.css", "page.css", "tables.css", "explorer.css", "print.css")
_SCRIPTS = ("losses.js", "explorer.js", "page.js")
_PARTED = re.compile(r"(\S+(?: [^\s(]+){0,2}) (\([^()]{1,40}\))")
"""A cell of a value and what stands in brackets behind it."""
WIDE = 22
"""Characters of the longest interval."""


@dataclass(frozen=True)
class RunPage:
    """One run on the page.

    Args:
        prefix: What stands before the addresses of its sections, empty for a single run.
        name: Its name.
        lead: The finding that answers it, its sentence and its first chart; shown first.
        explorer: Its tokens.
        terms: What the words of the explorer mean.
        numbers: The rest of the finding that answers it.
        others: Its other findings, in the order of reading.
        configuration: Its configuration as text.
    """

    prefix: str
    name: str
    lead: Finding | None
    explorer: Explorer | None
    terms: Mapping[str, str]
    numbers: Finding | None
    others: Sequence[Finding]
    configuration: str


class Glossary:
    """Says of each word what it means where that is first used, and no more.

    Args:
        terms: What each means.
    """

    def __init__(self, terms: Mapping[str, str]) -> None:
        self._left = dict(terms)

    def first_used(self, text: str) -> dict[str, str]:
        """The words that a text uses and none before it has used."""
        return {
            word: self._left.pop(word)
            for word in list(self._left)
            if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)
        }

    def explained(self, finding: Finding) -> Finding:
        """The finding with the words that it is the first to use."""
        texts = [finding.title, finding.sentence, *finding.more, *finding.caveats]
        for chart in finding.charts:
            texts += [chart.title, chart.how, *(series.name for series in chart.series)]
        for table in finding.tables:
            texts += [table.caption, *table.headers, *(row[0] for row in table.rows)]
        return replace(finding, terms=self.first_used("\n".join(texts)))


def write_page(
    runs: Sequence[OpenRun],
    findings: Sequence[Sequence[Finding]],
    path: str | Path,
    together: Sequence[Finding] = (),
) -> Path:
    """Write the page of one run, or of several.

    Args:
        runs: The open runs.
        findings: What is to be said of each.
        path: The file to write; it is whole or not there at all.
        together: What is to be said of all of them.

    Returns:
        The file.

    Raises:
        UsageError: If no run is given.
        ProbeError: If the file cannot be written.
    """
    if not runs:
        raise UsageError("no run to write a page of: at least one is needed")
    target = Path(path)
    # A surrogate that slipped through must not cost the page.
    content = render(runs, findings, together).encode("utf-8", "backslashreplace")
    try:
        write_bytes(target, content)
    except OSError as error:
        raise ProbeError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def render(
    runs: Sequence[OpenRun],
    findings: Sequence[Sequence[Finding]],
    together: Sequence[Finding] = (),
) -> str:
    """The page as text, see :func:`write_page`."""
    names = [visible(name) for name in unique_labels([run.folder for run in runs])]
    prefixes = [f"run{number}-" for number in range(1, len(runs) + 1)] if len(runs) > 1 else [""]
    room = MOST_BYTES // len(runs)
    every = itertools.chain.from_iterable(findings)
    words = Glossary({word: said for one in every for word, said in one.terms.items()})
    first = [tuple(map(words.explained, _parted(_section(one)))) for one in together]
    pages = [
        _run_page(prefix, name, run, found, words, room)
        for prefix, name, run, found in zip(prefixes, names, runs, findings, strict=True)
    ]
    environment = _environment()
    style = Markup("\n").join(_asset(environment, name) for name in _STYLES)
    script = Markup("\n").join(_asset(environment, name) for name in _SCRIPTS)
    return environment.get_template("page.html.j2").render(
        title=" and ".join(names),
        together=first,
        pages=pages,
        style=style,
        script=script,
        policy=_policy(style, script),
        levels=_levels(STEPS),
        weight_levels=_levels(WEIGHT_STEPS),
        version=__version__,
    )


def _run_page(
    prefix: str,
    name: str,
    run: OpenRun,
    findings: Sequence[Finding],
    words: Glossary,
    room: int,
) -> RunPage:
    """The page of a run; what is told with its answer stands with the first of its findings."""
    shown = [finding for finding in findings if finding.shown]
    first, others = shown[:1], shown[1:]
    headlines = [line for one in findings if one not in first for line in one.headlines]
    notes = [note for finding in findings for note in finding.notes]
    marks = next((finding.marks for finding in findings if finding.marks is not None), None)
    places = (place for one in shown for table in one.tables for place in table.places if place)
    explorer = explore(run, marks, places=places, prefix=prefix, most_bytes=room)
    links = explorer.links if explorer else {}
    parts = [part for one in first for part in _parted(_section(one, headlines, notes, links))]
    config = run.record.get("config")
    return RunPage(
        prefix,
        name,
        words.explained(parts[0]) if parts else None,
        explorer,
        words.first_used(f"delta distance {explorer.condition}") if explorer else {},
        words.explained(parts[1]) if parts else None,
        [words.explained(_section(one, links=links)) for one in others],
        json.dumps(config, indent=1, ensure_ascii=False) if config else "",
    )


def _section(
    finding: Finding,
    headlines: Sequence[str] = (),
    notes: Sequence[str] = (),
    links: Mapping[Place, str] = MappingProxyType({}),
) -> Finding:
    """What the page shows of a finding, its basis among its caveats, and what is told with it."""
    basis = [finding.basis] if finding.basis else []
    tables = [table for table in finding.tables if table.shown != "terminal" and table.rows]
    return replace(
        finding,
        more=[*finding.more, *headlines],
        charts=[chart for chart in finding.charts if chart.on_page],
        tables=[_linked(table, links) for table in tables],
        caveats=[*basis, *finding.caveats, *notes],
    )


def _parted(finding: Finding) -> tuple[Finding, Finding]:
    """What of an answer stands first, its sentence and its first chart, and the rest of it."""
    lead = replace(finding, charts=finding.charts[:1], tables=[], more=[], caveats=[])
    return lead, replace(finding, sentence="", charts=finding.charts[1:])


def _linked(table: Table, links: Mapping[Place, str]) -> Table:
    """The table, its rows led by links to the tokens that they are about, where these are shown."""
    addresses = [place and links.get(place) for place in table.places]
    rows = [
        [element("a", first, href=f"#{address}") if address else first, *rest]
        for (first, *rest), address in zip(table.rows, addresses, strict=False)
    ]
    return replace(table, rows=[*rows, *table.rows[len(rows) :]])


def _cell(text: str) -> str:
    """A cell; one of a value and its interval is broken between the two, if at all.

    What is longer than an interval may be broken anywhere.
    """
    parts = None if isinstance(text, Markup) else _PARTED.fullmatch(text)
    if parts is None:
        return text
    return Markup(" ").join(
        element("span", part, class_="loose" if len(part) > WIDE else None)
        for part in parts.groups()
    )


@cache
def _environment() -> Environment:
    """Everything that is printed is made visible, then escaped; a missing name is an error."""

    def shown(value: Any) -> Any:
        plain = isinstance(value, str) and not isinstance(value, Markup)
        return unbroken(visible(value)) if plain else value

    environment = Environment(
        loader=PackageLoader("probe.render", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"lines": text_markup, "nats": decimals, "cell": _cell}
    environment.filters |= {"svg": draw, "legend": legend}
    return environment


def _asset(environment: Environment, name: str) -> Markup:
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _policy(style: str, script: str) -> str:
    """A content security policy that lets nothing in but this style and this script."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; style-src 'sha256-{digest(style)}'; "
        f"script-src 'sha256-{digest(script)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _levels(steps: Sequence[float]) -> list[str]:
    """The steps of a colour scale in words, level by level."""
    numbers = [f"{step:g}".replace("-", "−") for step in steps]
    inner = [f"{low} to {high}" for low, high in itertools.pairwise(numbers)]
    return [f"below {numbers[0]}", *inner, f"{numbers[-1]} or more"]
