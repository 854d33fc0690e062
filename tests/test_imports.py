"""Imports go one way, from the commands down to the errors; reading results needs no torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers"}
SLOW = {"fcntl", *HEAVY, "datasets", "gguf", "spacy", "wordfreq", "sentencex", "ray", "torchao"}
"""Libraries that take seconds to load or may be missing: a function may import them."""
CHECKING = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}

# The rooms from the ground up: a module imports from its own room and from lower ones,
# inside functions too, without exceptions.
LAYERS = (
    *("errors", "text", "checks", "fields", "yaml_file", "registry", "calls"),
    *("corpus", "models", "results"),
    *("attention", "perturbations", "engine", "served"),
    *("protocols", "analysis", "classes", "findings", "render"),
    *("config", "runs", "cluster", "training", "api", "cards", "commands"),
)
PLACES = {name: layer for layer, name in enumerate(["probe", *LAYERS])}
IN_FUNCTIONS = {"config", "api"}
"""Rooms that may import inside a function what not every caller needs."""
READERS = {"results", "analysis", "classes", "findings", "render", "cards"}
PLAIN = {"probe.engine", "probe.engine.branch"}
"""What protocols make of a window: plain values, for which nothing of the engine is loaded."""


def modules() -> dict[str, Path]:
    """The name and file of every module of the package, a package under its own name."""
    found = {}
    for path in sorted(ROOT.glob("probe/**/*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that can run: also those inside functions, not those for the type checker."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test) in CHECKING:
        children = iter(node.orelse)
    for child in children:
        yield from statements(child)


def imported(source: str, package: str) -> set[str]:
    """The full names that *source* imports, where *package* is what its dots start from."""
    names = set()
    for statement in statements(ast.parse(source)):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
            continue
        parts = package.split(".")
        above = parts[: len(parts) + 1 - statement.level] if statement.level else []
        start = ".".join([*above, *filter(None, [statement.module])])
        names |= {f"{start}.{alias.name}" for alias in statement.names}
    return names


def module_of(name: str) -> str:
    """The module of ours that holds *name*, or the library that it comes from."""
    if name.partition(".")[0] != "probe":
        return name.partition(".")[0]
    while name not in MODULES and "." in name:
        name = name.rpartition(".")[0]
    return name


def targets(module: str) -> set[str]:
    """The modules of ours and the libraries that *module* imports."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return {module_of(name) for name in imported(path.read_text("utf-8"), package)}


ARROWS = {module: targets(module) for module in MODULES}


def place(module: str) -> str:
    """The name under which the table knows *module*: a package stands for what is in it."""
    return module.removeprefix("probe.").partition(".")[0]


def reached(module: str) -> dict[str, str]:
    """What *module* imports, itself or through others, each with the module that imports it."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        source = waiting.pop()
        new = ARROWS.get(source, set()) - found.keys()
        found |= dict.fromkeys(new, source)
        waiting += new
    return found


def loaded(code: str) -> list[str]:
    """Those of torch and transformers that a fresh interpreter holds after *code*."""
    code += f"\nimport sys\nprint(*sorted({HEAVY!r} & sys.modules.keys()))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_every_module_has_a_place() -> None:
    """A new room has to be put into the list, and leaves it with its folder."""
    names = {place(module) for module in MODULES}
    missing = sorted(names - PLACES.keys())
    assert not missing, f"no place in LAYERS of {Path(__file__).name}: {', '.join(missing)}"
    gone = sorted(PLACES.keys() - names - {"calls"})
    assert not gone, f"in LAYERS of {Path(__file__).name}, but not in probe/: {', '.join(gone)}"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    """No module imports from a room above its own."""
    for target in sorted(ARROWS[module] & MODULES.keys()):
        upwards = PLACES.get(place(target), len(LAYERS) + 1) > PLACES[place(module)]
        assert not upwards, f"{module} imports {target}, which lies in a room above"


@pytest.mark.parametrize("module", MODULES)
def test_no_import_comes_back(module: str) -> None:
    """No module imports itself by way of others."""
    assert module not in reached(module)


# Commands are loaded for `probe --help`, and import what they need when they are run.
@pytest.mark.parametrize(
    "module", [module for module in MODULES if place(module) not in IN_FUNCTIONS | {"commands"}]
)
def test_functions_import_slow_libraries_alone(module: str) -> None:
    """All else is imported where a reader looks for it, at the top of the file."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for statement in (found for function in functions for found in statements(function)):
        names = [alias.name for alias in statement.names]
        if isinstance(statement, ast.ImportFrom):
            names = [statement.module or "."]
        for name in names:
            assert name.partition(".")[0] in SLOW, f"{module}, line {statement.lineno}"


def test_no_file_has_the_name_of_another() -> None:
    """A reader who looks for a file of the lower rooms by its name finds it."""
    names = [path.stem for path in MODULES.values() if path.stem != "__init__"]
    above = LAYERS.index("protocols")
    lower = {MODULES[module].stem for module in MODULES if PLACES[place(module)] <= above}
    assert {name for name in lower if names.count(name) > 1} <= {"registry", "files"}


@pytest.mark.parametrize("module", [module for module in MODULES if place(module) in READERS])
def test_readers_stay_light(module: str) -> None:
    """What reads results reaches no torch, and none of what scores, not even in a function.

    Attention patterns compute with torch in their functions; a condition is read without them.
    """
    for target, source in reached(module).items():
        if place(source) != "attention":
            assert target not in HEAVY, f"{module} reaches {target} by way of {source}"
        scores = target in MODULES and place(target) in {"engine", "models", "runs"}
        assert not scores or target in PLAIN, f"{module} reaches {target} by way of {source}"


@pytest.mark.slow
def test_readers_load_no_torch() -> None:
    """Nor does a library bring torch in when all that reads results is imported."""
    readers = sorted(module for module in MODULES if place(module) in READERS)
    assert loaded(f"import {', '.join(readers)}") == []


def test_registry_loads_no_torch() -> None:
    """The perturbations are looked up, and imported for that, without torch."""
    code = "import probe.perturbations.registry as registry\nassert registry.names()"
    assert loaded(code) == []
    fake = "import sys, types\nsys.modules['torch'] = types.ModuleType('torch')"
    assert loaded(fake) == ["torch"], "the oracle sees torch when it is there"


def test_imports_are_found() -> None:
    """Also in functions, relative and of a module by its package; not for the type checker."""
    source = """
from typing import TYPE_CHECKING
import probe.results.scores
from probe import __version__, runs
from . import floor
from ..errors import UsageError
if TYPE_CHECKING:
    import torch
else:
    import pandas as pd
def slow():
    with open("x"):
        from probe.models.causal import CausalModel
"""
    assert {module_of(name) for name in imported(source, "probe.analysis")} == {
        *("typing", "pandas", "probe", "probe.results.scores", "probe.runs", "probe.errors"),
        *("probe.analysis.floor", "probe.models.causal"),
    }
