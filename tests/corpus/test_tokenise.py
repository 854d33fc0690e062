"""Documents are whole and exact; long texts in pieces have the ids and characters of one call."""

import functools
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from corpus_fixtures import END_OF_TEXT, byte_tokenizer
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from probe.corpus import tokenise
from probe.corpus.records import Record
from probe.corpus.tokenise import Reader, Tokens, encode, encode_long, to_document, to_documents
from probe.errors import ProbeError, UsageError

VOCABULARY = 257
PIECE, OVERLAP = 1 << 12, 1 << 10
UNKNOWN = "<unk>"
RANDOM = random.Random(0)
WORDS = ["".join(RANDOM.choices("etaoinshr", k=RANDOM.randint(1, 9))) for _ in range(400)]
SIGNS = [
    "é",
    "e\u0301",
    "ß",
    "ﬁ",
    "中",
    "文",
    "한",
    "กำ",
    "👩\u200d🔬",
    "\u202e",
    "\u3000",
    "\r\n",
    "\t",
]
MIXED = "".join(RANDOM.choices([*SIGNS, *WORDS[:40], " ", "  ", "'s", '"', "<unk>"], k=9000))
VARIED = {
    "words": " ".join(RANDOM.choices(WORDS, k=5000)),
    "unicode": MIXED,
    "quotes": "".join(RANDOM.choices(['"', "“", "”", "'", "word ", "a "], k=9000)),
}
RUNS = {
    "without a space": "".join(RANDOM.choices(WORDS, k=5000)),
    "long words": " ".join("".join(RANDOM.choices(WORDS, k=300)) for _ in range(12)),
    "cjk": "".join(chr(0x4E00 + RANDOM.randrange(90)) for _ in range(20_000)),
    "digits": "".join(RANDOM.choices("0123456789", k=20_000)),
    "spaces": " " * 20_000,
    "a period": "ababababc" * 2000,
    "accents": "e" + "\u0301" * 20_000,
}
TEXTS = VARIED | RUNS


def trained(tokenizer: Tokenizer, trainer: trainers.Trainer) -> PreTrainedTokenizerFast:
    examples = [text[at : at + 60] for text in TEXTS.values() for at in range(0, 3000, 60)]
    tokenizer.train_from_iterator(examples, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN)


def byte_level(*before: pre_tokenizers.PreTokenizer, words: bool = True) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, last])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=alphabet, special_tokens=[UNKNOWN], show_progress=False
    )
    return trained(tokenizer, trainer)


def sentencepiece() -> PreTrainedTokenizerFast:
    """As Llama 2: a space in front, and the whole text is one word."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=True))
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=[UNKNOWN], show_progress=False)
    return trained(tokenizer, trainer)


def wordpiece() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=700, special_tokens=[UNKNOWN], show_progress=False
    )
    return trained(tokenizer, trainer)


def unigram() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    steps = [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=700, special_tokens=[UNKNOWN], unk_token=UNKNOWN, show_progress=False
    )
    return trained(tokenizer, trainer)


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level": functools.cache(byte_level),
    "byte-level, one word": functools.cache(functools.partial(byte_level, words=False)),
    "sentencepiece": functools.cache(sentencepiece),
    "wordpiece": functools.cache(wordpiece),
    "unigram": functools.cache(unigram),
}


class TestDocument:
    def test_whole_text(self, caplog: pytest.LogCaptureFixture) -> None:
        """A token keeps its characters; bytes of one character share it; no warning of length."""
        record = Record("a", text="aé b", group="g")
        document = to_document(record, Reader(byte_tokenizer(), VOCABULARY))
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
        document = to_document(record, Reader(tokenizer, VOCABULARY))
        assert tokenizer.eos_token_id == VOCABULARY - 1
        assert tokenizer.eos_token_id not in document.ids
        assert len(document.ids) == len(record.text or "")

    def test_slow_tokenizer(self) -> None:
        """A tokenizer without offsets gives ids alone, and no special token either."""
        tokenizer = ByT5Tokenizer()
        record = Record("a", text="one</s>")
        document = to_document(record, Reader(tokenizer, len(tokenizer)))
        assert document.text is None
        assert document.ids.tolist() == [byte + 3 for byte in b"one</s>"]
        assert document.char_start.shape == document.char_end.shape == (0,)

    def test_token_ids(self) -> None:
        """Token ids need no tokenizer; a text does."""
        record = Record("a", ids=np.array([1, 2]))
        document = to_document(record, Reader(None, 3))
        assert document.ids.tolist() == [1, 2]
        assert document.text is None
        with pytest.raises(UsageError, match="has no tokenizer"):
            to_document(Record("a", text="x"), Reader(None, 3))

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    def test_several_at_once(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each document is what it is alone, whatever stands beside it."""
        monkeypatch.setattr("probe.corpus.tokenise.TOGETHER", 3)
        monkeypatch.setattr("probe.corpus.tokenise.PIECE", 400)
        texts = ["aé b", "", f"one{END_OF_TEXT}two", "long " * 100, "c", "its source is another"]
        records = [Record("twice", text=text) for text in texts]
        records[-1] = Record("s", text=texts[-1], source="read before it")
        records.insert(2, Record("ids", ids=np.array([1, 2])))
        for reader in (Reader(KINDS[kind](), 1000), Reader(ByT5Tokenizer(), 1000)):
            for one, record in zip(to_documents(records, reader), records, strict=True):
                alone = to_document(record, reader)
                assert (one.id, one.text) == (alone.id, alone.text)
                for field in ("ids", "char_start", "char_end"):
                    assert np.array_equal(getattr(one, field), getattr(alone, field))

    def test_an_error_comes_behind_what_was_read(self) -> None:
        """A record that cannot be read loses none of those before it, and few are read ahead."""

        def records() -> Iterator[Record]:
            yield from (Record(str(number), text="a b") for number in range(40))
            raise ProbeError("broken")

        found = to_documents(records(), Reader(KINDS["byte-level"](), 1000))
        assert [next(found).id for _ in range(40)] == [str(number) for number in range(40)]
        with pytest.raises(ProbeError, match="broken"):
            next(found)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Short pieces; the list gets the characters of each."""
    found: list[int] = []

    def noted(text: str, tokenizer: PreTrainedTokenizerFast, **how: bool) -> Tokens:
        found.extend([len(text)] if how.get("words") else [])
        return encode(text, tokenizer, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(tokenise, "encode", noted)
    monkeypatch.setattr(tokenise, "PIECE", PIECE)
    monkeypatch.setattr(tokenise, "OVERLAP", OVERLAP)
    return found


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_the_whole(kind: str, text: str, sizes: list[int]) -> None:
    """Ids and characters are those of one call, whatever the tokenizer and the text."""
    tokenizer, written = KINDS[kind](), TEXTS[text]
    for special in (False, True):
        whole = encode(written, tokenizer, special=special)
        ids, places = encode_long(written, tokenizer, special=special)
        np.testing.assert_array_equal(ids, whole.ids)
        np.testing.assert_array_equal(places, whole.places)
    if text in VARIED:
        assert max(sizes) <= 4 * PIECE


def test_where_pieces_cannot_be_told_to_agree_one_is_the_whole(sizes: list[int]) -> None:
    """A run of spaces, and rules that look at the whole text (pairs of quotes, every 7th sign)."""
    encode_long(RUNS["spaces"], KINDS["byte-level"](), special=False)
    assert max(sizes) > 0.8 * len(RUNS["spaces"])
    for rule in ('"[^"]*"', r"[\s\S]{7}"):
        tokenizer = byte_level(pre_tokenizers.Split(Regex(rule), "isolated"))
        sizes.clear()
        ids, places = encode_long(VARIED["quotes"], tokenizer, special=False)
        whole = encode(VARIED["quotes"], tokenizer, special=False)
        np.testing.assert_array_equal(ids, whole.ids)
        np.testing.assert_array_equal(places, whole.places)
        assert sizes == [len(VARIED["quotes"])]


def test_too_little_memory_is_one_line(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokenizer would end the process: memory is asked for before it is."""
    monkeypatch.setattr(tokenise, "BYTES", 1 << 50)
    record = Record("novel", text=VARIED["words"])
    with pytest.raises(ProbeError, match=r"^document 'novel': tokenising its [0-9,]+ characters"):
        to_document(record, Reader(KINDS["byte-level"](), 1000))
    assert not sizes
