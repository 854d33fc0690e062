"""Options that commands share: ``--data`` by folder, file, glob or name, and ``--set``."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import mistake, mistakes, probe

from probe.commands.options import read
from probe.config import check

FILE: dict[str, Any] = {
    "name": "a",
    "model": {"path": "m"},
    "data": {
        "path": "text",
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
    """Its files, split, options, name and revision go with its path; its columns stay."""
    expected = check({**FILE, "data": {"path": path, "data_files": files, **COLUMNS}})
    assert read(Path("a.yaml"), (), data=given) == expected
    assert check({**FILE, "data": {"path": given, **COLUMNS}}) == expected


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
