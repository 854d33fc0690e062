"""The labels of all tokens of a run as small numbers, for passes that need them of every row."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

DISTANCES = ("last_occurrence_distance", "copy_distance")
"""Columns of the class table that hold tokens back, −1 for nowhere."""
_BATCH = 1 << 18
_MOST = np.iinfo(np.int16).max


@dataclass(frozen=True, eq=False)
class Combined:
    """The labels that each token has in some classes, as one number a token.

    Args:
        values: The labels of each class.
        numbers: By token, shape ``(tokens,)``.
        label: By class, the label that a number stands for, as an index of *values*; one behind
            their last is none.
    """

    values: Mapping[str, Sequence[str]]
    numbers: NDArray[Any]
    label: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Labels:
    """What a class table says of all tokens.

    Args:
        tokens: Number of tokens, in the order of ``windows.parquet``.
        combined: Their labels; each class is in one of these.
        back: Tokens back to what ``DISTANCES`` name, shape ``(tokens,)``.
    """

    tokens: int
    combined: Sequence[Combined]
    back: Mapping[str, NDArray[np.int32]]


def read_labels(path: Path, classes: Sequence[str]) -> Labels:
    """Read the labels of some classes, and verify what is read by its checksums.

    Args:
        path: A class table.
        classes: Canonical texts of classes that it has.

    Raises:
        OSError: If the table cannot be read, or is not what was written.
        ArrowException: The same.
    """
    tokens = pq.read_metadata(path).num_rows
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        back = pool.map(partial(_distances, path, tokens), DISTANCES)
        known = pool.map(partial(_numbered, path, tokens), classes)
        combined = _combined(dict(zip(classes, known, strict=True)))
        return Labels(tokens, combined, dict(zip(DISTANCES, back, strict=True)))


def _distances(path: Path, tokens: int, name: str) -> NDArray[np.int32]:
    found = np.empty(tokens, dtype=np.int32)
    at = 0
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(_BATCH, columns=[name], use_threads=False):
            found[at : at + len(batch)] = batch.column(name).to_numpy()
            at += len(batch)
    return found


def _numbered(path: Path, tokens: int, name: str) -> tuple[list[str], NDArray[Any]]:
    """The labels of a class, and the index of each token's; one behind the last is none."""
    values: dict[str, int] = {}
    found: NDArray[Any] = np.empty(tokens, dtype=np.int16)
    at = 0
    with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=[name]) as file:
        for batch in file.iter_batches(_BATCH, columns=[name], use_threads=False):
            column: pa.DictionaryArray = batch.column(name)
            numbers = [values.setdefault(one, len(values)) for one in column.dictionary.to_pylist()]
            if len(values) >= _MOST and found.dtype == np.int16:
                found = found.astype(np.int32)
            places = column.indices.fill_null(len(numbers)).to_numpy()
            found[at : at + len(batch)] = np.array([*numbers, -1], dtype=found.dtype)[places]
            at += len(batch)
    found[found < 0] = len(values)
    return list(values), found


def _combined(known: dict[str, tuple[list[str], NDArray[Any]]]) -> list[Combined]:
    """As few arrays as hold all classes, each of numbers that fit 16 bits or of one class."""
    found: list[Combined] = []
    while known:
        sizes: dict[str, int] = {}
        numbers: NDArray[Any] | None = None
        values = {}
        for name in list(known):
            size = len(known[name][0]) + 1
            if numbers is None or np.prod([*sizes.values(), size]) <= _MOST:
                values[name], own = known.pop(name)
                numbers = own if numbers is None else numbers * numbers.dtype.type(size) + own
                sizes[name] = size
        assert numbers is not None
        every = np.arange(np.prod(list(sizes.values())))
        label = {}
        for name, size in reversed(sizes.items()):
            every, label[name] = np.divmod(every, size)
        found.append(Combined(values, numbers, label))
    return found
