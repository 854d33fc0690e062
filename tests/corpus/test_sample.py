"""The corpus: a seeded sample, every omission counted, and Python's own sources as one."""

import json
from pathlib import Path
from typing import Any

import pytest
from corpus_fixtures import (
    books,  # noqa: F401 (fixture)
    byte_tokenizer,
    offline,  # noqa: F401 (fixture)
)
from hypothesis import given
from hypothesis import strategies as st

from probe.corpus.dataset import DataOptions
from probe.corpus.sample import (
    NAMED,
    SIMILARITY,
    Corpus,
    load_corpus,
    near_duplicates,
    python_sources,
    without_licence,
)
from probe.corpus.tokenise import Reader
from probe.errors import UsageError

VOCABULARY = 257


def load(minimum: int = 1, seed: int = 0, **options: Any) -> Corpus:
    return load_corpus(
        DataOptions(**options),
        Reader(byte_tokenizer(), VOCABULARY),
        minimum=minimum,
        seed=seed,
    )


@pytest.mark.usefixtures("offline", "books")
class TestSample:
    def test_left_out(self) -> None:
        """What is too short or empty is counted and named."""
        corpus = load(30, path="text", data_files="books/*.txt")
        assert [document.id for document in corpus.documents] == ["emma.txt"]
        assert corpus.left_out.too_short.ids == ("persuasion.txt",)
        assert corpus.left_out.empty.ids == ("blank.txt",)

    def test_names_are_capped(self) -> None:
        """Of many omissions some are named and all are counted."""
        rows = [{"text": "x" * (1 + (row == 0))} for row in range(2 * NAMED)]
        Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        too_short = load(2, path="json", data_files="a.jsonl").left_out.too_short
        assert too_short.count == 2 * NAMED - 1
        assert len(set(too_short.ids)) == NAMED

    @pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
    def test_larger_sample_begins_with_smaller(self, streaming: bool) -> None:
        """A larger max_documents appends; another seed draws others."""
        rows = [{"text": "word " * (row % 5)} for row in range(60)]
        Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

        def draw(size: int | None, seed: int = 3) -> list[str]:
            options = {"path": "json", "data_files": "a.jsonl", "streaming": streaming}
            corpus = load(10, seed, max_documents=size, **options)
            return [document.id for document in corpus.documents]

        whole = draw(None)
        assert len(whole) == 36
        assert all(draw(size) == whole[:size] for size in (1, 7, 35))
        assert draw(100) == whole
        assert draw(10, seed=4) != draw(10)
        assert draw(10) != sorted(draw(10), key=int)


class TestStdlib:
    @pytest.mark.slow
    def test_quick_look(self) -> None:
        """Python's own sources are a corpus, sampled like any other."""
        corpus = load(2_000, path="stdlib", max_documents=3)
        more = load(2_000, path="stdlib", max_documents=5)
        names = [document.id for document in corpus.documents]
        assert len(names) == 3
        assert [document.id for document in more.documents][:3] == names
        assert all(document.group for document in corpus.documents)
        assert corpus.left_out.near_duplicate.count > 0
        assert corpus.left_out.licence_headers > 0

    def test_other_keys(self) -> None:
        """What means nothing to the standard library is not silently ignored."""
        with pytest.raises(UsageError, match="data_files, streaming cannot be set"):
            load(path="stdlib", data_files="*.py", streaming=True)


# -- the sources of Python --------------------------------------------------------------------


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
