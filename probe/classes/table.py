"""The class table: the labels of every token of a run's windows, worked out once and kept."""

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probe.analysis.open_run import OpenRun
from probe.classes.builtin import DEFAULTS
from probe.classes.registry import DISTANCES, RESERVED, Chosen, choose
from probe.classes.source import batches, digest, groups, metadata, token_counts, window_counts
from probe.classes.tokens import TokenCounts, WindowTokens
from probe.errors import ProbeError
from probe.results.files import atomic_write, warn_unwritten
from probe.text import one_line

NAME = "classes.parquet"
LABEL = pa.dictionary(pa.int32(), pa.string())
FIXED = pa.schema([(name, LABEL if name == "document" else pa.int32()) for name in RESERVED])
_HOLDS = b"context_probe.classes"
_BATCH = 1 << 18
_MOST = 64
"""Combinations of labels that are counted together: a table of them by bin fits a core's cache."""


class _UnusableError(Exception):
    """The kept table cannot be read to its end, or does not fit the windows."""


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
class TokenLabels:
    """What a class table says of all tokens.

    Args:
        tokens: Number of tokens, in the order of ``windows.parquet``.
        combined: Their labels; each class is in one of these.
        back: Tokens back to what ``DISTANCES`` name, shape ``(tokens,)``; of 16 bits if they fit.
    """

    tokens: int
    combined: Sequence[Combined]
    back: Mapping[str, NDArray[np.integer[Any]]]


@dataclass(frozen=True, eq=False)
class ClassTable:
    """Labels of all tokens of a run's windows, one row a token.

    The file has the columns ``document, window, position`` (index in the document)``,
    last_occurrence_distance`` (tokens back to the same type, −1 where it does not stand earlier in
    the window)``, copy_length`` (longest context, up to 8 tokens, that stood before the same token
    earlier; 0 none)``, copy_distance`` (tokens back to it, −1 none), and one text column a class,
    named by its canonical text; a token in no class is missing there.

    Args:
        path: The file, in the run folder or in a temporary folder that goes with this value.
        classes: Canonical texts of the classes that were asked for, in order.
        notes: What a reader should know, one line each.
        kept: Its labels, where they were read already.
    """

    path: Path
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    kept: TokenLabels | None = None

    def labels(self) -> TokenLabels:
        """The labels of all tokens.

        Raises:
            ProbeError: If the file cannot be read.
        """
        try:
            return self.kept or read_labels(self.path, self.classes)
        except (OSError, pa.ArrowException) as error:
            raise ProbeError(f"'{self.path}' cannot be read: {one_line(str(error))}") from error


def default_classes(run: OpenRun) -> tuple[str, ...]:
    """The classes of a run that names none: the built-in ones, and what its data says of documents.

    That is its groups, and each of its metadata columns, if it has any.
    """
    more = ("group",) if groups(run) else ()
    return (*DEFAULTS, *more, *metadata(run)[0])


def classify(run: OpenRun, names: Sequence[str], *, write: bool = True) -> ClassTable:
    """Label every token of a run's windows; what is kept in the run folder is not done again.

    Windows are read and written a few at a time. ``classes.parquet`` also keeps classes that were
    asked for earlier, as long as windows, token counts and groups are still the same.

    Args:
        run: The open run.
        names: Classes as a configuration names them.
        write: Whether ``classes.parquet`` may be written; in a folder that cannot be written to
            the table is temporary in any case.

    Returns:
        The table.

    Raises:
        UsageError: If a class is unknown or cannot be loaded.
        ProbeError: If a predicate fails, or ``windows.parquet`` cannot be read.
    """
    columns, told = metadata(run)
    chosen = choose(names, columns)
    counts, note = token_counts(run)
    counted = any(one.text.partition("(")[0] == "frequency" for one in chosen)
    table = ClassTable(
        run.path / NAME,
        tuple(one.text for one in chosen),
        (
            *((note,) if note and counted else ()),
            *(told[one.text] for one in chosen if one.text in told),
        ),
    )
    state = digest(run)
    kept = _kept_versions(table.path, state)
    missing = tuple(one for one in chosen if not one.is_kept(kept or {}))
    if kept is not None and not missing:
        try:
            return replace(table, kept=read_labels(table.path, table.classes))
        except (OSError, pa.ArrowException):  # nothing else would find a label that became another
            kept, missing = None, chosen
    renewed = {one.text.casefold() for one in missing}
    old = {
        text: version for text, version in (kept or {}).items() if text.casefold() not in renewed
    }
    rows = partial(_write_rows, run, counts or window_counts(run), state)
    try:
        return _written(table, partial(rows, missing, old), write)
    except _UnusableError:
        return _written(table, partial(rows, chosen, {}), write)


def _written(table: ClassTable, write_rows: Callable[[Path], None], write: bool) -> ClassTable:
    """Write the table into the run folder, whole or not at all, or else into a temporary one."""
    if write:
        try:
            with atomic_write(table.path) as scratch:
                write_rows(scratch)
        except OSError as error:
            warn_unwritten(table.path, error)  # the answer needs no file there
        else:
            return table
    folder = Path(tempfile.mkdtemp(prefix="context-probe-"))
    temporary = replace(table, path=folder / NAME)
    weakref.finalize(temporary, shutil.rmtree, folder, ignore_errors=True)
    try:
        write_rows(temporary.path)
    except OSError as error:
        raise ProbeError(f"cannot write {temporary.path}: {error.strerror or error}") from error
    return temporary


def _write_rows(
    run: OpenRun,
    counts: TokenCounts,
    state: str,
    missing: Sequence[Chosen],
    old: Mapping[str, str | None],
    path: Path,
) -> None:
    """Write a table, a row group for each batch of windows.

    Classes that are *missing* are worked out; *old* ones, with their versions, are those of the
    table in the run folder.

    Raises:
        _UnusableError: If that table cannot be read, or has other rows.
    """
    versions = dict(old) | {one.text: one.version for one in missing}
    holds = json.dumps({"state": state, "versions": versions}, ensure_ascii=False)
    labels = [(text, LABEL) for text in versions]
    schema = pa.schema([*FIXED, *labels], metadata={_HOLDS: holds.encode()})
    with ExitStack() as stack:
        writer = stack.enter_context(
            pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)
        )
        kept = None
        if old:
            checked = pq.ParquetFile(run.path / NAME, page_checksum_verification=True)
            kept = stack.enter_context(checked)
        for number, windows in enumerate(batches(run, counts)):
            columns = _fixed(windows)
            if kept is not None:
                columns |= _kept(kept, number, list(old), len(columns["document"]))
            for one in missing:
                found = [label for window in windows for label in one.labels(window)]
                columns[one.text] = pa.array(found, pa.string()).dictionary_encode()
            table = pa.table({name: columns[name] for name in schema.names})
            writer.write_table(table.cast(schema))


def _kept_versions(path: Path, state: str) -> dict[str, str | None] | None:
    """The classes that a table holds, with their versions.

    ``None`` where there is no table, or one of another state, or one that cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
        held = json.loads((schema.metadata or {})[_HOLDS])
        versions: dict[str, str | None] = dict(held["versions"])
        whole = {*FIXED.names, *versions} == set(schema.names)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return versions if whole and held.get("state") == state else None


def _fixed(windows: Sequence[WindowTokens]) -> dict[str, Any]:
    lengths = [len(window) for window in windows]
    numbers = np.repeat(np.arange(len(windows), dtype=np.int32), lengths)
    names = pa.array([window.document for window in windows], pa.string())
    integers = [
        (
            np.full(len(window), window.window),
            window.start + np.arange(len(window)),
            window.last_occurrence,
            *window.copies,
        )
        for window in windows
    ]
    columns = [np.concatenate(parts).astype(np.int32) for parts in zip(*integers, strict=True)]
    document = pa.DictionaryArray.from_arrays(pa.array(numbers), names)
    return {"document": document, **dict(zip(FIXED.names[1:], columns, strict=True))}


def _kept(old: pq.ParquetFile, number: int, names: list[str], rows: int) -> dict[str, Any]:
    """Columns of the kept file's row group of this number."""
    try:
        group = old.read_row_group(number, columns=names)
        if group.num_rows != rows:
            raise _UnusableError
        return {name: group.column(name) for name in names}
    except (OSError, KeyError, IndexError, pa.ArrowException) as error:
        raise _UnusableError from error


def read_labels(path: Path, classes: Sequence[str]) -> TokenLabels:
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
        return TokenLabels(tokens, combined, dict(zip(DISTANCES, back, strict=True)))


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
