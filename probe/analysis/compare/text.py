"""Tokens as bytes of text: where each starts, how many it stands for, whose tokenizer made it."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from probe.results.folder import RunFolder
from probe.results.views import parquet_rows

Integers = NDArray[np.int64]

SAMPLE = 64
"""Windows of each run that are looked at to tell whether two tokenizers are the same."""

ALIKE = 0.9
"""Share of the token ids in both samples that must stand for the same characters."""


def byte_places(text: str, char_start: ArrayLike) -> tuple[Integers, Integers]:
    """Where each token starts in the UTF-8 bytes of a text, and how many bytes are its own.

    A token's bytes end where the next token starts, so that together they are the text's: what a
    tokenizer skips counts to the token before it, and of several tokens that share a character
    the last one has its bytes.

    Args:
        text: The window's text.
        char_start: First character of each token in *text*, shape ``(tokens,)``.

    Returns:
        First byte and number of bytes of each token, each of shape ``(tokens,)``, int64.
    """
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    sizes = 1 + (points >= 0x80) + (points >= 0x800).astype(np.int64) + (points >= 0x10000)
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    starts = np.clip(np.asarray(char_start, dtype=np.int64), 0, len(points))
    first = ends[np.maximum.accumulate(starts)]
    return first, np.diff(np.append(first, ends[-1]))


def create_token_bytes(connection: duckdb.DuckDBPyConnection, name: str, windows: Path) -> None:
    """Fill a new table with the bytes of every token, a few windows at a time.

    Args:
        connection: Where the table is made.
        name: Its name; it gets the columns ``document, "window", position`` (index in the
            document)``, byte_from, bytes``. Windows without text have no rows.
        windows: A run's ``windows.parquet``.
    """
    connection.execute(
        f"""CREATE TABLE {name} (document VARCHAR, "window" INTEGER, position INTEGER,
            byte_from INTEGER, bytes INTEGER)"""
    )
    columns = ["document", "window", "start", "char_start", "text"]
    with pq.ParquetFile(windows) as file:
        for batch in file.iter_batches(SAMPLE, columns=columns):
            frames = list(_token_bytes(batch.to_pylist()))
            if frames:
                connection.register("batch", pd.concat(frames, ignore_index=True))
                connection.execute(f"INSERT INTO {name} SELECT * FROM batch")
                connection.unregister("batch")


def bits_per_byte(run: RunFolder) -> float | None:
    """Intact loss of a run in bits per byte of its targets; ``None`` for data without text."""
    windows = run.path / "windows.parquet"
    with duckdb.connect() as connection:
        create_token_bytes(connection, "token_bytes", windows)
        parquet_rows(connection, run.parts).create_view("scores")
        found = connection.execute(
            """SELECT sum(nll::DOUBLE), sum(bytes)
            FROM scores JOIN token_bytes USING (document, "window", position)
            WHERE condition = 'intact'"""
        ).fetchall()
    nats, size = found[0]
    return float(nats) / math.log(2) / float(size) if size else None


def same_tokenizer(connection: duckdb.DuckDBPyConnection, a: str, b: str) -> bool | None:
    """Whether equal token ids stand for equal characters in two runs.

    Only tokens with characters of their own are looked at: parts of a character show the whole.

    Args:
        connection: One that has both runs' windows.
        a: Name of the first run's windows.
        b: Name of the second's.

    Returns:
        The answer, ``None`` where it cannot be told: no text, or no token id in both samples.
    """
    first, second = (_vocabulary(connection, name) for name in (a, b))
    shared = first.keys() & second.keys()
    if not shared:
        return None
    alike = sum(not first[token].isdisjoint(second[token]) for token in shared)
    return alike >= ALIKE * len(shared)


def _vocabulary(connection: duckdb.DuckDBPyConnection, windows: str) -> Mapping[int, set[str]]:
    """The characters that each token id stands for in the first windows."""
    rows = connection.execute(
        f"""SELECT token_ids, char_start, char_end, text FROM {windows}
        WHERE text IS NOT NULL ORDER BY document, "window" LIMIT {SAMPLE}"""
    ).fetchall()
    found: dict[int, set[str]] = {}
    for ids, starts, ends, text in rows:
        if not len(ids) == len(starts) == len(ends):
            continue
        for at, token in enumerate(ids):
            alone = (at == 0 or ends[at - 1] <= starts[at]) and (
                at + 1 == len(ids) or ends[at] <= starts[at + 1]
            )
            if alone:
                found.setdefault(token, set()).add(text[starts[at] : ends[at]])
    return found


def _token_bytes(windows: list[dict[str, Any]]) -> Iterator[pd.DataFrame]:
    for window in windows:
        starts = window.get("char_start")
        if window["text"] is None or not starts:
            continue
        first, size = byte_places(window["text"], starts)
        yield pd.DataFrame(
            {
                "document": window["document"],
                "window": window["window"],
                "position": window["start"] + np.arange(len(first)),
                "byte_from": first,
                "bytes": size,
            }
        )
