"""The docstrings of `import probe`: their examples run, and docs/api.md is made from them."""

import doctest
import runpy
from pathlib import Path

import pytest
from models import tiny
from tiny_run import character_tokenizer, no_network, write_texts  # noqa: F401 (fixture)

import probe

ROOT = Path(__file__).parents[2]
NAMES = [name for name in probe.__all__ if not name.startswith("_")]


class Checker(doctest.OutputChecker):
    """An example that says what it prints must print that; one that does not prints anything."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


@pytest.fixture(scope="module", name="place")
def working_folder(tmp_path_factory) -> Path:
    """Where the names that examples use are tiny: a model, texts, and two runs."""
    folder = tmp_path_factory.mktemp("examples")
    write_texts(folder / "texts")
    for seed, (name, run) in enumerate({"gpt2": "first", "other": "second"}.items()):
        tiny("llama", num_hidden_layers=2, seed=seed).save_pretrained(folder / name)
        character_tokenizer(True).save_pretrained(folder / name)
        config = {
            "name": run,
            "model": {"path": str(folder / name)},
            "data": {"path": str(folder / "texts" / "*.txt")},
            "windows": {"length": 64, "per_document": 1},
            "conditions": ["truncate"],
            "analysis": {"resamples": 100},
        }
        with probe.run(config, results=folder / "results", progress=False):
            pass
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name, place, monkeypatch):
    """Each function has one; what it prints is what it says."""
    monkeypatch.chdir(place)
    function = getattr(probe, name)
    (test,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert test.examples
    report: list[str] = []
    doctest.DocTestRunner(Checker(), verbose=False).run(test, out=report.append)
    assert not report, "".join(report)


def test_the_page_is_made_from_the_docstrings():
    """`python docs/api.py` writes it again."""
    page = runpy.run_path(str(ROOT / "docs" / "api.py"))["page"]
    assert (ROOT / "docs" / "api.md").read_text("utf-8") == page()
