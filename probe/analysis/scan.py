"""One pass over all score rows of a run: blocks of plain arrays, made part by part on every core.

A database joins and groups a row in about a microsecond, once for each question. A run may have a
hundred million rows: what is counted of all of them is counted here, on arrays, in a tenth of that.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probe.analysis.bins import Integers
from probe.results.views import is_repeated, row

Places = NDArray[np.int32]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Made = TypeVar("Made")

BLOCK = 1 << 18
"""Rows of a block: enough that threads work on arrays, not on their turns at the interpreter."""
_VECTORS = BLOCK // 2048
"""The same in what the database counts by."""
LAYOUTS = 4
"""Layouts that are known at once."""
TEXTS = ("document", "condition")
NUMBERS = ("window", "position", "boundary", "distance")
LOSSES = ("nll", "nll_intact")


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the rows of a block lie in their windows.

    Windows are cut and perturbed alike, so that many blocks have the same: what follows from places
    alone is worked out once for them all.

    Args:
        first: Index of the first row of each stretch, shape ``(stretches,)``, rising.
        condition: Number of its condition, see :attr:`Scan.conditions`; same shape.
        place: Index of each row's target in its window, shape ``(rows,)``, as all that follow.
        beyond: Tokens between the start of the window and the boundary, which lies in it; -1
            without a boundary.
        distance: Tokens from the boundary.
        context: Tokens of the longest context, see :class:`probe.results.record.Reading`.
    """

    first: Integers
    condition: Integers
    place: Places
    beyond: Places
    distance: Places
    context: int | None
    _known: dict[Callable[..., Any], Any] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("first", "condition", "place", "beyond", "distance")
        )

    def once(self, work: Callable[["Layout"], Made]) -> Made:
        """What a function makes of this layout, worked out when it is first asked for."""
        known: Made | None = self._known.get(work)
        if known is None:  # two threads may both work it out: it is the same
            known = self._known[work] = work(self)
        return known

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """A value a row from a value a stretch."""
        return np.repeat(values, np.diff(self.first, append=len(self.place)))

    @cached_property
    def stretch(self) -> Places:
        """Number of each row's stretch."""
        return self.spread(np.arange(len(self.first), dtype=np.int32))

    @cached_property
    def free(self) -> Flags:
        """Whether a row has no boundary."""
        return np.asarray(self.beyond < 0)

    @cached_property
    def far(self) -> Places:
        """Tokens of each row's far context."""
        return self.beyond if self.context is None else np.asarray(self.context - self.distance)

    @cached_property
    def grey(self) -> Flags:
        """Whether a row's distance is longer than its far context: delta is 0 by construction."""
        return np.asarray(self.distance > self.far) & ~self.free


@dataclass(frozen=True, eq=False)
class Block:
    """Some score rows, in stretches of one document, window and condition.

    Args:
        layout: Where they lie in their windows.
        document: Number of the document of each stretch, see :attr:`Scan.documents`; shape
            ``(stretches,)``, as the four that follow.
        window: Number of its window in the document.
        start: First token of its window in the document; 0 where the window is not known.
        known: Whether its window is known, and holds all its targets.
        token: Number of its window's first token among the tokens of all windows in their order.
        nll: Loss of each row (nats), shape ``(rows,)``; of rows without, what was measured.
        nll_intact: Loss of the same target in intact text (nats), same shape; of rows without 0.
    """

    layout: Layout
    document: Integers
    window: Integers
    start: Integers
    known: Flags
    token: Integers
    nll: Floats
    nll_intact: Floats

    @cached_property
    def delta(self) -> Floats:
        """What a row's loss is above that of intact text (nats)."""
        return np.asarray(self.nll - self.nll_intact)


class Counter(Protocol):
    """What counts rows along with the cells, in their pass."""

    def begin(self, scan: "Scan") -> None:
        """Get ready for a pass; called once."""

    def count(self, block: Block) -> None:
        """Count a block; called in several threads."""


class _Names:
    """Numbers of names, in the order in which they are first met by any thread."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self._lock = Lock()

    def numbers(self, names: Sequence[str]) -> Integers:
        with self._lock:
            found = [self.known.setdefault(str(name), len(self.known)) for name in names]
        return np.array(found, dtype=np.int64)


class Scan:
    """A pass over the rows of the view ``scores``.

    Args:
        connection: From :func:`probe.results.views.connect`.

    Attributes:
        tokens: Tokens of all windows.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._parts, self._context, self._alternatives, self._measure = row(
            connection, "SELECT parts, context, alternatives, measure FROM reading"
        )
        self._documents, self._conditions = _Names(), _Names()
        self._layouts: deque[Layout] = deque(maxlen=LAYOUTS)
        found = connection.execute(
            'SELECT document, "window", start, len(token_ids) AS tokens FROM windows'
        ).fetchnumpy()
        numbers = np.asarray(found["window"], dtype=np.int64)
        self._step = int(numbers.max(initial=0)) + 1
        keys = self._documents.numbers(list(found["document"])) * self._step + numbers
        order = np.argsort(keys)
        self._keys = keys[order]
        self._starts = np.asarray(found["start"], dtype=np.int64)[order]
        tokens = np.asarray(found["tokens"], dtype=np.int64)
        self.tokens = int(tokens.sum())
        self._tokens, self._offsets = tokens[order], (np.cumsum(tokens) - tokens)[order]

    @property
    def documents(self) -> list[str]:
        """Names of the documents by their numbers: of all windows first."""
        return list(self._documents.known)

    @property
    def conditions(self) -> list[str]:
        """Names of the conditions by their numbers."""
        return list(self._conditions.known)

    def tokens_of_documents(self) -> Iterator[Integers]:
        """Numbers of the tokens of each document with a window."""
        document = self._keys // self._step  # in order, as the keys are
        for windows in np.split(np.arange(len(document)), np.flatnonzero(np.diff(document)) + 1):
            spans = zip(self._offsets[windows], self._tokens[windows], strict=True)
            yield np.concatenate([np.arange(first, first + count) for first, count in spans])

    def each(self, count: Callable[[Iterator[Block]], Made]) -> Iterator[Made]:
        """What a function makes of the blocks of each part, in the order of the parts.

        Pages are verified by their checksums as they are read. The repeats of a draw are averaged
        first, over all parts, which are one then.

        Args:
            count: Called in several threads.

        Raises:
            OSError: If a part cannot be read, or a page is not what was written.
        """
        if is_repeated(self._connection):
            yield count(self._blocks(self._averaged()))
            return
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[Made]] = deque()
            for part in self._parts:
                waiting.append(pool.submit(lambda path: count(self._blocks(_batches(path))), part))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        pa.default_memory_pool().release_unused()

    def _averaged(self) -> Iterator[pa.RecordBatch]:
        """The mean of each target's repeats."""
        losses = [self._measure] if self._measure else LOSSES
        means = ", ".join(f"avg({name}::DOUBLE) AS {name}" for name in losses)
        rows = self._connection.execute(
            f"""SELECT document::VARCHAR AS document, "window", position, boundary, distance,
                condition::VARCHAR AS condition, {means}
            FROM scores GROUP BY ALL"""
        )
        while len(chunk := rows.fetch_df_chunk(_VECTORS)):
            yield pa.RecordBatch.from_pandas(chunk, preserve_index=False)

    def _blocks(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Block]:
        for batch in batches:
            block = self._block(batch)
            if block is not None:
                yield block

    def _block(self, batch: pa.RecordBatch) -> Block | None:
        texts = {name: _encoded(batch.column(name)) for name in TEXTS}
        columns = {name: _plain(batch.column(name), np.int32) for name in NUMBERS}
        if self._measure:
            measured = _plain(batch.column(self._measure), np.float64)
            columns |= {"nll": measured, "nll_intact": np.zeros(len(measured))}
        else:
            columns |= {name: _plain(batch.column(name), np.float64) for name in LOSSES}
        columns |= {name: column.indices.to_numpy() for name, column in texts.items()}
        numbers = {
            name: names.numbers(texts[name].dictionary.to_pylist())
            for name, names in zip(TEXTS, (self._documents, self._conditions), strict=True)
        }
        if self._alternatives:
            usable = ~np.isin(numbers["condition"], self._other_texts())[columns["condition"]]
            columns = {name: values[usable] for name, values in columns.items()}
        if not len(columns["window"]):
            return None
        first = _stretches(columns)
        if 8 * len(first) > len(columns["window"]):  # in another tool's order
            order = np.lexsort((columns["window"], columns["document"], columns["condition"]))
            columns = {name: values[order] for name, values in columns.items()}
            first = _stretches(columns)
        document, condition = (numbers[name][columns.pop(name)[first]] for name in TEXTS)
        window = columns.pop("window")[first].astype(np.int64)
        keys = document * self._step + window
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        known = (self._keys[at] == keys) & (window < self._step)
        start = np.where(known, self._starts[at], 0)
        known &= np.maximum.reduceat(columns["position"], first) < start + self._tokens[at]
        starts = np.repeat(start.astype(np.int32), np.diff(first, append=len(columns["nll"])))
        boundary = columns["boundary"]
        layout = self._known(
            Layout(
                first,
                condition,
                columns["position"] - starts,
                np.where(boundary < 0, np.int32(-1), boundary - starts),
                columns["distance"],
                self._context,
            )
        )
        losses = (columns[name] for name in LOSSES)
        return Block(layout, document, window, start, known, self._offsets[at], *losses)

    def _known(self, layout: Layout) -> Layout:
        """The layout that some rows before had, where it is the same."""
        for known in tuple(self._layouts):
            if known == layout:
                return known
        self._layouts.append(layout)
        return layout

    def _other_texts(self) -> list[int]:
        """Numbers of the conditions that are no losses of the targets."""
        known = list(self._conditions.known.items())
        return [number for name, number in known if name.startswith(self._alternatives)]


def _batches(path: str) -> Iterator[pa.RecordBatch]:
    """The rows of a part, its pages verified: those of all columns, or others would not be."""
    with pq.ParquetFile(
        Path(path), page_checksum_verification=True, read_dictionary=list(TEXTS)
    ) as file:
        yield from file.iter_batches(BLOCK, use_threads=False)


def _encoded(column: pa.Array) -> pa.DictionaryArray:
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def _plain(column: pa.Array, kind: type[np.generic]) -> NDArray[Any]:
    """A column as an array; a loss that is missing is NaN."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=kind)


def _stretches(columns: Mapping[str, NDArray[Any]]) -> Integers:
    """Where another document, window or condition begins."""
    begins = np.zeros(len(columns["window"]), dtype=bool)
    begins[0] = True
    for name in (*TEXTS, "window"):
        begins[1:] |= columns[name][1:] != columns[name][:-1]
    return np.flatnonzero(begins)
