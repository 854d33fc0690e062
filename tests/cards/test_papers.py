"""Every source that our docstrings name is in the table of papers, and the table is used up."""

import inspect
import re
from pathlib import Path

import yaml

from probe import __version__
from probe.attention import term
from probe.cards.papers import PAPERS, TOOL, bibtex, papers, sources
from probe.perturbations import registry
from probe.protocols.registry import kind_of, protocols

CITATION = Path(__file__).parents[2] / "CITATION.cff"
WORK = re.compile(r"[A-Z]\w+(?: et al\.|(?:, \w+)* (?:&|and) \w+) \d{4}")


def test_every_source_is_known() -> None:
    """What a docstring of a perturbation or a pattern names as its source has BibTeX."""
    things = [registry.get(name).function for name in registry.names()]
    things += [term.get(name).function for name in term.names()]
    named = 0
    for thing in things:
        _, _, source = (inspect.getdoc(thing) or "").partition("Source:")
        works = WORK.findall(" ".join(source.split()))
        assert len(sources(thing)) == len(set(works)), (thing, works)
        named += len(works)
    assert named > 15


def test_every_paper_is_used() -> None:
    """No paper stands in the table that no protocol, perturbation or pattern names."""
    conditions = [name for name in registry.names() if name not in ("keep", "move", "attend")]
    conditions += ["keep(what='common')", "move(to='first')"]
    conditions += [f"attend({pattern})" for pattern in _patterns()]
    found = [paper for each in protocols() for paper in papers(kind_of(each), conditions)]
    unused = {paper.key for paper in PAPERS.values()} - {paper.key for paper in found}
    assert not unused


def _patterns() -> list[str]:
    return [
        *("local(4)", "blocks(4)", "dilated(4, 2)", "strided(4)", "global(2)", "random(2)"),
        *("gaussian", "pool(4)", "svd(4)", "project(4)"),
    ]


def test_of_a_run() -> None:
    """The papers of a chain and of a pattern in parts, each once; unknown names have none."""
    keys = [one.key for one in papers("sweep", ["[truncate, shuffle]", "shuffle", "own(1)", "x"])]
    assert keys == ["khandelwal2018sharp", "sun2021long", "oconnor2021context"]
    assert [one.key for one in papers("longppl", [])] == ["fang2025longppl"]
    assert [one.key for one in papers("sweep", ["attend(local(4) + global(2))"])] == [
        *("xiao2024streaming", "child2019sparse", "beltagy2020longformer", "zaheer2020bigbird")
    ]
    assert papers("no such kind", ["noise"]) == []


def test_tool_is_that_of_the_citation_file() -> None:
    """Title, author and licence; and the papers named there have the DOIs of the table."""
    file = yaml.safe_load(CITATION.read_text("utf-8"))
    authors = " and ".join(one["name"] for one in file["authors"])
    assert TOOL.fields["title"] == file["title"]
    assert TOOL.fields["author"] == f"{{{authors}}}"
    assert TOOL.fields["license"] == file["license"]
    known = {paper.fields.get("doi") for paper in PAPERS.values()}
    assert {one["doi"] for one in file["references"]} <= known


def test_bibtex_is_well_formed() -> None:
    """Braces are balanced, keys unique, and the tool has the version that scored the run."""
    text = "\n\n".join(paper.bibtex() for paper in PAPERS.values())
    assert text.count("{") == text.count("}")
    assert len({paper.key for paper in PAPERS.values()}) == len(PAPERS)
    assert "version = {0.0.9}" in bibtex("sweep", [], "0.0.9")
    assert f"version = {{{__version__}}}" in bibtex("sweep", [])
