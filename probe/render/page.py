"""The page: findings of runs in, one HTML file out that needs nothing but itself."""

import base64
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from probe import __version__
from probe.analysis.open_run import OpenRun
from probe.errors import ProbeError, UsageError
from probe.findings.base import Finding
from probe.findings.table import decimals
from probe.render.explorer import MOST_BYTES, STEPS, Explorer, explore
from probe.render.markup import text_markup, visible
from probe.render.svg import draw, legend
from probe.results.files import write_bytes
from probe.results.folder import unique_labels

_STYLES = ("colours.css", "page.css", "tables.css", "explorer.css", "print.css")
_SCRIPTS = ("losses.js", "explorer.js")
FIRST = 50
"""Findings of a lower order stand before the token explorer."""


@dataclass(frozen=True)
class RunPage:
    """One run on the page.

    Args:
        prefix: What stands before the addresses of its sections, empty for a single run.
        name: Its name.
        early: Its findings that stand before the token explorer, in the order of reading.
        late: Those behind it.
        explorer: Its tokens.
        configuration: Its configuration as text.
    """

    prefix: str
    name: str
    early: Sequence[Finding]
    late: Sequence[Finding]
    explorer: Explorer | None
    configuration: str


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
    pages = [
        _run_page(prefix, name, run, found, room)
        for prefix, name, run, found in zip(prefixes, names, runs, findings, strict=True)
    ]
    environment = _environment()
    style = Markup("\n").join(_asset(environment, name) for name in _STYLES)
    script = Markup("\n").join(_asset(environment, name) for name in _SCRIPTS)
    return environment.get_template("page.html.j2").render(
        title=" and ".join(names),
        together=[_section(one) for one in together],
        pages=pages,
        style=style,
        script=script,
        policy=_policy(style, script),
        levels=_levels(),
        version=__version__,
    )


def _run_page(
    prefix: str, name: str, run: OpenRun, findings: Sequence[Finding], room: int
) -> RunPage:
    """The page of a run; what is told with its answer stands with the first of its findings."""
    shown = [finding for finding in findings if finding.shown]
    first, others = shown[:1], shown[1:]
    headlines = [line for one in findings if one not in first for line in one.headlines]
    notes = [note for finding in findings for note in finding.notes]
    sections = [_section(one, headlines, notes) for one in first] + [*map(_section, others)]
    marks = next((finding.marks for finding in findings if finding.marks is not None), None)
    config = run.record.get("config")
    return RunPage(
        prefix,
        name,
        [section for section in sections if section.order < FIRST],
        [section for section in sections if section.order >= FIRST],
        explore(run, marks, most_bytes=room),
        json.dumps(config, indent=1, ensure_ascii=False) if config else "",
    )


def _section(finding: Finding, headlines: Sequence[str] = (), notes: Sequence[str] = ()) -> Finding:
    """What the page shows of a finding, its basis among its caveats, and what is told with it."""
    basis = [finding.basis] if finding.basis else []
    return replace(
        finding,
        more=[*finding.more, *headlines],
        charts=[chart for chart in finding.charts if chart.on_page],
        tables=[table for table in finding.tables if table.shown != "terminal" and table.rows],
        caveats=[*basis, *finding.caveats, *notes],
    )


@cache
def _environment() -> Environment:
    """Everything that is printed is made visible, then escaped; a missing name is an error."""

    def shown(value: Any) -> Any:
        plain = isinstance(value, str) and not isinstance(value, Markup)
        return visible(value) if plain else value

    environment = Environment(
        loader=PackageLoader("probe.render", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"lines": text_markup, "nats": decimals, "svg": draw, "legend": legend}
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


def _levels() -> list[str]:
    """The steps of the colour scale in words, level by level."""
    numbers = [f"{step:g}".replace("-", "−") for step in STEPS]
    inner = [f"{low} to {high}" for low, high in itertools.pairwise(numbers)]
    return [f"below {numbers[0]}", *inner, f"{numbers[-1]} or more"]
