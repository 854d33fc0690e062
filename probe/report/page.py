"""The page: explained runs in, one HTML file out that needs nothing but itself."""

import base64
import contextlib
import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from probe import __version__
from probe.analysis.summary import Summary
from probe.errors import ProbeError, UsageError
from probe.render.markup import text_markup, visible
from probe.report.answers import answer_section, curve_section
from probe.report.bands import band_section
from probe.report.classes import class_section, occurrence_section
from probe.report.dense import dense_section
from probe.report.explained import Explained, Section, decimals
from probe.report.explorer import MOST_BYTES, STEPS, explore
from probe.report.findings import (
    contrast_section,
    information_section,
    tolerance_section,
)
from probe.report.identity import configuration, cost_section
from probe.report.keys import key_section
from probe.report.overlay import labels, overlay_section
from probe.report.passages import passage_section
from probe.report.patterns import pattern_section
from probe.report.precision import detectable_section, document_section
from probe.report.shares import position_section, reading_section, share_section
from probe.report.suffix import suffix_section
from probe.report.tokens import Explorer
from probe.report.which import which

_STYLES = ("colours.css", "page.css", "tables.css", "explorer.css", "print.css")
_SCRIPTS = ("losses.js", "explorer.js")
_WITHOUT_CURVE = (band_section, passage_section, suffix_section)
"""Answers of protocols that leave what lies further intact: no length, no curve by distance."""
_AFTER_CURVE = (
    class_section,
    occurrence_section,
    contrast_section,
    information_section,
    tolerance_section,
    share_section,
    reading_section,
    position_section,
    document_section,
    detectable_section,
)


@dataclass(frozen=True)
class RunPage:
    """One run on the page.

    Args:
        prefix: What stands before the addresses of its sections, empty for a single run.
        name: Its name.
        sections: Its findings, in the order of reading.
        explorer: Its tokens.
        cost: Cost and identity, the last section.
        configuration: Its configuration as text.
    """

    prefix: str
    name: str
    sections: Sequence[Section]
    explorer: Explorer | None
    cost: Section
    configuration: str


def write_page(
    explained: Explained | Sequence[Explained],
    path: str | Path,
    *,
    runs: pd.DataFrame | None = None,
) -> Path:
    """Write the page of one run, or of several over one another.

    Args:
        explained: What :func:`probe.analysis.explain.explain` gives, once or for each run.
        path: The file to write; it is whole or not there at all.
        runs: For several runs: a table with one row a run to show, such as that of
            :func:`probe.analysis.compare.run_table`.

    Returns:
        The file.

    Raises:
        UsageError: If no run is given.
        ProbeError: If the file cannot be written.
    """
    every = list(explained) if isinstance(explained, Sequence) else [explained]
    if not every:
        raise UsageError("no run to write a page of: at least one is needed")
    target = Path(path)
    # A surrogate that slipped through must not cost the page.
    content = render(every, runs).encode("utf-8", "backslashreplace")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(target)
    except OSError as error:
        raise ProbeError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return target


def render(every: Sequence[Explained], runs: pd.DataFrame | None = None) -> str:
    """The page as text.

    Args:
        every: The explained runs, at least one.
        runs: A table of several runs.
    """
    summaries = [each.summary for each in every]
    pages = [
        _run_page(
            each,
            "" if len(every) == 1 else f"run{number}-",
            MOST_BYTES // len(every),
            summaries,
        )
        for number, each in enumerate(every, start=1)
    ]
    names = labels(summaries)
    environment = _environment()
    style = Markup("\n").join(_asset(environment, name) for name in _STYLES)
    script = Markup("\n").join(_asset(environment, name) for name in _SCRIPTS)
    return environment.get_template("page.html.j2").render(
        title=" and ".join(names),
        overlay=_overlay(summaries, runs, names, pages) if len(every) > 1 else None,
        pages=list(zip(names, pages, strict=True)),
        style=style,
        script=script,
        policy=_policy(style, script),
        levels=_levels(),
        version=__version__,
    )


def _overlay(
    summaries: Sequence[Summary],
    runs: pd.DataFrame | None,
    names: Sequence[str],
    pages: Sequence[RunPage],
) -> Section:
    """The runs over one another, each with the finding that its own answer begins with."""
    found = overlay_section(summaries, runs)
    said = zip(names, pages, strict=True)
    return replace(found, notes=[f"{name}: {page.sections[0].finding}" for name, page in said])


def _run_page(explained: Explained, prefix: str, room: int, others: Sequence[Summary]) -> RunPage:
    summary = explained.summary
    alone = next(filter(None, (section(explained) for section in _WITHOUT_CURVE)), None)
    patterns = pattern_section(explained)
    if alone is None and not summary.contexts:  # attention alone was limited: that is the answer
        alone = patterns
    if alone is not None:
        found, explorer = [alone, position_section(explained)], None
    else:
        answer = key_section(explained, others) or dense_section(explained)
        answer = answer or answer_section(explained)
        more = [*which(explained), *([patterns.finding] if patterns else [])]
        found = [replace(answer, more=more), curve_section(summary), patterns]
        found += [section(explained) for section in _AFTER_CURVE]
        explorer = explore(summary, most_bytes=room)
    return RunPage(
        prefix,
        summary.run.name,
        [section for section in found if section is not None],
        explorer,
        cost_section(summary),
        configuration(summary),
    )


@cache
def _environment() -> Environment:
    """Everything that is printed is made visible, then escaped; a missing name is an error."""

    def shown(value: Any) -> Any:
        plain = isinstance(value, str) and not isinstance(value, Markup)
        return visible(value) if plain else value

    environment = Environment(
        loader=PackageLoader("probe.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"lines": text_markup, "nats": decimals}
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
