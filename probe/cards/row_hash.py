"""One hash for the rows of a run, whatever parts they lie in and in whatever order."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probe.results.scores import OPTIONAL, SCHEMA

Words = NDArray[np.uint64]

_FIRST = (*SCHEMA.names, "kl", "top1", "entropy")
LATER = tuple(name for name in OPTIONAL if name not in _FIRST)
"""Columns that came later: hashed where a file has them, so that older runs keep their hash."""
COLUMNS = (*_FIRST, *LATER)
"""The columns that are hashed, in this order."""
MISSING = int.from_bytes(b"missing\0", "little")
"""The word of a value, or of a column, that is not there."""
_STEP = 0x9E3779B97F4A7C15
_BATCH = 1 << 16  # rows whose words stay in a core's cache
_TEXTS = ("document", "condition", "of")
_TYPES = {field.name: field.type for field in SCHEMA} | OPTIONAL
_FLOATS = [name for name, kind in _TYPES.items() if kind == pa.float32()]

HOW = (
    "Every value is a word of 64 bits: of a text the first 8 bytes (little-endian) of the SHA-256"
    " of its UTF-8, of a whole number or a bool its two's complement, of a loss the bits of its"
    f" float32, and 0x{MISSING:016x} where there is none. A row's word starts at 0 and takes up"
    f" the columns {', '.join(_FIRST)} in turn, and then those of {', '.join(LATER)} that its file"
    f" has: word = mix((word XOR value) + 0x{_STEP:016x}),"
    " modulo 2^64, mix being the finaliser of splitmix64. The words of all rows are added modulo"
    " 2^64; the hash is the SHA-256 of the text 'context-probe rows 1', the number of rows and the"
    " sum in 16 hexadecimal digits, each followed by a newline."
)
"""How the hash is made, to be checked without this package."""
PROTECTS = (
    "It shows that a row was changed, lost, added or doubled by accident, and does not depend on"
    " the order of the rows or on their partition into files. It is no signature: whoever means to"
    " can make other rows of the same hash."
)
"""What the hash is good for, and what not."""


@dataclass(frozen=True)
class RowHash:
    """The hash of the rows of a run.

    Args:
        rows: How many there are.
        sha256: Their hash, 64 hexadecimal digits.
    """

    rows: int
    sha256: str


def row_hash(parts: Sequence[Path]) -> RowHash:
    """Hash the rows of score parts in one pass, a batch of them in memory at a time.

    Args:
        parts: The files. A column that some of them lack is missing in their rows.
    """
    rows = total = 0
    for part in parts:
        with pq.ParquetFile(part) as file:
            names = [name for name in COLUMNS if name in file.schema_arrow.names]
            for batch in file.iter_batches(_BATCH, columns=names):
                rows += batch.num_rows
                total += int(_row_words(batch).sum())
    text = f"context-probe rows 1\n{rows}\n{total % 2**64:016x}\n"
    return RowHash(rows, hashlib.sha256(text.encode()).hexdigest())


def _row_words(batch: pa.RecordBatch) -> Words:
    """The word of each row, shape ``(rows,)``."""
    words = np.zeros(batch.num_rows, np.uint64)
    for values in _columns(batch):
        words ^= values
        words += np.uint64(_STEP)
        words ^= words >> np.uint64(30)
        words *= np.uint64(0xBF58476D1CE4E5B9)
        words ^= words >> np.uint64(27)
        words *= np.uint64(0x94D049BB133111EB)
        words ^= words >> np.uint64(31)
    return words


def _columns(batch: pa.RecordBatch) -> Iterator[Words | np.uint64]:
    """The words of each column's values; one for all of a column that is not there."""
    for name in COLUMNS:
        if name not in batch.schema.names:
            if name not in LATER:
                yield np.uint64(MISSING)
            continue
        array = batch.column(name)
        values = _values(name, array)
        if array.null_count:
            values = np.where(array.is_null().to_numpy(zero_copy_only=False), MISSING, values)
        yield values.astype(np.uint64, copy=False)


def _values(name: str, array: pa.Array) -> Words:
    """The words of a column; what stands in place of a missing value does not matter."""
    if name in _TEXTS:
        coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        texts = coded.dictionary.to_pylist() or [None]  # a column of missing values has none
        known = np.array([_text_word(text) for text in texts], np.uint64)
        found: Words = known[coded.indices.fill_null(0).to_numpy()]
        return found
    if name in _FLOATS:
        bits: NDArray[np.uint32] = (
            array.cast(pa.float32()).fill_null(0.0).to_numpy().view(np.uint32)
        )
        return bits.astype(np.uint64)
    whole: NDArray[np.int64] = array.cast(pa.int64()).fill_null(0).to_numpy()
    return whole.view(np.uint64)


@cache
def _text_word(text: str | None) -> int:
    digest = hashlib.sha256((text or "").encode()).digest()
    return int.from_bytes(digest[:8], "little")
