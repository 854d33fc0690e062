"""The labels of all tokens of a run as small numbers, for passes that need them of every row."""

import os
from collections.abc import Iterator, Mapping, Sequence
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
_MOST = 64
"""Combinations of labels that are counted together: a table of them by bin fits a core's cache."""


@dataclass(frozen=True, eq=False)
class Combined:
    """The labels that each token has in some classes, as one number a token.

    Args:
        values: The labels of each class.
        numbers: By token, shape ``(tokens,)``.
        has: Whether a number stands for a label, 0 or 1: shape ``(numbers, labels)``, the labels of
            all classes one behind the other.
    """

    values: Mapping[str, Sequence[str]]
    numbers: NDArray[Any]
    has: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Labels:
    """What a class table says of all tokens.

    Args:
        tokens: Number of tokens, in the order of ``windows.parquet``.
        combined: Their labels; each class is in one of these.
        back: Tokens back to what ``DISTANCES`` name, shape ``(tokens,)``; of 16 bits if they fit.
    """

    tokens: int
    combined: Sequence[Combined]
    back: Mapping[str, NDArray[np.integer[Any]]]


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


def _distances(path: Path, tokens: int, name: str) -> NDArray[np.integer[Any]]:
    found: NDArray[np.integer[Any]] = np.empty(tokens, dtype=np.int16)
    for at, column in _columns(path, name):
        values = column.to_numpy()
        if found.dtype == np.int16 and values.max(initial=0) > np.iinfo(np.int16).max:
            found = found.astype(np.int32)
        found[at : at + len(values)] = values
    return found


def _numbered(path: Path, tokens: int, name: str) -> tuple[list[str], NDArray[Any]]:
    """The labels of a class, and the index of each token's; one behind the last is none."""
    values: dict[str, int] = {}
    found: NDArray[Any] = np.empty(tokens, dtype=np.uint8)
    none = np.iinfo(np.uint8).max
    for at, column in _columns(path, name):
        numbers = [values.setdefault(one, len(values)) for one in column.dictionary.to_pylist()]
        if found.dtype == np.uint8 and len(values) >= none:
            found = np.where(found[:at] == none, -1, found[:at].astype(np.int32))
            found, none = np.append(found, np.empty(tokens - at, dtype=np.int32)), -1
        places = column.indices.fill_null(len(numbers)).to_numpy()
        found[at : at + len(places)] = np.array([*numbers, none], dtype=found.dtype)[places]
    found[found == none] = len(values)
    return list(values), found


def _columns(path: Path, name: str) -> Iterator[tuple[int, pa.Array]]:
    """A column piece by piece, each with the number of its first token."""
    at = 0
    with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=[name]) as file:
        for batch in file.iter_batches(_BATCH, columns=[name], use_threads=False):
            yield at, batch.column(0)
            at += len(batch)


def _combined(known: dict[str, tuple[list[str], NDArray[Any]]]) -> list[Combined]:
    """As few arrays as hold all classes, each of few numbers or of one class."""
    found: list[Combined] = []
    while known:
        name, (values, numbers) = next(iter(known.items()))
        del known[name]
        classes, size = {name: values}, len(values) + 1
        for other in list(known):
            more = len(known[other][0]) + 1
            if size * more <= _MOST:
                classes[other], own = known.pop(other)
                numbers, size = numbers * numbers.dtype.type(more) + own, size * more
        has: list[NDArray[np.bool_]] = []
        every = np.arange(size)
        for values in reversed(classes.values()):
            every, label = np.divmod(every, len(values) + 1)
            has.insert(0, label[:, None] == np.arange(len(values)))
        found.append(Combined(classes, numbers, np.concatenate(has, axis=1).astype(np.float64)))
    return found
