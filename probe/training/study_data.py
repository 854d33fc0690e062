"""The data of a study: a tokenizer, pieces to train on, and whole documents that are held out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from transformers import AutoConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from probe.corpus.records import Record
from probe.corpus.sample import read_records
from probe.corpus.tokenise import to_document
from probe.corpus.windows import Document
from probe.errors import ProbeError, UsageError
from probe.models.load import open_source
from probe.models.model_source import ModelSource
from probe.results.files import atomic_write, disk_errors
from probe.text import counted, one_line
from probe.training.study import RANDOM, SelectionConfig, Study, TokenizerConfig
from probe.training.training_data import select

BOS, PADDING, UNKNOWN = "<s>", "<pad>", "<unk>"
HELD_OUT, TRAINING, START = "held_out.parquet", "training.parquet", "start"
"""What is made once in the folder of a study; a new model's configuration and tokenizer last."""
_PIECES = pa.schema(
    [("document", pa.string()), ("start", pa.int64()), ("input_ids", pa.list_(pa.int32()))]
)


@dataclass(frozen=True, eq=False)
class Piece:
    """Tokens of a document that are trained on at once.

    Args:
        document: Its document.
        start: Index of its first token there.
        ids: Token ids without a BOS, shape ``(n,)``.
    """

    document: str
    start: int
    ids: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class StudyData:
    """What a study trains on, and what it starts from.

    Args:
        source: The model without its weights; of a new one its configuration and its tokenizer.
        pieces: The training data, in the order of the data set's sample.
        held_out: Documents that are held out.
    """

    source: ModelSource
    pieces: Sequence[Piece]
    held_out: int

    @property
    def bos(self) -> int | None:
        """What stands in front of every piece, ``None`` where the model has no BOS."""
        tokenizer = self.source.tokenizer
        return None if tokenizer is None else tokenizer.bos_token_id

    @property
    def tokens(self) -> int:
        """Tokens of all pieces."""
        return sum(len(piece.ids) for piece in self.pieces)


def prepare(study: Study, folder: Path) -> StudyData:
    """Make the data of a study, or read what was made before.

    The first ``held_out`` documents of the seeded sample that are long enough are held out; of all
    others, but those of a held-out document's group, pieces are cut, what is left at the end of a
    document is one where it has half the length.

    Args:
        study: The study.
        folder: Its folder.

    Raises:
        UsageError: If the data do not fit.
        ProbeError: If there are too few documents, or nothing can be written.
    """
    files = [folder / HELD_OUT, folder / TRAINING]
    if not all(file.is_file() for file in files):
        source = _start(study, folder)
        held_out, pieces = _split(study, source)
        with disk_errors(folder):
            _write(files[0], _held_out(held_out))
            _write(
                files[1],
                pa.Table.from_pylist([vars(p) | {"input_ids": p.ids} for p in pieces], _PIECES),
            )
    source = open_source(study.model.path or str(folder / START), revision=study.model.revision)
    if source.family != "causal":
        raise UsageError(f"model is {source.family}; allowed: a causal one, which weights are for")
    table = pq.read_table(files[1])
    columns = (table[name].to_pylist() for name in ("document", "start"))
    ids = (np.asarray(row.values, dtype=np.int32) for row in table["input_ids"])
    pieces = [Piece(*one) for one in zip(*columns, ids, strict=True)]
    if not study.length <= (source.positions or study.length):
        raise UsageError(
            f"length is {study.length}; allowed: 4 to {source.positions}, the model's positions"
        )
    return StudyData(source, pieces, pq.read_metadata(files[0]).num_rows)


def held_out_data(folder: Path) -> dict[str, Any]:
    """The held-out documents as ``data`` of a configuration."""
    path = folder / HELD_OUT
    is_text = "text" in pq.read_schema(path).names
    return {
        "path": str(path),
        **({} if is_text else {"ids_column": "input_ids"}),
        "label": "held out",
    }


def training_data(folder: Path) -> dict[str, Any]:
    """The training pieces as ``data`` of a configuration, a document each."""
    return {"path": str(folder / TRAINING), "ids_column": "input_ids", "label": "training pieces"}


def chosen(
    pieces: Sequence[Piece], selection: SelectionConfig, scores: pd.DataFrame | None, seed: int
) -> list[int]:
    """Numbers of the pieces of an arm, rising.

    Args:
        pieces: All of them.
        selection: Which.
        scores: Of :class:`probe.training.weigh.Summary`, pieces by their number as documents;
            ``None`` where they are chosen at random.
        seed: Of a random choice.
    """
    if selection.score == RANDOM or scores is None:
        lengths = np.array([len(piece.ids) for piece in pieces])
        order = np.random.default_rng([seed, 1]).permutation(len(pieces))
        scores = pd.DataFrame({"document": order.astype(str), "tokens": lengths[order]})
        scores["score"], scores["rank"] = 0.0, np.arange(1, len(pieces) + 1)
        scores["length_bin"] = [1 << (int(length).bit_length() - 1) for length in scores["tokens"]]
    return sorted(map(int, select(scores, selection.share)))


# -- making it --------------------------------------------------------------------------------


def _start(study: Study, folder: Path) -> ModelSource:
    """The model's configuration and tokenizer; those of a new one are made and written."""
    if study.model.path is not None:
        return open_source(study.model.path, revision=study.model.revision)
    assert study.model.config is not None
    given = dict(study.model.config)
    with disk_errors(folder):
        (folder / START).mkdir(parents=True, exist_ok=True)
        if study.tokenizer is not None:
            tokenizer = new_tokenizer(study.tokenizer, _training_texts(study))
            tokenizer.save_pretrained(folder / START)
            given |= {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id}
            given |= {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": None}
        given = {"max_position_embeddings": study.length, **given}
        try:
            config = AutoConfig.for_model(given.pop("model_type"), **given)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"model.config: {one_line(error)}") from error
        config.save_pretrained(folder / START)
    return open_source(str(folder / START))


def new_tokenizer(options: TokenizerConfig, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer made of texts, with a BOS.

    Args:
        options: Which kind, and how large.
        texts: The texts.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    special = [BOS, PADDING, UNKNOWN]
    if options.kind == "words":
        made = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(
            vocab_size=options.size, special_tokens=special, show_progress=False
        )
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=options.size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    made.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=BOS, pad_token=PADDING, unk_token=UNKNOWN
    )


def _training_texts(study: Study) -> Iterator[str]:
    """Texts of documents behind those that may be held out."""
    read, _ = read_records(study.data, seed=study.seed)
    limit = study.data.max_documents
    for number, record in enumerate(read):
        if limit is not None and number >= limit:
            return
        if record.text and number >= study.held_out:
            yield record.text


def _split(study: Study, source: ModelSource) -> tuple[list[Document], list[Piece]]:
    read, _ = read_records(study.data, seed=study.seed)
    documents = _documents(read, source.tokenizer, source.vocabulary, study.data.max_documents)
    room = study.length - (
        source.tokenizer is not None and source.tokenizer.bos_token_id is not None
    )
    held_out: list[Document] = []
    pieces: list[Piece] = []
    left = 0
    for document in documents:
        if len(held_out) < study.held_out:
            if len(document.ids) >= room:
                held_out.append(document)
            continue  # shorter ones on the way are in neither: groups are known from here on
        if document.group is not None and document.group in {one.group for one in held_out}:
            continue
        left += 1
        pieces += _pieces(document, room)
    if len(held_out) < study.held_out or not pieces:
        raise ProbeError(
            f"{counted(len(held_out), 'document')} of {room} tokens or more to hold out and "
            f"{counted(left, 'document')} to train on; allowed: held_out {study.held_out} and one "
            "or more behind them"
        )
    return held_out, pieces


def _documents(
    read: Iterator[Record],
    tokenizer: PreTrainedTokenizerBase | None,
    vocabulary: int,
    most: int | None,
) -> Iterator[Document]:
    for number, record in enumerate(read):
        if most is not None and number >= most:
            return
        yield to_document(record, tokenizer=tokenizer, vocabulary_size=vocabulary)


def _pieces(document: Document, room: int) -> Iterator[Piece]:
    for start in range(0, len(document.ids), room):
        ids = document.ids[start : start + room]
        if 2 * len(ids) >= room:
            yield Piece(document.id, start, ids.astype(np.int32))


def _held_out(documents: Sequence[Document]) -> pa.Table:
    columns: dict[str, Any] = {"document": [document.id for document in documents]}
    if all(document.text is not None for document in documents):
        columns["text"] = [document.text for document in documents]
    else:
        columns["input_ids"] = [document.ids.astype(np.int32) for document in documents]
    return pa.table(columns)


def _write(path: Path, table: pa.Table) -> None:
    with atomic_write(path) as scratch:
        pq.write_table(table, scratch)
