"""The package: what it needs is declared, and its version is one everywhere."""

import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_imports import ARROWS, MODULES, ROOT

from probe import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def declared(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


@pytest.mark.slow
def test_what_is_imported_is_declared() -> None:
    """A library that comes along with another today may be gone tomorrow."""
    libraries = set[str]().union(*ARROWS.values()) - MODULES.keys() - sys.stdlib_module_names
    known = packages_distributions()
    extras = [one for name, own in EXTRAS.items() if name != "dev" for one in own]
    needed = declared([*PROJECT["dependencies"], *extras])
    needed.add("pydantic-core")  # released with pydantic, which pins it
    names = {one: set(map(canonicalize_name, known.get(one, [one]))) for one in libraries}
    assert {one: found for one, found in names.items() if not found & needed} == {}


def test_what_was_tested_is_pinned() -> None:
    """Every requirement stands in constraints.txt, with a version that it allows."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()[1:]
    pins = [Requirement(line) for line in lines]
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    assert [pin.name for pin in pins] == list(dict.fromkeys(pin.name for pin in pins))
    for text in [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]:
        requirement = Requirement(text)
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_citation_has_the_version() -> None:
    """Whoever cites names what ran."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__
    assert f"{citation['date-released']:%Y}" >= "2026"
    assert citation["license"] == PROJECT["license"]
