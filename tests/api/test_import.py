"""`import probe`: seven names, nothing loaded before it is asked for, none hidden by a module."""

import subprocess
import sys
from pathlib import Path

import pytest

import probe

ROOT = Path(__file__).parents[2]
NAMES = ("attend", "compare", "open", "perturb", "plot", "run", "score")
HEAVY = "torch", "transformers", "numpy", "pandas", "matplotlib", "duckdb", "pydantic"


def loaded(code: str) -> list[str]:
    """Which of the large libraries a fresh interpreter holds after *code*."""
    code += f"\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_loads_nothing():
    """The package alone costs none of what its functions need."""
    assert loaded("import probe\ndir(probe)\nprobe.__version__") == []


@pytest.mark.slow
def test_what_reads_runs_loads_no_torch():
    """Opening, comparing and drawing runs, and perturbing words, need no model."""
    code = """
import probe
run = probe.open("tests/golden/runs/sweep")
run.answer, run.scores, run.curve, probe.compare(run, run), probe.plot(run)
probe.perturb("one two three", "reverse")
"""
    assert not {"torch", "transformers"} & set(loaded(code))


def test_the_names_are_listed():
    """`dir` and ``*`` show the functions and the version, whatever was imported before."""
    import probe.runs.run

    assert dir(probe) == sorted(["__version__", *NAMES])
    assert sorted(probe.__all__) == sorted(dir(probe))
    space: dict[str, object] = {}
    exec("from probe import *", space)
    assert {name for name in space if name != "__builtins__"} == set(probe.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_no_module_has_the_name_of_a_function(name):
    """A module ``probe.score`` would take the function's place as soon as it is imported."""
    assert callable(getattr(probe, name))
    assert not (ROOT / "probe" / name).exists()
    assert not (ROOT / "probe" / f"{name}.py").exists()


@pytest.mark.slow
def test_modules_stay_attributes():
    """`probe.runs` is the package behind it, and what is no name is no attribute."""
    code = "import probe, probe.runs.run\nassert callable(probe.run), probe.runs.run.run"
    assert "torch" in loaded(code), "the oracle sees what a function needs"
    with pytest.raises(AttributeError, match="module 'probe' has no attribute 'scores'"):
        _ = probe.scores
