"""Python sources: which files are read, and what is taken off or left out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.corpus.stdlib import SIMILARITY, near_duplicates, python_sources, without_licence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A library of a few modules, two of them nearly the same."""
    common = [f"line_{number} = {number}" for number in range(10)]
    files = {
        "argparse.py": "\n".join(common),
        "json/decoder.py": "\n".join(["# Copyright 1066", "", "import re", "", "# why", "x = 1"]),
        "json/encoder.py": "\n".join([*common[:7], "", "    # other", "y = 2"]),
        "json/tests/fail.py": "z = 3",
        "site-packages/numpy.py": "w = 4",
        "_sysconfigdata__linux.py": "v = 5",
        "empty.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\ns = 'caf\xe9'\n")
    (tmp_path / "undecodable.py").write_bytes(b"s = 'caf\xe9'\n")
    (tmp_path / "unknown.py").write_bytes(b"# coding: klingon\n")
    return tmp_path


def test_sources(folder: Path) -> None:
    """Sources are read in order of their names; all that is left out is named or counted."""
    records, left_out = python_sources(folder)
    groups = {record.id: record.group for record in records}
    assert groups == {
        "argparse.py": "modules",
        "empty.py": "modules",
        "json/decoder.py": "json",
        "latin.py": "modules",
    }
    assert list(groups) == sorted(groups)
    assert left_out.near_duplicate.ids == ("json/encoder.py",)
    assert left_out.undecodable.ids == ("undecodable.py", "unknown.py")
    assert left_out.licence_headers == 1
    texts = {record.id: record.text for record in records}
    assert texts["json/decoder.py"] == "import re\n\n# why\nx = 1"
    assert texts["latin.py"] == "# -*- coding: latin-1 -*-\ns = 'café'\n"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("# Copyright X\nimport re\n", "import re\n"),
        ("#! python\n\n# What it does.\n\n# Licensed to Y\n#\n# as is\n\nx = 1\n", "x = 1\n"),
        ("# Copyright X\n\n# What it does.\nx = 1\n", "# What it does.\nx = 1\n"),
        ("# What it does.\nx = 1  # licence\n", "# What it does.\nx = 1  # licence\n"),
        ('"""Copyright X"""\n# licence\n', '"""Copyright X"""\n# licence\n'),
        ("# The licence\n", ""),
        ("\n\nx = 1\n", "\n\nx = 1\n"),
        ("", ""),
    ],
)
def test_without_licence(text: str, rest: str) -> None:
    """Only comments before the first code are taken off, up to the last about a licence."""
    assert without_licence(text) == rest


@given(st.lists(st.sets(st.sampled_from("abcdefghij")), max_size=8))
def test_near_duplicates(lines: list[set[str]]) -> None:
    """Looking up the rarest lines finds what comparing every pair finds."""
    kept: list[set[str]] = []
    copies = []
    for index, file in enumerate(lines):
        if file and any(len(file & other) >= SIMILARITY * len(file | other) for other in kept):
            copies.append(index)
        else:
            kept.append(file)
    assert near_duplicates(lines) == copies
