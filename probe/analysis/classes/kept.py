"""The file of a class table: what it holds already, and writing it a few windows at a time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from probe.analysis.classes.choice import Chosen
from probe.analysis.classes.source import batches
from probe.analysis.classes.tokens import TokenCounts, WindowTokens
from probe.analysis.pages import damage
from probe.analysis.runs import Run

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

    run: Run
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
            old = stack.enter_context(pq.ParquetFile(self.kept)) if self.old else None
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
            schema, footer = file.schema_arrow, file.metadata
        if damage(path, footer) is not None:
            return None
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
