"""Protocols by kind: nothing names one but its own file and its finding; a user's own is one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner

from probe.commands import list as listing
from probe.config import check
from probe.errors import UsageError
from probe.protocols import registry
from probe.protocols.base import Plan, Protocol
from probe.protocols.sweep import SweepProtocol
from probe.results.record import Reading

PROBE = Path(registry.__file__).parents[1]
OTHER_MEANING = {
    ("config.py", "dense"),  # how attention patterns are computed: `patterns: dense`
    ("runs/identity.py", "dense"),
    ("findings/compare/matched.py", "dense"),
    ("findings/compare/comparison.py", "suffix"),  # the finding of both runs
    ("render/svg_frame.py", "grid"),  # a class of style
    ("commands/keys.py", "longppl"),  # the command of its finding
}
PAGE = (PROBE.parent / "docs" / "extending.md").read_text(encoding="utf-8")
OWN = next(code for code in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "Middle" in code)
"""The protocol that the documentation shows, as a user has it in a file."""
LEAST: dict[str, Any] = {
    "name": "a",
    "model": {"path": "m"},
    "data": {"path": "text"},
    "conditions": ["truncate"],
}


@pytest.fixture(autouse=True)
def _own_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.protocols()
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))


@pytest.fixture(name="file")
def own_file(tmp_path: Path) -> str:
    path = tmp_path / "own.py"
    path.write_text(OWN, encoding="utf-8")
    return str(path)


def strings(source: str) -> Iterator[str]:
    """The text constants of a source, docstrings left out."""
    nodes = list(ast.walk(ast.parse(source)))
    documented = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in documented:
            yield node.value


def naming(kind: str) -> set[str]:
    """Files of the package that name a kind in a text."""
    found = set()
    for path in sorted(PROBE.rglob("*.py")):
        place = path.relative_to(PROBE).as_posix()
        if (place, kind) in OTHER_MEANING:
            continue
        for text in strings(path.read_text(encoding="utf-8")):
            if text == kind or re.search(rf"\bprotocols? {kind}\b", text):
                found.add(place)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", registry.kinds(registry.is_builtin))
def test_a_kind_is_named_in_its_own_file_alone(kind: str) -> None:
    """Whatever is special of a protocol stands in its file, or in that of its finding."""
    protocol = registry.protocol_of(kind)
    assert protocol is not None
    places = (f"findings/{protocol.finding}.py", f"findings/{protocol.finding}/")
    others = {place for place in naming(kind) if not place.startswith(places)}
    assert others == {f"protocols/{kind}.py"}


def test_kinds_are_found_in_texts() -> None:
    """Also in parts of f-strings, and not in docstrings."""
    source = 'def f():\n    """with protocol grid"""\n    return f"{f}: protocol grid", "grid"\n'
    assert sorted(strings(source)) == [": protocol grid", "grid"]


def test_built_in_ones_in_their_order() -> None:
    """The default comes first; each is known by its kind."""
    expected = (
        *("sweep", "grid", "band", "longppl", "suffix", "dense", "passages", "pll"),
        *("chunks", "parallel", "speech", "span_corruption"),
    )
    assert registry.kinds(registry.is_builtin) == expected
    for kind in expected:
        protocol = registry.protocol_of(kind)
        assert protocol is not None
        assert registry.kind_of(protocol) == kind
    assert registry.protocol_of("none") is registry.protocol_of(None) is None
    assert registry.protocol_of(["sweep"]) is None


def test_a_file_named_in_the_configuration(file: str) -> None:
    """It is run once, before its kind is looked up, and kept in the configuration."""
    config = check({**LEAST, "protocols": [file], "protocol": {"kind": "middle"}})
    assert config.protocols == [file]
    assert config.protocol.model_dump() == {"kind": "middle", "targets": 64}
    assert (config.plan.reach, config.plan.targets) == (1024, (1984, 2048))
    plain = config.model_dump(mode="json")
    assert check(plain).model_dump(mode="json") == plain
    with pytest.raises(UsageError, match=r"protocol\.edges: unknown key \(value 3\)"):
        check({**LEAST, "protocols": [file], "protocol": {"kind": "middle", "edges": 3}})


def test_without_its_file_the_kind_is_unknown() -> None:
    """The kinds that are known are named."""
    with pytest.raises(UsageError, match="is 'middle'; allowed: 'sweep', 'grid'"):
        check({**LEAST, "protocol": {"kind": "middle"}})


def test_listed(file: str) -> None:
    """A file given on the command line is as good as one of this package."""
    listed = CliRunner().invoke(listing.command, ["--protocols", file]).stdout
    assert re.search(r"\n  middle +Far text ends in the middle of the window, the last", listed)
    assert re.search(r"\n    targets: 64 +how many\n", listed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = ", "protocols.0: {file} cannot be loaded: SyntaxError"),
        (OWN.replace("middle", "grid"), "protocol 'grid' is already probe.protocols.grid."),
        (OWN.replace(' = "middle"', ""), "Middle has no kind; allowed: kind: Literal['name']"),
    ],
)
def test_a_file_that_is_none(content: str, message: str, tmp_path: Path) -> None:
    """What is wrong with it is one line, and the file is run once."""
    path = tmp_path / "bad.py"
    path.write_text(f"with open({str(tmp_path / 'n')!r}, 'a') as f:\n    f.write('x')\n{content}")
    with pytest.raises(UsageError) as caught:
        check({**LEAST, "protocols": [str(path)]})
    first, line = str(caught.value).splitlines()
    assert first == "configuration has 1 mistake(s):"
    assert message.format(file=repr(str(path))) in line
    assert not (tmp_path / "n").exists() or (tmp_path / "n").read_text() == "x"


@pytest.mark.parametrize("files", ["own.py", [3], None])
def test_no_list_of_files(files: Any) -> None:
    """Anything else is a mistake of that key."""
    with pytest.raises(UsageError, match=r"protocols(\.0)?: Input should be a valid (list|string)"):
        check({**LEAST, "protocols": files})


def test_a_kind_comes_again() -> None:
    """A module that is reloaded registers again, and nobody else under its name."""

    class Mine(Protocol):
        kind: Literal["mine"] = "mine"

    assert registry.register(registry.register(Mine)) is Mine

    class Other(Protocol):
        kind: Literal["mine"] = "mine"

    with pytest.raises(ValueError, match=r"protocol 'mine' is already .*Mine; choose another"):
        registry.register(Other)


def test_what_reading_must_know() -> None:
    """Facts of a kind's class; one that is not known is read as a curve, with a caveat."""
    assert registry.facts("sweep") is SweepProtocol
    assert (registry.facts("x").finding, registry.facts(None).has_length) == ("curve", True)
    assert registry.reading({}) == registry.reading({"config": {"protocol": None}}) == Reading()
    known = {kind: registry.reading({"config": {"protocol": {"kind": kind}}}) for kind in ("band",)}
    assert known == {"band": Reading(needs_far_start=True)}
    caveat = registry.reading({"config": {"protocol": {"kind": "x\n"}}}).caveat
    assert caveat == ("protocol 'x\\n' is not registered here: what it measured is read as a curve")
    assert registry.needs("suffix") == {"tokens": 1, "candidates": 2}
    assert registry.needs("x") == registry.needs(None) == {}


def test_a_plan_says_what_is_missing() -> None:
    """Neither a protocol nor a plan without its one method is any use."""
    config = check(LEAST)
    with pytest.raises(NotImplementedError):
        Protocol(kind="x").plan(config.windows)
    with pytest.raises(NotImplementedError):
        _ = Plan(config.windows, config.plan.model).reach
