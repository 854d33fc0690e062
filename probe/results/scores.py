"""The run folder: score parts and windows as parquet, run.json; whole or not there at all."""

import contextlib
import hashlib
import itertools
import json
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probe.corpus.windows import Window
from probe.errors import ProbeError, UsageError
from probe.results.files import atomic_write, disk_errors
from probe.results.footer import (
    HOLDS,
    IDENTITY,
    KEY,
    OF_ANOTHER,
    Key,
    is_of_another,
    is_verified,
    part_keys,
    part_schema,
    text_of,
)
from probe.results.shards import LOCK, FolderLock, Shard
from probe.results.token_ids import TOKEN_IDS, read_token_ids
from probe.results.verified_files import VerifiedFiles

if TYPE_CHECKING:
    from probe.results.mirror import Mirror

SCHEMA = pa.schema(
    [
        ("document", pa.dictionary(pa.int32(), pa.string())),
        ("window", pa.int32()),
        ("position", pa.int32()),
        ("far_start", pa.int32()),
        ("boundary", pa.int32()),
        ("distance", pa.int32()),
        ("condition", pa.dictionary(pa.int32(), pa.string())),
        ("repeat", pa.int16()),
        ("nll", pa.float32()),
        ("nll_intact", pa.float32()),
    ]
)
OPTIONAL = {
    "kl": pa.float32(),
    "top1": pa.bool_(),
    "entropy": pa.float32(),
    "embedding": pa.float32(),
    "embedding_pooled": pa.float32(),
    "chunk": pa.int32(),
    "boundary_right": pa.int32(),
    "of": pa.dictionary(pa.int32(), pa.string()),
}
WINDOWS = pa.schema(
    [
        ("document", pa.string()),
        ("window", pa.int32()),
        ("start", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
        ("char_start", pa.list_(pa.int32())),
        ("char_end", pa.list_(pa.int32())),
        ("text", pa.string()),
    ]
)
FREQUENCIES = pa.schema([("token_id", pa.int32()), ("count", pa.int64())])
MERGED = 256  # parts of single units that are merged into one
BLOCK = 1 << 20  # rows of several parts that are in memory at once
LEFT_SECONDS = 3600.0
"""How old a scratch file is that no shard writes any more."""


class Store:
    """One run folder.

    Args:
        folder: ``results/<run>``; made when something is written.
        shard: The part of the run that this process scores, beside others that score theirs.
        mirror: Where every file goes once it is finished, besides the folder.

    Attributes:
        lock: The right to write into it.
        verified: Which of its files are known to be readable.
        identity: ``identity_hash`` of the run, for the footers of its parts.
    """

    def __init__(
        self, folder: Path, shard: Shard | None = None, mirror: "Mirror | None" = None
    ) -> None:
        self.folder, self.mirror = folder, mirror
        self.lock = FolderLock(folder, shard)
        self.verified = VerifiedFiles(folder)
        self.scores = folder / "scores"
        self.identity: str | None = None
        self._single = 0  # parts of single units, as far as they were written or counted

    @contextlib.contextmanager
    def _written(self, path: Path) -> Iterator[Path]:
        """A scratch name for a file, which is there behind the ``with``, whole or not at all."""
        with disk_errors(path), atomic_write(path) as scratch:
            yield scratch
        if path.suffix == ".parquet":
            self.verified.add(path)
        if self.mirror is not None:
            self.mirror.put(self.folder, path)

    def _remove(self, path: Path) -> None:
        path.unlink()
        if self.mirror is not None:
            self.mirror.remove(self.folder, path)

    # -- run.json ---------------------------------------------------------------------------

    def read_record(self) -> dict[str, Any] | None:
        """Read run.json, ``None`` where there is none.

        Raises:
            ProbeError: If it cannot be read.
        """
        path = self.folder / "run.json"
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ProbeError(f"{path} cannot be read: {error}") from error
        return record

    def is_complete(self) -> bool:
        """Whether run.json says that nothing is missing; not where there is none."""
        return (self.read_record() or {}).get("status") == "complete"

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write run.json, whole or not at all."""
        with self._written(self.folder / "run.json") as scratch:
            scratch.write_text(_record_text(record), encoding="utf-8")

    def update_record(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change run.json as it is now, which another shard may have written."""
        with self.lock.alone():
            record = self.read_record()
            if record is None:
                raise ProbeError(f"{self.folder / 'run.json'} is gone; allowed: to leave it there")
            change(record)
            self.write_record(record)

    # -- windows.parquet --------------------------------------------------------------------

    def read_windows(self) -> dict[tuple[str, int], NDArray[np.int32]]:
        """Token ids by document and window, shape ``(tokens,)``; empty where nothing was written.

        Raises:
            ProbeError: If the file cannot be read.
        """
        path = self.folder / "windows.parquet"
        return read_token_ids(path) if path.exists() else {}

    def known_windows(self) -> tuple[dict[tuple[str, int], NDArray[np.int32]], Path | None]:
        """Token ids by document and window; a file that cannot be read is put aside.

        What it held can be made again.

        Returns:
            The token ids, and the new name of the file if it was put aside.
        """
        path = self.folder / "windows.parquet"
        try:
            return self.read_windows(), None
        except ProbeError:
            return {}, path.rename(path.with_suffix(".unreadable"))

    @property
    def has_own_windows(self) -> bool:
        """Whether windows.parquet is as a run wrote it."""
        return self.verified.knows(self.folder / "windows.parquet")

    def write_windows(self, windows: Iterable[Window]) -> None:
        """Write windows.parquet, whole or not at all."""
        rows = [
            {
                "document": w.document,
                "window": w.index,
                "start": w.start,
                "token_ids": w.ids,
                "char_start": w.char_start,
                "char_end": w.char_end,
                "text": w.text,
            }
            for w in windows
        ]
        table = pa.Table.from_pylist(rows, schema=WINDOWS)
        with self._written(self.folder / "windows.parquet") as scratch:
            pq.write_table(table, scratch, compression="zstd", write_page_checksum=True)

    # -- frequencies.parquet ----------------------------------------------------------------

    def write_frequencies(self, counts: Callable[[], NDArray[np.int64]]) -> None:
        """Write frequencies.parquet, whole or not at all, where it is not there yet.

        Args:
            counts: Gives the occurrences of each token id, shape ``(vocabulary,)``; called only
                when something is written.
        """
        path = self.folder / "frequencies.parquet"
        if path.exists():
            return
        found = counts()
        ids = np.flatnonzero(found)
        table = pa.table({"token_id": ids, "count": found[ids]}).cast(FREQUENCIES)
        with self._written(path) as scratch:
            pq.write_table(table, scratch, compression="zstd", write_page_checksum=True)

    # -- population.parquet -----------------------------------------------------------------

    def write_population(self, windows: Callable[[], Iterable[Window]], documents: int) -> None:
        """Write population.parquet, whole or not at all, where it is not there yet for as many.

        Args:
            windows: Gives windows of documents that are not scored; called only when something is
                written.
            documents: How many documents were asked for.
        """
        path, asked = self.folder / "population.parquet", str(documents).encode()
        with contextlib.suppress(pa.ArrowException, OSError):
            known = (pq.read_schema(path).metadata or {}).get(b"documents")
            if known == asked and self.verified.holds(path):
                return
        rows = [{"document": w.document, "window": w.index, "token_ids": w.ids} for w in windows()]
        table = pa.Table.from_pylist(rows, schema=TOKEN_IDS.with_metadata({b"documents": asked}))
        with self._written(path) as scratch:
            pq.write_table(table, scratch, compression="zstd", write_page_checksum=True)

    # -- scores -----------------------------------------------------------------------------

    def write_part(
        self, columns: Mapping[str, Any] | Iterable[Mapping[str, Any]], keys: Sequence[Key]
    ) -> None:
        """Write the rows of one unit of work, whole or not at all.

        Args:
            columns: Columns of equal length in the words of the contract; or several of them, whose
                rows are written one behind the other as they come.
            keys: What the part holds; its name follows from them, so that a unit that is scored
                again replaces itself.
        """
        blocks = iter([columns] if isinstance(columns, Mapping) else columns)
        first = next(blocks)
        schema = pa.schema([*SCHEMA, *[(n, kind) for n, kind in OPTIONAL.items() if n in first]])
        with self._part("part", keys, schema) as writer:
            for block in itertools.chain([first], blocks):
                arrays = {f.name: pa.array(block[f.name], type=_plain(f.type)) for f in schema}
                writer.write_table(pa.table(arrays).cast(writer.schema))
        self._single += 1
        if self._single >= MERGED:
            self.merge()

    @contextlib.contextmanager
    def _part(
        self, kind: str, keys: Sequence[Key], schema: pa.Schema
    ) -> Iterator[pq.ParquetWriter]:
        """A part to write rows into; it is there, whole, behind the ``with``."""
        said = {HOLDS: text_of(keys)} | ({} if self.identity is None else {IDENTITY: self.identity})
        path = self._path(kind, keys)
        with (
            self._written(path) as scratch,
            pq.ParquetWriter(
                scratch, schema.with_metadata(said), compression="zstd", write_page_checksum=True
            ) as writer,
        ):
            yield writer

    def _path(self, kind: str, keys: Sequence[Key]) -> Path:
        """Where a part stands: its name follows from what it holds."""
        return (
            self.scores
            / f"{kind}-{hashlib.sha256(text_of(keys).encode()).hexdigest()[:16]}.parquet"
        )

    def merge(self) -> None:
        """Merge the parts of single units into larger ones, ``MERGED`` into one.

        Thousands of files make a folder slow to take up and to read. A merged part comes first in
        order of name and is whole before those that it was made of are removed: whoever is cut off
        in between leaves copies, which readers leave out and :meth:`clean` removes. Shards do so
        one at a time, and not at all where the file system has no locks.
        """
        with self.lock.alone():
            self._single = 0
            if self.lock.shard is not None:
                if self.lock.missing:
                    return
                self._remove_copies()
            parts = sorted(self.scores.glob("part-*.parquet"))
            for at in range(0, len(parts) - MERGED + 1, MERGED):
                self._merge(parts[at : at + MERGED])
            self._single = len(parts) % MERGED

    def _merge(self, parts: Sequence[Path]) -> None:
        schemas = [part_schema(part) for part in parts]
        plain = schemas[0].remove_metadata()
        mark = None if self.identity is None else self.identity.encode()
        if any(own != plain or (own.metadata or {}).get(IDENTITY) != mark for own in schemas):
            return  # some are of another version: all stay as they are
        keys = [key for part in parts for key in part_keys(part)]
        if len(set(keys)) < len(keys):
            return  # another shard has just written what one of them holds
        with self._part("merged", keys, plain) as writer:
            for table in self._blocks(parts):
                writer.write_table(table.cast(writer.schema))
        for part in parts:
            self._remove(part)

    def _blocks(self, parts: Iterable[Path]) -> Iterator[pa.Table]:
        """The rows of parts, texts as such, in tables of ``BLOCK`` rows or more, the last but one.

        Raises:
            ProbeError: If a part is damaged, which the next call of the run puts aside.
        """
        waiting: list[pa.Table] = []
        for part in parts:
            try:
                for table in _tables(part):
                    waiting.append(table)
                    if sum(map(len, waiting)) >= BLOCK:
                        yield pa.concat_tables(waiting)
                        waiting = []
            except (pa.ArrowException, OSError) as error:
                self.verified.forget()
                raise ProbeError(
                    f"{part} is damaged: {_line(error)}; run the same command again, which scores "
                    "its rows again"
                ) from error
        if waiting:
            yield pa.concat_tables(waiting)

    def unreadable(self) -> list[Path]:
        """The parts that do not say what they hold, or cannot be read to their end."""
        every = sorted(self.scores.glob("*.parquet"))
        return [part for part in every if not is_verified(part, self.verified)]

    def held(self, without: Collection[Path] = ()) -> tuple[set[Key], list[Path]]:
        """What has been scored, by the parts' own word.

        Args:
            without: Parts that are not asked, as their rows cannot be read.

        Returns:
            The keys of all whole parts, and the parts that do not say theirs.
        """
        keys: set[Key] = set()
        broken: list[Path] = []
        for part in sorted(set(self.scores.glob("*.parquet")).difference(without)):
            try:
                keys.update(part_keys(part))
            except (pa.ArrowException, OSError, ValueError):
                broken.append(part)
        return keys, broken

    def clean(self) -> list[Path]:
        """Remove what an interrupted run left half-written or twice; put unreadable parts aside.

        Returns:
            The parts that were put aside, under their new names.

        Raises:
            ProbeError: If ``scores`` is no folder.
        """
        if self.scores.exists() and not self.scores.is_dir():
            raise ProbeError(f"'{self.scores}' is a file; allowed: a folder of score parts")
        for scratch in (*self.folder.glob("*.tmp"), *self.scores.glob("*.tmp")):
            if scratch.is_file() and self._is_left(scratch):
                scratch.unlink()
        broken = self.unreadable()
        if self.lock.shard is None or not self.lock.missing:
            self._remove_copies(broken)
        self._single = len(list(self.scores.glob("part-*.parquet")))
        self.verified.tidy()
        aside = [part.rename(part.with_suffix(".unreadable")) for part in broken]
        for part in broken if self.mirror is not None else ():
            self.mirror.remove(self.folder, part)  # type: ignore[union-attr]
        return aside

    def _is_left(self, scratch: Path) -> bool:
        """Whether nobody writes a scratch file any more: other shards may write theirs."""
        if self.lock.shard is None:
            return True
        (self.folder / LOCK).touch()  # by the clock of the disk, which may not be that of here
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / LOCK).stat().st_mtime - scratch.stat().st_mtime > LEFT_SECONDS
        return False

    def _remove_copies(self, broken: Sequence[Path] = ()) -> None:
        """Leave every key in one part: those of a merge that was cut off, or of two shards."""
        held: set[Key] = set()
        written: set[Path] = set()
        for part in sorted(self.scores.glob("*.parquet")):  # merged parts come first
            if part in broken or part in written:
                continue
            keys = part_keys(part)
            new = [key for key in keys if key not in held]
            held.update(new)
            if len(new) < len(keys):
                if new:  # under the name of what it holds then, which another part may have had
                    written.add(self.copy_part(part, new))
                self._remove(part)

    def copy_part(self, part: Path, keys: Sequence[Key]) -> Path:
        """Write the rows of some keys of a part, of this folder or of another, as one of its own.

        Args:
            part: The part.
            keys: Some of those that it holds, or all.

        Returns:
            The new part.
        """
        schema, wanted = part_schema(part).remove_metadata(), set(keys)
        kind = part.name.partition("-")[0]
        with self._part(kind, keys, schema) as writer:
            for table in self._blocks([part]):
                names = zip(*(table[name].to_pylist() for name in KEY), strict=True)
                kept = table.filter(pa.array([name in wanted for name in names], pa.bool_()))
                writer.write_table(kept.cast(writer.schema))
        return self._path(kind, keys)

    def refuse_parts_of_others(self) -> None:
        """Refuse a folder with a part that another run has written.

        Parts of earlier versions do not say of which run they are, and are taken as they are;
        those that cannot be read are left to :meth:`clean`.

        Raises:
            UsageError: If so.
        """
        for part in sorted(self.scores.glob("*.parquet")):
            with contextlib.suppress(pa.ArrowException, OSError):
                if is_of_another(part_schema(part), self.identity):
                    raise UsageError(
                        f"{part} is {OF_ANOTHER}; move it out of the folder, or choose another name"
                    )

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold the folder, or its shard, for this process; see :class:`FolderLock`."""
        return self.lock.held()


def _record_text(record: Mapping[str, Any]) -> str:
    """run.json: a key a line, and of documents, of which there may be very many, one a line."""
    data = record.get("data", {})
    documents = data.get("documents") if isinstance(data, Mapping) else None
    if not documents:
        return json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    mark = secrets.token_hex(16)
    text = json.dumps({**record, "data": {**data, "documents": mark}}, indent=1, ensure_ascii=False)
    lines = ",\n   ".join(json.dumps(one, ensure_ascii=False) for one in documents)
    return text.replace(f'"{mark}"', f"[\n   {lines}\n  ]", 1) + "\n"


def _tables(part: Path) -> Iterator[pa.Table]:
    """The rows of a part, texts as such."""
    with pq.ParquetFile(part, page_checksum_verification=True) as file:
        for batch in file.iter_batches(BLOCK, use_threads=False):
            table = pa.table(batch).replace_schema_metadata()
            yield table.cast(pa.schema([(f.name, _plain(f.type)) for f in table.schema]))


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
