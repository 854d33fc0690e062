"""The data of a study: a tokenizer, pieces to train on, and whole documents that are held out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerFast

from probe.corpus.records import Record
from probe.corpus.sample import read_records
from probe.corpus.tokenise import Reader, to_document
from probe.corpus.windows import Document
from probe.errors import ProbeError, UsageError
from probe.models.load import open_source
from probe.models.model_source import ModelSource
from probe.results.files import atomic_write, disk_errors
from probe.text import counted, one_line, shown, suggestion
from probe.training.study import (
    RANDOM,
    SelectionConfig,
    Study,
    TokenizerConfig,
    auxiliary,
    is_weighed,
)
from probe.training.trainer import refuse_other_tokenizer
from probe.training.training_data import WEIGHTS, select

BOS, PADDING, UNKNOWN = "<s>", "<pad>", "<unk>"
_SPECIAL = frozenset({BOS, PADDING, UNKNOWN})
HELD_OUT, TRAINING, START = "held_out.parquet", "training.parquet", "start"
"""What is made once in the folder of a study; a new model's configuration and tokenizer last."""
_CONVERTED = frozenset(
    {"rope_theta", "rope_scaling", "partial_rotary_factor", "rotary_pct", "rotary_emb_base"}
    | {"attn_implementation", "max_position_embeddings"}
)
"""Keys of configurations that transformers makes others of."""
_Weights = NDArray[np.float32] | None
_PIECES = pa.schema(
    [
        ("document", pa.string()),
        ("start", pa.int64()),
        ("input_ids", pa.list_(pa.int32())),
        (WEIGHTS, pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True, eq=False)
class Piece:
    """Tokens of a document that are trained on at once.

    Args:
        document: Its document.
        start: Index of its first token there.
        ids: Token ids without a BOS, shape ``(n,)``.
        weights: What they weigh where the data say so, shape ``(n,)``.
    """

    document: str
    start: int
    ids: NDArray[np.int32]
    weights: NDArray[np.float32] | None = None


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


def prepare(study: Study, folder: Path, say: Callable[[str], None] = lambda _: None) -> StudyData:
    """Make the data of a study, or read what was made before.

    The first ``held_out`` documents of the seeded sample that are long enough are held out; shorter
    ones among them are left out. Of all behind them, but those of a held-out document's group,
    pieces are cut, what is left at the end of a document is one where it has half the length.

    Args:
        study: The study.
        folder: Its folder.
        say: Called with a line worth telling a user.

    Raises:
        UsageError: If the data do not fit, or come with weights of another tokenizer's tokens.
        ProbeError: If there are too few documents, or nothing can be written.
    """
    files = [folder / HELD_OUT, folder / TRAINING]
    if not all(file.is_file() for file in files):
        source = _start(study, folder)
        if source.tokenizer is not None and is_weighed(study.data.path):
            line = refuse_other_tokenizer(study.data.path, source.tokenizer)
            if line is not None:
                say(line)
        documents, cut = _split(study, source)
        with disk_errors(folder):
            _write(files[0], _held_out(documents))
            _write(files[1], _table(cut))
    source = open_source(study.model.path or str(folder / START), revision=study.model.revision)
    if source.family != "causal":
        raise UsageError(f"model is {source.family}; allowed: a causal one, which weights are for")
    held_out, table = (_read_table(file) for file in files)
    columns = (table[name].to_pylist() for name in ("document", "start"))
    ids = (row.values.to_numpy() for row in table["input_ids"])
    weights = (row.values.to_numpy() if row.is_valid else None for row in table[WEIGHTS])
    pieces = [Piece(*one) for one in zip(*columns, ids, weights, strict=True)]
    if not study.length <= (source.positions or study.length):
        raise UsageError(
            f"length is {study.length}; allowed: 4 to {source.positions}, the model's positions"
        )
    data = StudyData(source, pieces, len(held_out))
    _refuse_short(study, data)
    return data


def _refuse_short(study: Study, data: StudyData) -> None:
    """Refuse an auxiliary loss that no piece is long enough for."""
    longest = max(len(piece.ids) for piece in data.pieces) + (data.bos is not None)
    for name, arm in study.arms.items():
        for text in arm.auxiliary:
            if (need := auxiliary(text).fewest) > longest:
                raise UsageError(
                    f"arms.{name}: {text} needs {need:,} tokens; allowed: up to {longest:,}, "
                    "the longest training piece"
                )


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise ProbeError(f"{path} cannot be read: {one_line(error)}") from error


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

    Raises:
        ProbeError: If none is chosen.
    """
    if selection.score == RANDOM or scores is None:
        lengths = np.array([len(piece.ids) for piece in pieces])
        order = np.random.default_rng([seed, 1]).permutation(len(pieces))
        scores = pd.DataFrame({"document": order.astype(str), "tokens": lengths[order]})
        scores["score"], scores["rank"] = 0.0, np.arange(1, len(pieces) + 1)
        scores["length_bin"] = [1 << (int(length).bit_length() - 1) for length in scores["tokens"]]
    numbers = sorted(map(int, select(scores, selection.share)))
    if not numbers:
        raise ProbeError(
            f"documents.share is {selection.share:g}, less than half of the best piece of every "
            f"octave of length; there are {counted(len(pieces), 'piece')}; allowed: a larger share"
        )
    return numbers


# -- making it --------------------------------------------------------------------------------


def _start(study: Study, folder: Path) -> ModelSource:
    """The model's configuration and tokenizer; those of a new one are made and written."""
    if study.model.path is not None:
        return open_source(study.model.path, revision=study.model.revision)
    assert study.model.config is not None
    others: dict[str, Any] = {}
    if "max_position_embeddings" not in study.model.config:
        others["max_position_embeddings"] = study.length
    with disk_errors(folder):
        (folder / START).mkdir(parents=True, exist_ok=True)
        if study.tokenizer is not None:
            tokenizer = new_tokenizer(study.tokenizer, _training_texts(study))
            tokenizer.save_pretrained(folder / START)
            others |= {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id}
            others |= {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": None}
        new_config(study.model.config, others).save_pretrained(folder / START)
    return open_source(str(folder / START))


def new_config(content: Mapping[str, Any], others: Mapping[str, Any]) -> PretrainedConfig:
    """The configuration of a new model.

    Args:
        content: ``model_type`` and what else transformers' class for it takes.
        others: What follows from other keys of the study.

    Raises:
        UsageError: If the type or a key is unknown, or a value does not fit.
    """
    kind, given = content["model_type"], {k: v for k, v in content.items() if k != "model_type"}
    try:
        known = AutoConfig.for_model(kind)
        for key in given:
            if key not in _CONVERTED and not hasattr(known, key):  # kept, and read nowhere
                raise UsageError(
                    f"model.config.{one_line(key)}: unknown key of {shown(kind)}"
                    f"{suggestion(key, sorted(known.to_dict()))}"
                )
        return AutoConfig.for_model(kind, **{**given, **others})
    except UsageError:
        raise
    except Exception as error:  # every family checks its values in its own way
        raise UsageError(f"model.config: {one_line(error)}") from error


def new_tokenizer(options: TokenizerConfig, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer made of texts, with a BOS.

    Args:
        options: Which kind, and how large.
        texts: The texts.
    """
    special = [BOS, PADDING, UNKNOWN]
    if options.kind == "words":
        made = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer: Any = trainers.WordLevelTrainer(
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
    """Texts behind the first ``held_out``: some held-out ones too, where those are too short."""
    for record in islice(_records(study), study.held_out, study.data.max_documents):
        if record.text:
            yield record.text


def _records(study: Study) -> Iterator[Record]:
    """The documents in seeded order.

    Raises:
        UsageError: If a text has a special token among the words that are its tokens.
    """
    words = study.tokenizer is not None and study.tokenizer.kind == "words"
    for record in read_records(study.data, seed=study.seed)[0]:
        if words and (special := _SPECIAL & set((record.text or "").split())):
            raise UsageError(
                f"document {record.id!r} has the word {min(special)}, a special token of the new "
                "tokenizer; allowed: texts without, or tokenizer.kind bpe"
            )
        yield record


def _split(study: Study, source: ModelSource) -> tuple[list[Document], list[Piece]]:
    """Documents that are held out, and pieces of the others."""
    room = study.length - (getattr(source.tokenizer, "bos_token_id", None) is not None)
    held_out: list[Document] = []
    pieces: list[Piece] = []
    left = 0
    for document, weights in _read(study, source):
        if len(held_out) < study.held_out:
            if len(document.ids) >= room:
                held_out.append(document)
            continue  # shorter ones on the way are in neither: groups are known from here on
        if document.group is not None and document.group in {one.group for one in held_out}:
            continue
        left += 1
        for start in range(0, len(document.ids), room):
            ids = document.ids[start : start + room].astype(np.int32)
            if 2 * len(ids) >= room:
                own = None if weights is None else weights[start : start + room]
                pieces.append(Piece(document.id, start, ids, own))
    if len(held_out) < study.held_out or not pieces:
        raise ProbeError(
            f"{counted(len(held_out), 'document')} of {room} tokens or more to hold out and "
            f"{counted(left, 'document')} to train on; allowed: held_out {study.held_out} and one "
            "or more behind them"
        )
    return held_out, pieces


def _read(study: Study, source: ModelSource) -> Iterator[tuple[Document, _Weights]]:
    """The documents in seeded order, at most as many as are asked for, and what tokens weigh."""
    if is_weighed(study.data.path):
        yield from islice(_weighed(study, source.vocabulary), study.data.max_documents)
        return
    for record in islice(_records(study), study.data.max_documents):
        yield to_document(record, source.reader), None


def _weighed(study: Study, vocabulary: int) -> Iterator[tuple[Document, _Weights]]:
    """The sequences of a folder of `probe weigh --to`; those of one document are a group."""
    names = ("document", "start", "input_ids", WEIGHTS)
    tables = [_read_table(file) for file in sorted(Path(study.data.path).glob("*.parquet"))]
    if not tables or any(set(names) - set(table.column_names) for table in tables):
        raise UsageError(
            f"data.path {shown(study.data.path)} has no Parquet files with {', '.join(names)}; "
            "allowed: a folder that probe weigh --to wrote"
        )
    table = pa.concat_tables(tables)
    for number in np.random.default_rng(study.seed).permutation(len(table)).tolist():
        name, start, ids, weights = (table[name][number] for name in names)
        ids, weights = (row.values.to_numpy(zero_copy_only=False) for row in (ids, weights))
        record = Record(f"{name}:{start}", ids=ids, group=name.as_py())
        if len(ids) != len(weights):
            raise UsageError(
                f"document {record.id!r} has {len(ids)} input_ids and {len(weights)} {WEIGHTS}; "
                "allowed: one weight a token"
            )
        yield to_document(record, Reader(None, vocabulary)), weights


def _table(pieces: Sequence[Piece]) -> pa.Table:
    names = ("document", "start", "ids", "weights")
    columns = [[getattr(piece, name) for piece in pieces] for name in names]
    return pa.table(
        [pa.array(c, field.type) for c, field in zip(columns, _PIECES, strict=True)], _PIECES
    )


def _held_out(documents: Sequence[Document]) -> pa.Table:
    columns: dict[str, Any] = {"document": [document.id for document in documents]}
    if all(document.text is not None for document in documents):
        columns["text"] = [document.text for document in documents]
    else:
        columns["input_ids"] = [document.ids.astype(np.int32) for document in documents]
    return pa.table(columns)


def _write(path: Path, table: pa.Table) -> None:
    with atomic_write(path) as scratch:
        pq.write_table(table, scratch, write_page_checksum=True)
