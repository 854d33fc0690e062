"""What a request names and is not there: one line that names it, and exit status 2."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from test_commands import mistake, mistakes, probe
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    model_folders,
    no_network,
    text_folder,
)

COMMANDS = {
    "run": "run nosuch.yaml",
    "plan": "plan nosuch.yaml",
    "a folder": "run folder",
    "report": "report nosuch",
    "no run": "report folder",
    "compare": "compare nosuch nosuch",
    "plot": "plot nosuch --kind curve",
    "keys": "keys nosuch",
    "from": "plan base.yaml --from nosuch",
    "check": "check ./nosuch",
    "text": "show shuffle --text nosuch.txt",
    "show": "show shuffle --model ./nosuch",
    "show code": "show shuffle --perturbations nosuch.py",
    "list code": "list --perturbations nosuch.py",
    "model": "plan base.yaml --model ./nosuch",
    "model above": "plan base.yaml --model ../nosuch/folder",
    "model at home": "plan base.yaml --model ~/nosuch",
    "model folder": "plan base.yaml --model nosuch/",
    "model path": "plan base.yaml --model no/such/folder",
    "gguf": "plan base.yaml --model nosuch.gguf",
    "package": "plan base.yaml --model package://nosuch/a.gguf",
    "data": "plan base.yaml --data ./nosuch",
    "data path": "plan base.yaml --data no/such/folder",
    "data file": "plan base.yaml --data nosuch.txt",
    "rows": "plan base.yaml --data nosuch.jsonl",
    "glob": "plan base.yaml --data nosuch/*.txt",
    "files": "plan base.yaml --set data.data_files=nosuch*",
    "column": "plan base.yaml --set data.text_column=nosuch",
    "ids": "plan base.yaml --set data.ids_column=nosuch",
    "group": "plan base.yaml --set data.group_column=nosuch",
    "split": "plan base.yaml --set data.split=nosuch",
}
INSIDE = {"code": "perturbations=[nosuch.py]", "class": "analysis.classes=['nosuch.py:f']"}


@pytest.fixture(autouse=True)
def _folder(base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base), encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_what_is_missing_is_named(command: str) -> None:
    """Whichever command misses whatever: it is named, and nothing is written."""
    line = mistake(probe(*command.split()), 2)
    assert "such" in line or "folder" in line
    assert len(line) < 300
    assert sorted(path.name for path in Path().iterdir()) == ["base.yaml", "folder"]


@pytest.mark.parametrize("setting", INSIDE.values(), ids=INSIDE)
def test_what_a_configuration_names(setting: str) -> None:
    """A file of code that is not there is a mistake of the configuration."""
    first, second = mistakes(probe("plan", "base.yaml", "--set", setting), 2)
    assert first == "base.yaml has 1 mistake(s):"
    assert "'nosuch.py' cannot be read: No such file or directory" in second


@pytest.mark.parametrize("option", ["--model", "--data", "--set=data.data_files="])
@pytest.mark.parametrize("name", ["x" * 5_000, "x/" * 5_000])
def test_names_that_are_too_long(option: str, name: str) -> None:
    """A name that no file can have is cut, as any other value."""
    arguments = (option + name,) if "=" in option else (option, name)
    lines = mistakes(probe("plan", "base.yaml", *arguments), 2)
    assert "File name too long" in lines[-1]
    assert max(map(len, lines)) < 400
