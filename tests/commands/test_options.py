"""Options that commands share: ``--data`` by folder, file, glob or name, and ``--set``."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import mistake, mistakes, probe

from probe.commands.options import read, show_as
from probe.config import check
from probe.errors import UsageError

FILE: dict[str, Any] = {
    "name": "a",
    "model": {"path": "m", "revision": "step3000", "label": "ours", "dtype": "float32"},
    "data": {
        "path": "text",
        "label": "two novels",
        "name": "part",
        "revision": "v1",
        "split": "test",
        "options": {"encoding": "latin-1"},
        "data_files": ["books/*.txt"],
        "text_column": "body",
        "max_documents": 3,
    },
    "conditions": ["truncate"],
}
COLUMNS = {"text_column": "body", "max_documents": 3}
"""What stays: what the data hold, and how many of them."""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(yaml.safe_dump(FILE), encoding="utf-8")
    Path("folder.txt").mkdir()
    Path("notes").write_text("a text", encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "path", "files"),
    [
        ("folder.txt", "folder.txt", None),
        ("./folder.txt", "./folder.txt", None),
        ("owner/name", "owner/name", None),
        ("stdlib", "stdlib", None),
        ("books/*.txt", "text", ["books/*.txt"]),
        ("*.txt", "text", ["*.txt"]),  # to YAML an alias
        ("books/emma.txt", "text", ["books/emma.txt"]),
        ("books/*.txt.gz", "text", ["books/*.txt.gz"]),
        ("notes", "text", ["notes"]),
        ("books/[ab]", "text", ["books/[ab]"]),
        ("rows.jsonl", "json", ["rows.jsonl"]),
        ("rows/*.json.zst", "json", ["rows/*.json.zst"]),
        ("hf://datasets/owner/name/*.parquet", "parquet", ["hf://datasets/owner/name/*.parquet"]),
        ("rows.csv", "csv", ["rows.csv"]),
        ("rows.arrow", "arrow", ["rows.arrow"]),
    ],
)
def test_data_replace_those_of_the_file(given: str, path: str, files: list[str] | None) -> None:
    """Its files, split, options, names and revision go with its path; its columns stay."""
    expected = check({**FILE, "data": {"path": path, "data_files": files, **COLUMNS}})
    assert read(Path("a.yaml"), (), data=given) == expected
    assert check({**FILE, "data": {"path": given, **COLUMNS}}) == expected


def test_another_model_has_another_name() -> None:
    """Its label and revision go with its path; how it is loaded stays."""
    model = read(Path("a.yaml"), (), model="other").model
    assert (model.path, model.label, model.revision, model.dtype) == (
        "other",
        None,
        None,
        "float32",
    )
    labelled = read(Path("a.yaml"), ("model.label=theirs",), model="other").model
    assert labelled.label == "theirs"


def test_a_format_reads_the_files_of_the_file() -> None:
    """``--data json`` says how they are read, nothing else; no option changes nothing."""
    data = {**FILE["data"], "path": "json"}
    assert read(Path("a.yaml"), (), data="json") == check({**FILE, "data": data})
    assert read(Path("a.yaml"), (), data=None) == check(FILE)


def test_set_stands_behind_it() -> None:
    """What ``--set`` says of the data holds for those of ``--data``."""
    found = read(Path("a.yaml"), ("data.split=validation", "data.text_column=text"), data="a/b")
    assert (found.data.path, found.data.split, found.data.text_column) == (
        *("a/b", "validation", "text"),
    )


def test_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may begin with ``~``, also where no shell has read it."""
    monkeypatch.setenv("HOME", "/home/me")
    assert read(Path("a.yaml"), (), data="~/a.jsonl").data.data_files == ["/home/me/a.jsonl"]
    assert read(Path("a.yaml"), (), data="~/books").data.path == "/home/me/books"


@pytest.mark.parametrize("setting", ["windows.length", "=8", ""])
def test_setting_without_equals(setting: str) -> None:
    """``--set`` takes KEY=VALUE, and says so."""
    line = mistake(probe("run", "a.yaml", "--set", setting), 2)
    assert line == f"--set {setting}: allowed: KEY=VALUE, such as windows.length=8192"


def test_settings_are_checked() -> None:
    """A key given by ``--set`` or by its twin is checked like one in the file."""
    told, *lines = mistakes(
        probe("run", "a.yaml", "--set", "windows.stride=8", "--dtype", "float8"), 2
    )
    assert told.endswith("2 mistake(s):")
    assert lines[0].startswith("  model.dtype: ")
    assert lines[0].endswith("got 'float8'; did you mean 'float32'?")
    assert lines[1] == "  windows.stride: unknown key (value 8)"


class Run:
    """As much of an open run as has names."""

    def __init__(self, name: str) -> None:
        self.model = self.data = name


def names(runs: int, models: tuple[str, ...], data: tuple[str, ...] = ()) -> list[Any]:
    opened: list[Any] = [Run(f"{number}") for number in range(runs)]
    show_as(opened, models, data)
    return [(one.model, one.data) for one in opened]


def test_labels_are_for_all_runs_or_for_each() -> None:
    """One name is that of all, several are in the order of the runs; without, nothing changes."""
    assert names(2, (), ()) == [("0", "0"), ("1", "1")]
    assert names(2, ("A",), ("x", "y")) == [("A", "x"), ("A", "y")]
    assert names(2, ("A", "B")) == [("A", "0"), ("B", "1")]
    with pytest.raises(UsageError, match=r"--model-label is given 2 times for 3 runs; allowed"):
        names(3, ("A", "B"))
    with pytest.raises(UsageError, match="--data-label is blank; allowed"):
        names(1, (), (" ",))
