"""The class table: the labels of every token of a run's windows, worked out once and kept."""

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from probe.analysis.open_run import OpenRun
from probe.classes.builtin import DEFAULTS
from probe.classes.choice import Chosen, choose
from probe.classes.labels import Labels, read_labels
from probe.classes.source import batches, digest, groups, metadata, token_counts, window_counts
from probe.classes.tokens import TokenCounts, WindowTokens
from probe.errors import ProbeError
from probe.results.files import atomic_write, warn_unwritten
from probe.text import one_line

LABEL = pa.dictionary(pa.int32(), pa.string())
FIXED = pa.schema(
    [
        ("document", LABEL),
        ("window", pa.int32()),
        ("position", pa.int32()),
        ("last_occurrence_distance", pa.int32()),
        ("copy_length", pa.int32()),
        ("copy_distance", pa.int32()),
    ]
)
_HOLDS = b"context_probe.classes"


class UnusableError(Exception):
    """The kept table cannot be read to its end, or does not fit the windows."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a table that is to be written.

    Args:
        run: The run.
        counts: How often each type occurs in its data.
        state: Digest of what the table depends on.
        missing: Classes to work out.
        kept: The file that holds the others.
        old: Those others, with their versions.
    """

    run: OpenRun
    counts: TokenCounts
    state: str
    missing: Sequence[Chosen]
    kept: Path
    old: Mapping[str, str | None]

    @property
    def schema(self) -> pa.Schema:
        """Columns, and the words by which :func:`kept_versions` knows what they hold."""
        versions = dict(self.old) | {one.text: one.version for one in self.missing}
        held = json.dumps({"state": self.state, "versions": versions}, ensure_ascii=False)
        labels = [(text, LABEL) for text in versions]
        return pa.schema([*FIXED, *labels], metadata={_HOLDS: held.encode()})

    def tables(self) -> Iterator[pa.Table]:
        """A table for each batch of windows, which becomes a row group of the file.

        Raises:
            UnusableError: If the kept file cannot be read, or has other rows.
        """
        with ExitStack() as stack:
            old = None
            if self.old:
                checked = pq.ParquetFile(self.kept, page_checksum_verification=True)
                old = stack.enter_context(checked)
            for number, windows in enumerate(batches(self.run, self.counts)):
                columns = _fixed(windows)
                if old is not None:
                    columns |= _kept(old, number, tuple(self.old), len(columns["document"]))
                for one in self.missing:
                    labels = [label for window in windows for label in one.labels(window)]
                    columns[one.text] = pa.array(labels, pa.string()).dictionary_encode()
                yield pa.table({name: columns[name] for name in self.schema.names}).cast(
                    self.schema
                )


def kept_versions(path: Path, state: str) -> dict[str, str | None] | None:
    """The classes that a table holds, with their versions.

    Args:
        path: The file.
        state: Digest of what a table depends on.

    Returns:
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


def write_rows(path: Path, rows: Rows) -> None:
    """Write a table.

    Raises:
        OSError: If the file cannot be written.
        UnusableError: If the kept file cannot be read, or has other rows.
        ProbeError: If a predicate fails or the windows cannot be read.
    """
    with pq.ParquetWriter(
        path, rows.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        for table in rows.tables():
            writer.write_table(table)


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


def _kept(old: pq.ParquetFile, number: int, names: Sequence[str], rows: int) -> dict[str, Any]:
    """Columns of the kept file's row group of this number."""
    try:
        group = old.read_row_group(number, columns=list(names))
        if group.num_rows != rows:
            raise UnusableError
        return {name: group.column(name) for name in names}
    except (OSError, KeyError, IndexError, pa.ArrowException) as error:
        raise UnusableError from error


NAME = "classes.parquet"


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
    kept: Labels | None = None

    def labels(self) -> Labels:
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
    kept = kept_versions(table.path, state)
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
    rows = Rows(run, counts or window_counts(run), state, missing, table.path, old)
    try:
        return _written(table, rows, write)
    except UnusableError:
        return _written(table, replace(rows, missing=chosen, old={}), write)


def _written(table: ClassTable, rows: Rows, write: bool) -> ClassTable:
    """Write the table into the run folder, whole or not at all, or else into a temporary one."""
    if write:
        try:
            with atomic_write(table.path) as scratch:
                write_rows(scratch, rows)
        except OSError as error:
            warn_unwritten(table.path, error)  # the answer needs no file there
        else:
            return table
    folder = Path(tempfile.mkdtemp(prefix="context-probe-"))
    temporary = replace(table, path=folder / NAME)
    weakref.finalize(temporary, shutil.rmtree, folder, ignore_errors=True)
    try:
        write_rows(temporary.path, rows)
    except OSError as error:
        raise ProbeError(f"cannot write {temporary.path}: {error.strerror or error}") from error
    return temporary
