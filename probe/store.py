"""The run folder: score parts and windows as parquet, run.json; whole or not there at all."""

import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from probe.errors import ProbeError
from probe.kept import told, whole
from probe.windows import Window

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
OPTIONAL = {"kl": pa.float32(), "top1": pa.bool_(), "entropy": pa.float32()}
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
HOLDS = b"context_probe.holds"
"""Where a part's footer says what the part holds."""


class Key(NamedTuple):
    """What is scored as one: a condition's draw on a window."""

    document: str
    window: int
    condition: str
    repeat: int


class Store:
    """One run folder.

    Args:
        folder: ``results/<run>``; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scores = folder / "scores"

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

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write run.json, whole or not at all."""
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        with whole(self.folder / "run.json") as scratch:
            scratch.write_text(text, encoding="utf-8")

    # -- windows.parquet --------------------------------------------------------------------

    def read_windows(self) -> dict[tuple[str, int], list[int]]:
        """Token ids by document and window, empty where nothing was written."""
        path = self.folder / "windows.parquet"
        if not path.exists():
            return {}
        columns = ["document", "window", "token_ids"]
        try:
            rows = pq.read_table(path, columns=columns, page_checksum_verification=True).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise ProbeError(f"{path} cannot be read: {_line(error)}") from error
        return {(row["document"], row["window"]): row["token_ids"] for row in rows}

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
        with whole(self.folder / "windows.parquet") as scratch:
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
        with whole(path) as scratch:
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
        held = json.dumps([list(key) for key in keys], ensure_ascii=False)
        name = hashlib.sha256(held.encode()).hexdigest()[:16]
        blocks = iter([columns] if isinstance(columns, Mapping) else columns)
        first = next(blocks)
        extra = [(name, kind) for name, kind in OPTIONAL.items() if name in first]
        schema = pa.schema([*SCHEMA, *extra], metadata={HOLDS: held.encode()})
        with (
            whole(self.scores / f"part-{name}.parquet") as scratch,
            pq.ParquetWriter(
                scratch, schema, compression="zstd", write_page_checksum=True
            ) as writer,
        ):
            for block in itertools.chain([first], blocks):
                arrays = {f.name: pa.array(block[f.name], type=_plain(f.type)) for f in schema}
                writer.write_table(pa.table(arrays).cast(schema))

    def held(self) -> tuple[set[Key], list[Path]]:
        """What has been scored, by the parts' own word.

        Returns:
            The keys of all whole parts, and the parts that cannot be read.
        """
        keys: set[Key] = set()
        broken: list[Path] = []
        for part in sorted(self.scores.glob("*.parquet")):
            try:
                keys.update(held_keys(pq.read_schema(part)))
            except (pa.ArrowException, OSError, ValueError):
                broken.append(part)
        return keys, broken

    def clean(self) -> list[Path]:
        """Remove what an interrupted run left half-written, and put unreadable parts aside.

        Returns:
            The parts that were put aside, under their new names.
        """
        for scratch in (*self.folder.glob("*.tmp"), *self.scores.glob("*.tmp")):
            if scratch.is_file():
                scratch.unlink()
        broken = [part for part in sorted(self.scores.glob("*.parquet")) if not _is_whole(part)]
        return [part.rename(part.with_suffix(".unreadable")) for part in broken]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the lock goes with the process, however it ends.

        Raises:
            ProbeError: If another process holds it.
        """
        try:
            import fcntl
        except ImportError:  # no such locks on Windows
            yield
            return
        with told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            stream = (self.folder / ".lock").open("w")
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ProbeError(f"{self.folder}: another run is writing into it") from error
            try:
                yield
            finally:
                self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        """Leave no folder behind that a refused configuration only locked."""
        if [path.name for path in self.folder.iterdir()] == [".lock"]:
            (self.folder / ".lock").unlink()
            self.folder.rmdir()


def held_keys(schema: pa.Schema) -> list[Key]:
    """What a score part holds, by the word of its footer.

    Args:
        schema: The part's schema.

    Raises:
        ValueError: If the footer says nothing of it, or what it says is no list of keys.
    """
    try:
        said = json.loads((schema.metadata or {})[HOLDS])
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError("its footer does not say what it holds") from error
    if not isinstance(said, list) or not all(map(_is_key, said)):
        raise ValueError("its footer holds no list of document, window, condition and repeat")
    return [Key(*key) for key in said]


def _is_key(value: Any) -> bool:
    return isinstance(value, list) and [type(part) for part in value] == [str, int, str, int]


def _is_whole(part: Path) -> bool:
    """Whether a part can be read to its end: a footer alone says nothing of the pages before it."""
    try:
        with pq.ParquetFile(part, page_checksum_verification=True) as file:
            held_keys(file.schema_arrow)
            return all(batch.num_rows >= 0 for batch in file.iter_batches())
    except (pa.ArrowException, OSError, ValueError):
        return False


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
