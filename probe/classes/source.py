"""The windows of a run as predicates see them, read one after another."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probe.analysis.open_run import OpenRun
from probe.classes.tokens import TokenCounts, WindowTokens, read_only
from probe.errors import ProbeError
from probe.results.views import OFFSETS
from probe.text import one_line

BATCH = 16
"""Windows that are in memory together."""
COLUMNS = ("document", "window", "start", "token_ids", "text")
MOST_LABELS = 20
"""Values of a metadata column that are kept apart; the others are one."""
OTHER = "other"


def groups(run: OpenRun) -> dict[str, str]:
    """Group of each document that has one, as ``run.json`` says."""
    documents = run.facts.data.documents
    return {one.id: str(one.group) for one in documents if one.group is not None}


def metadata(run: OpenRun) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """The metadata columns of a run's documents, as ``run.json`` keeps them.

    Of a column with more than ``MOST_LABELS`` values those with most targets keep their own; the
    documents of all others are ``OTHER``.

    Returns:
        Label of each document that has one, by column; and by column a line where values were put
        together.
    """
    columns: dict[str, dict[str, str]] = {}
    for one in run.facts.data.documents:
        for column, value in one.metadata.items():
            columns.setdefault(column, {})[one.id] = str(value)
    many = [column for column, values in columns.items() if len(set(values.values())) > MOST_LABELS]
    targets = run.once(_targets) if many else {}
    notes = {}
    for column in many:
        found: Counter[str] = Counter()
        for document, value in columns[column].items():
            found[value] += targets.get(document, 0)
        kept = set(sorted(found, key=lambda value: (-found[value], value))[:MOST_LABELS])
        rest = f"{OTHER} (of {len(found)})" if OTHER in kept else OTHER
        columns[column] = {
            document: value if value in kept else rest
            for document, value in columns[column].items()
        }
        notes[column] = (
            f"token class {column} has {len(found)} values: the {MOST_LABELS} with most targets are"
            f" kept apart, the others are merged into '{rest}'"
        )
    return columns, notes


def _targets(run: OpenRun) -> dict[str, int]:
    """Scored targets of each document."""
    rows = run.connection.execute(
        "SELECT document, count(*) FROM scores WHERE condition = 'intact' GROUP BY document"
    ).fetchall()
    return {str(document): int(count) for document, count in rows}


def digest(run: OpenRun) -> str:
    """A text that changes with the windows, the token counts and the groups of a run."""
    found = hashlib.sha256(json.dumps(groups(run), sort_keys=True).encode())
    for name in ("windows.parquet", "frequencies.parquet"):
        path = run.path / name
        if path.is_file():
            with path.open("rb") as stream:
                found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()


def token_counts(run: OpenRun) -> tuple[TokenCounts | None, str | None]:
    """How often each type occurs in the run's data.

    Returns:
        The counts of ``frequencies.parquet``, which covers whole documents; for a run without it
        ``None``, and a line that says that :func:`window_counts` are taken.
    """
    path = run.path / "frequencies.parquet"
    try:
        table = pq.read_table(path, columns=["token_id", "count"], page_checksum_verification=True)
        ids, counts = (table[name].to_numpy().astype(np.int64) for name in table.column_names)
    except FileNotFoundError:
        reason = "the run has no frequencies.parquet"
    except (OSError, ValueError, KeyError, pa.ArrowException):
        reason = "frequencies.parquet cannot be read"
    else:
        order = np.argsort(ids)
        return TokenCounts(read_only(ids[order]), read_only(counts[order])), None
    return None, f"{reason}: types are counted in the windows' own tokens"


def batches(run: OpenRun, counts: TokenCounts) -> Iterator[list[WindowTokens]]:
    """The windows in the order of ``windows.parquet``, at most ``BATCH`` at a time.

    Args:
        run: The run.
        counts: What each window is given to look its types up in.

    Raises:
        ProbeError: If ``windows.parquet`` cannot be read.
    """
    group = groups(run)
    for rows in _rows(run.path / "windows.parquet", (*COLUMNS, *OFFSETS)):
        yield [_window(row, group, counts) for row in rows]


def _window(row: dict[str, Any], group: Mapping[str, str], counts: TokenCounts) -> WindowTokens:
    ids = _integers(row["token_ids"])
    offsets = [_integers(row.get(name)) for name in OFFSETS]
    text = row["text"].as_py()
    if any(len(offset) != len(ids) for offset in offsets):
        text = None
    document = row["document"].as_py()
    return WindowTokens(
        document=document,
        window=row["window"].as_py(),
        start=row["start"].as_py(),
        ids=ids,
        char_start=offsets[0],
        char_end=offsets[1],
        text=text,
        group=group.get(document),
        counts=counts,
    )


def window_counts(run: OpenRun) -> TokenCounts:
    """How often each type occurs in the windows' own tokens."""
    ids = np.empty(0, dtype=np.int64)
    counts = ids
    for rows in _rows(run.path / "windows.parquet", ("token_ids",)):
        found = np.concatenate([ids, *(_integers(row["token_ids"]) for row in rows)])
        weights = np.concatenate([counts, np.ones(len(found) - len(ids), dtype=np.int64)])
        ids, inverse = np.unique(found, return_inverse=True)
        counts = np.bincount(inverse, weights=weights, minlength=len(ids)).astype(np.int64)
    return TokenCounts(read_only(ids), read_only(counts))


def _rows(path: Path, wanted: tuple[str, ...]) -> Iterator[list[dict[str, Any]]]:
    """Rows as dictionaries of Arrow scalars."""
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in wanted if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=BATCH, columns=names):
                columns = {name: batch.column(name) for name in names}
                yield [
                    {name: column[row] for name, column in columns.items()}
                    for row in range(batch.num_rows)
                ]
    except (OSError, pa.ArrowException) as error:
        raise ProbeError(f"'{path}' cannot be read: {one_line(error)}") from error


def _integers(scalar: Any) -> NDArray[np.int64]:
    """A list's numbers for predicates to read: one that wrote to them would mislead the next."""
    if scalar is None or scalar.values is None:
        return read_only(np.empty(0, dtype=np.int64))
    return read_only(np.asarray(scalar.values.to_numpy(zero_copy_only=False), dtype=np.int64))
