"""The corpus: documents whole and exact, a seeded sample, and every omission counted."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_fixtures import (
    END_OF_TEXT,
    books,  # noqa: F401 (fixture)
    byte_tokenizer,
    offline,  # noqa: F401 (fixture)
)
from transformers import ByT5Tokenizer

from probe.corpus import sample
from probe.corpus.dataset import DataOptions
from probe.corpus.records import NAMED, Record
from probe.corpus.sample import Corpus, load_corpus, to_document
from probe.errors import UsageError

VOCABULARY = 257


def load(minimum: int = 1, seed: int = 0, **options: Any) -> Corpus:
    return load_corpus(
        DataOptions(**options),
        tokenizer=byte_tokenizer(),
        vocabulary_size=VOCABULARY,
        minimum=minimum,
        seed=seed,
    )


class TestDocument:
    def test_whole_text(self, caplog: pytest.LogCaptureFixture) -> None:
        """A token keeps its characters; bytes of one character share it; no warning of length."""
        record = Record("a", text="aé b", group="g")
        document = to_document(record, tokenizer=byte_tokenizer(), vocabulary_size=VOCABULARY)
        assert (document.id, document.text, document.group) == ("a", "aé b", "g")
        assert document.char_start.tolist() == [0, 1, 1, 2, 3]
        assert document.char_end.tolist() == [1, 2, 2, 3, 4]
        assert document.ids.dtype == np.int32
        assert document.char_start.dtype == document.char_end.dtype == np.int32
        assert byte_tokenizer().decode(document.ids) == "aé b"
        assert not caplog.records

    def test_no_special_token(self) -> None:
        """A document cannot spell an end of text."""
        tokenizer = byte_tokenizer()
        record = Record("a", text=f"one{END_OF_TEXT}two")
        document = to_document(record, tokenizer=tokenizer, vocabulary_size=VOCABULARY)
        assert tokenizer.eos_token_id == VOCABULARY - 1
        assert tokenizer.eos_token_id not in document.ids
        assert len(document.ids) == len(record.text or "")

    def test_slow_tokenizer(self) -> None:
        """A tokenizer without offsets gives ids alone, and no special token either."""
        tokenizer = ByT5Tokenizer()
        record = Record("a", text="one</s>")
        document = to_document(record, tokenizer=tokenizer, vocabulary_size=len(tokenizer))
        assert document.text is None
        assert document.ids.tolist() == [byte + 3 for byte in b"one</s>"]
        assert document.char_start.shape == document.char_end.shape == (0,)

    def test_token_ids(self) -> None:
        """Token ids need no tokenizer; a text does."""
        record = Record("a", ids=np.array([1, 2]))
        document = to_document(record, tokenizer=None, vocabulary_size=3)
        assert document.ids.tolist() == [1, 2]
        assert document.text is None
        with pytest.raises(UsageError, match="has no tokenizer"):
            to_document(Record("a", text="x"), tokenizer=None, vocabulary_size=3)


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
    def test_quick_look(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Python's own sources are a corpus, sampled like any other."""
        read_once = functools.cache(sample.python_sources)
        monkeypatch.setattr(sample, "python_sources", read_once)
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
