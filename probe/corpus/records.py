"""Documents as a data set holds them, in seeded order, under names that no seed changes."""

import glob
import math
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.random import Generator
from numpy.typing import NDArray
from pyarrow.parquet import read_metadata

from probe.corpus.dataset import (
    DataOptions,
    as_text_files,
    data_files,
    document_names,
    is_address,
    refuse_missing,
)
from probe.corpus.sound import Sound, read_sound
from probe.corpus.spans import TextSpan, read_spans
from probe.errors import ProbeError, UsageError
from probe.text import one_line, shown

Files = Mapping[str, tuple[str, ...]]
"""Expanded data files of each split, empty where ``datasets`` expands them."""
Row = dict[str, Any]

BUFFER = 1_000
"""Rows among which a streamed row is drawn, as in ``IterableDataset.shuffle``."""
MAPPED = 1 << 23
"""Bytes of a mapped file after which it is closed and opened again; of a large one a 64th."""
PAGES = 1 << 16
"""Bytes that come into memory at the touch of one."""
LONGEST = 200
"""Characters that a value may have: longer ones describe nothing, they are text."""
# Arguments of load_dataset that have a key of their own, or that no data set needs.
_RESERVED = {"path", "name", "revision", "split", "data_files", "streaming", "trust_remote_code"}


@dataclass(frozen=True, eq=False)
class Record:
    """One document as the data set holds it, text or token ids.

    Args:
        id: Name of the document, unique in its data set.
        text: The text, or ``None`` for data that comes as token ids.
        ids: Token ids, shape ``(n,)``, int64, or ``None`` for data that comes as text.
        group: What the document belongs to, where that was asked for.
        metadata: What describes it, by column; a missing value has no entry.
        spans: Its passages, characters of the text.
        prompt: The values of the columns of a prompt and its answer, in place of a text.
        source: What an encoder reads, text or token ids as *ids*, where that was asked for.
        sound: What an encoder hears, where that was asked for.
        alignment: What the column of alignments holds.
        alignment_column: That column's name.
    """

    id: str
    text: str | None = None
    ids: NDArray[np.int64] | None = None
    group: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    spans: tuple[TextSpan, ...] = ()
    prompt: Mapping[str, Any] = field(default_factory=dict)
    source: str | NDArray[np.int64] | None = None
    sound: Sound | None = None
    alignment: Any = None
    alignment_column: str | None = None


def records(options: DataOptions, *, seed: int) -> Iterator[Record]:
    """Read the documents of a split in an order that depends on the seed alone.

    A text file is one document, named after its file. Every other document, and those of a
    slice, are named by their row in it (``17``) or, streamed from several shards, by shard and
    row (``3:17``). Rows are permuted; a stream visits its shards in permuted order and draws each
    row from a buffer of ``BUFFER``.

    Args:
        options: The data set.
        seed: Seed of the order.

    Yields:
        Each document once, as it stands there; a missing value is an empty document.

    Raises:
        UsageError: If the data set, a file, the split or a column does not exist, or a column
            holds something else than text or token ids.
        ProbeError: If the data set is empty or cannot be read.
    """
    try:
        options = as_text_files(options)
        files = data_files(options)
    except OSError as error:  # a name that is too long
        named = shown(options.data_files or options.path)
        raise UsageError(f"data.data_files: {named}: {error.strerror}") from error
    with _one_line_errors(options, files):
        dataset = _open_split(options, files)
        dataset = _undecoded(dataset.select_columns(_columns(dataset, options)), options)
        names = _names(options, files)
        rng = np.random.default_rng(seed)
        if options.streaming:
            rows = shuffled(_streamed(dataset, names, rng), rng, size=BUFFER)
        else:
            rows = _permuted(dataset, names, rng, options.ids_column)
        del dataset  # only what reads it may hold it
        folders = _folders(files.get(options.split, ()))
        for name, row in rows:
            yield _record(name, row, options, folders)


def shuffled(
    rows: Iterable[tuple[str, Row]], rng: Generator, *, size: int
) -> Iterator[tuple[str, Row]]:
    """Shuffle a stream: each row comes from a buffer that the next row then fills.

    Args:
        rows: The stream.
        rng: Source of the order; equal state, equal order.
        size: Rows in the buffer.

    Yields:
        The same rows, each once.
    """
    buffer: list[tuple[str, Row]] = []
    for row in rows:
        if len(buffer) < size:
            buffer.append(row)
            continue
        drawn = int(rng.integers(size))
        yield buffer[drawn]
        buffer[drawn] = row
    for drawn in rng.permutation(len(buffer)).tolist():
        yield buffer[drawn]


def described(row: Mapping[str, Any], columns: Sequence[str], *, document: str) -> dict[str, str]:
    """The values of a document's metadata columns.

    Args:
        row: The document as the data set holds it.
        columns: The columns.
        document: Its name, for the message.

    Returns:
        Text by column: numbers as they are written, ``yes`` and ``no`` for true and false; no
        entry for a value that is missing, blank or NaN.

    Raises:
        UsageError: If a value is something else, or longer than ``LONGEST`` characters.
    """
    texts = {column: _text(row[column], column, document) for column in columns}
    return {column: text for column, text in texts.items() if text is not None}


# -- opening ----------------------------------------------------------------------------


def _open_split(options: DataOptions, files: Files) -> Any:
    """Open one split: a ``datasets.Dataset``, or an ``IterableDataset`` where it is streamed."""
    if reserved := sorted(_RESERVED & options.options.keys()):
        raise UsageError(
            f"data.options: {', '.join(reserved)} cannot be set here; what load_dataset takes"
            f" besides {', '.join(sorted(_RESERVED))} can"
        )
    # All splits are prepared anyway; asking for none first tells which there are.
    splits = _load(options, files, split=None)
    if options.split in splits:
        return splits[options.split]
    try:
        return _load(options, files, split=options.split)
    except ValueError as error:
        slices = "" if options.streaming else ", or a slice of one such as train[:10%]"
        raise UsageError(
            f"data.split: {shown(options.split)} selects nothing in {shown(options.path)};"
            f" allowed: {', '.join(map(str, splits))}{slices}"
        ) from error


def _load(options: DataOptions, files: Files, *, split: str | None) -> Any:
    from datasets import load_dataset  # takes seconds

    further = dict(options.options)
    if options.path == "text":
        further.setdefault("sample_by", "document")
    # The signs of a glob in a file's name would be expanded once more.
    patterns = {
        name: [path if is_address(path) else glob.escape(path) for path in paths]
        for name, paths in files.items()
    }
    try:
        return load_dataset(
            options.path,
            options.name,
            revision=options.revision,
            split=split,
            data_files=patterns or options.data_files,
            streaming=options.streaming,
            **further,
        )
    except TypeError as error:
        raise UsageError(f"data.options: {shown(further)}: {_line(error)}") from error


def _columns(dataset: Any, options: DataOptions) -> list[str]:
    """Return the columns to read, after a look at whether they are there."""
    keys = ["text_column" if options.ids_column is None else "ids_column"]
    if options.prompt_columns:
        keys = ["prompt_columns", "answer_column"]
    asked = []
    keys += ["source_column", "audio_column", "alignment_column", "group_column", "spans_column"]
    for key in (*keys, "metadata_columns"):
        named = getattr(options, key)
        asked += [(key, column) for column in ([named] if isinstance(named, str) else named or ())]
    there = dataset.column_names
    if there is None:  # a stream knows its columns from its first row only
        there = list(next(iter(dataset), {}))
    if not there:
        raise ProbeError(f"split {shown(options.split)} of data set {shown(options.path)} is empty")
    for key, column in asked:
        if column not in there:
            raise UsageError(
                f"data.{key}: {shown(column)} is not in {shown(options.path)}; allowed:"
                f" {', '.join(there)}"
            )
    return list(dict.fromkeys(column for _, column in asked))


def _undecoded(dataset: Any, options: DataOptions) -> Any:
    """The data set with the files of a column of sound as they are: we read them ourselves."""
    from datasets import Audio

    column, features = options.audio_column, dataset.features or {}
    if column is None or not isinstance(features.get(column), Audio):
        return dataset
    return dataset.cast_column(column, Audio(decode=False))


def _folders(paths: Sequence[str]) -> list[Path]:
    """Where the paths that a column holds are seen from: beside the data files, or from here."""
    return [*dict.fromkeys(Path(one).parent for one in paths if not is_address(one)), Path()]


def _names(options: DataOptions, files: Files) -> Sequence[str]:
    """Return the names of the documents where one file is one document, in order."""
    if options.path != "text" or options.options.get("sample_by", "document") != "document":
        return ()
    return document_names(files.get(options.split, ()))


# -- rows -------------------------------------------------------------------------------


def _permuted(
    dataset: Any, names: Sequence[str], rng: Generator, ids_column: str | None
) -> Iterator[tuple[str, Row]]:
    named = len(names) == len(dataset)  # an archive holds many documents
    touched, read = 0, _reader(dataset, ids_column)
    most = max(MAPPED, dataset.data.nbytes >> 6)
    for index in rng.permutation(len(dataset)).tolist():
        row = read(index)
        touched += max(PAGES, *map(_bytes, row.values()))
        yield names[index] if named else str(index), row
        if touched > most and dataset.cache_files:
            # What was read of a mapped file stays in memory until the file is closed, in the end
            # all of it. A pickled dataset is its path alone, and is opened again.
            dataset = pickle.loads(pickle.dumps(dataset))
            touched, read = 0, _reader(dataset, ids_column)


def _reader(dataset: Any, ids_column: str | None) -> Callable[[int], Row]:
    """Read a row as Python values; token ids as an array, for a list is eight times as large."""
    if ids_column is None:
        return dataset.__getitem__  # type: ignore[no-any-return]
    names = [name for name in dataset.column_names if name != ids_column]
    others = dataset.select_columns(names) if names else None
    ids = dataset.select_columns([ids_column]).with_format("arrow")

    def read(index: int) -> dict[str, Any]:
        row = others[index] if others is not None else {}
        value = ids[index][ids_column][0]
        values = getattr(value, "values", None)
        if isinstance(values, pa.Array) and pa.types.is_integer(values.type):
            return row | {ids_column: value.as_py() if values.null_count else values.to_numpy()}
        return row | {ids_column: value.as_py()}

    return read


def _bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    return len(value) if isinstance(value, str) else 0


def _streamed(dataset: Any, names: Sequence[str], rng: Generator) -> Iterator[tuple[str, Row]]:
    """Yield rows shard by shard.

    Not ``map(with_indices=True)`` before ``shuffle``: the shuffle of the shards is moved before
    the map, and the index then restarts in each of them.
    """
    shards = dataset.num_shards
    for shard in rng.permutation(shards).tolist():
        for row, values in enumerate(dataset.shard(shards, shard)):
            if len(names) == shards:
                yield names[shard] if row == 0 else f"{names[shard]}:{row}", values
            else:
                yield str(row) if shards == 1 else f"{shard}:{row}", values


# -- a row as a document ----------------------------------------------------------------


def _record(
    name: str, row: dict[str, Any], options: DataOptions, folders: Sequence[Path]
) -> Record:
    group = None if options.group_column is None else row[options.group_column]
    record = Record(
        name,
        group=None if group is None else str(group),
        metadata=described(row, options.metadata_columns, document=name),
    )
    if options.source_column is not None:
        record = _with_source(record, row, options)
    if (column := options.audio_column) is not None:
        sound = read_sound(row[column], column=column, document=name, folders=folders)
        aligned = options.alignment_column
        alignment = None if aligned is None else row[aligned]
        record = replace(record, sound=sound, alignment=alignment, alignment_column=aligned)
    if options.ids_column is not None:
        return replace(record, ids=_token_ids(row[options.ids_column], options.ids_column, name))
    if options.prompt_columns and options.answer_column is not None:
        columns = (*options.prompt_columns, options.answer_column)
        return replace(record, prompt={column: row[column] for column in columns})
    text = row[options.text_column]
    if not isinstance(text, str | None):
        raise UsageError(
            f"data.text_column: {shown(options.text_column)} holds {type(text).__name__} in"
            f" document {name!r}; allowed: text (token ids are read with ids_column)"
        )
    spans: tuple[TextSpan, ...] = ()
    if options.spans_column is not None:
        column, value = options.spans_column, row[options.spans_column]
        spans = read_spans(value, text or "", column=column, document=name)
    return replace(record, text=text or "", spans=spans)


def _with_source(record: Record, row: Mapping[str, Any], options: DataOptions) -> Record:
    """The record with what an encoder reads, and where its tokens belong.

    Raises:
        UsageError: If a column is missing from the row, or holds neither text nor token ids.
    """
    assert options.source_column is not None
    value, aligned = row[options.source_column], options.alignment_column
    if options.ids_column is not None:
        value = _token_ids(value, options.source_column, record.id, key="source_column")
    elif not isinstance(value, str | None):
        raise UsageError(
            f"data.source_column: {shown(options.source_column)} holds {type(value).__name__} in"
            f" document {record.id!r}; allowed: text (token ids are read with ids_column)"
        )
    value = "" if value is None else value
    alignment = None if aligned is None else row[aligned]
    return replace(record, source=value, alignment=alignment, alignment_column=aligned)


def _token_ids(value: Any, column: str, name: str, *, key: str = "ids_column") -> NDArray[np.int64]:
    """Return ids, or the mistake; ``(0,)`` for a missing value."""
    try:
        ids = np.asarray([] if value is None else value)
    except ValueError:  # lists of different lengths
        ids = np.empty((0, 0))
    if ids.shape == (0,):
        return np.empty(0, dtype=np.int64)
    # What numpy makes of numbers beyond int64.
    if ids.ndim == 1 and (ids.dtype.kind == "f" or ids.dtype == np.uint64):
        given = [ids.max()] if ids.dtype == np.uint64 else value
        wrong = max((int(n) for n in given if isinstance(n, int | np.integer)), default=0)
        if wrong >= 2**63:
            raise UsageError(
                f"data.{key}: {shown(column)} holds {shown(wrong)} in document {name!r};"
                " allowed: ids of the model's vocabulary"
            )
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise UsageError(
            f"data.{key}: {shown(column)} holds {shown(value)} in document {name!r};"
            " allowed: lists of whole numbers"
        )
    return ids.astype(np.int64)


def _text(value: Any, column: str, document: str) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str | int | float):
        raise UsageError(
            f"data.metadata_columns: {column!r} holds {type(value).__name__} in document"
            f" {document!r}; allowed: text, numbers, true and false"
        )
    text = str(value).strip()
    if len(text) > LONGEST:
        raise UsageError(
            f"data.metadata_columns: {column!r} holds {len(text):,} characters in document"
            f" {document!r}; allowed: up to {LONGEST}"
        )
    return text or None


# -- errors -----------------------------------------------------------------------------


@contextmanager
def _one_line_errors(options: DataOptions, files: Files) -> Iterator[None]:
    """Turn whatever reading a data set raises into one line for a user.

    ``datasets`` raises its own errors, those of pyarrow, of the hub and of its builders: there is
    no narrower family than ``Exception``.
    """
    try:
        refuse_missing(options)
        yield
    except ProbeError:
        raise
    except FileNotFoundError as error:
        raise UsageError(f"cannot find data set {shown(options.path)}: {_line(error)}") from error
    except Exception as error:
        raise ProbeError(_explanation(error, options, list(chain(*files.values())))) from error


def _explanation(error: Exception, options: DataOptions, paths: Sequence[str]) -> str:
    if paths and all(map(_is_empty, paths)):
        others = " and the other data files" if len(paths) > 1 else ""
        return f"data set {shown(options.path)} is empty: no row in {shown(paths[0])}{others}"
    if isinstance(_reason(error), UnicodeDecodeError) and "encoding" not in options.options:
        undecodable = next(filter(_is_undecodable, paths), None)
        if undecodable is not None:
            return f"{shown(undecodable)} is not UTF-8; convert it, or give data.options.encoding"
    return f"cannot read data set {shown(options.path)}: {_line(error)}"


def _reason(error: BaseException) -> BaseException:
    """Look behind an error of ``datasets`` that only says where it happened."""
    from datasets.exceptions import DatasetGenerationError

    if isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        return _reason(error.__cause__)
    return error


def _line(error: BaseException) -> str:
    reason = _reason(error)
    return one_line(reason) or type(reason).__name__


def _is_undecodable(path: str) -> bool:
    """Say whether a file of this machine is not UTF-8."""
    if is_address(path):
        return False
    try:
        Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _is_empty(path: str) -> bool:
    """Say whether a file of this machine holds no byte, or as Parquet no row."""
    if is_address(path):
        return False
    try:
        parquet = Path(path).suffix == ".parquet"
        return Path(path).stat().st_size == 0 or (parquet and read_metadata(path).num_rows == 0)
    except ValueError:  # pyarrow's error for a file that is no Parquet
        return False
