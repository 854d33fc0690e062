"""Tokens as bytes of text: where each starts, and how many it stands for."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from probe.analysis.open_run import OpenRun
from probe.results.views import row

Integers = NDArray[np.int64]

BATCH = 64
"""Windows whose tokens are placed at a time."""


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
        for batch in file.iter_batches(BATCH, columns=columns):
            frames = list(_token_bytes(batch.to_pylist()))
            if frames:
                connection.register("batch", pd.concat(frames, ignore_index=True))
                connection.execute(f"INSERT INTO {name} SELECT * FROM batch")
                connection.unregister("batch")


def bits_per_byte(run: OpenRun) -> float | None:
    """Intact loss of a run in bits per byte of its targets; ``None`` for data without text."""
    connection = run.connection
    create_token_bytes(connection, "token_bytes", run.path / "windows.parquet")
    nats, size = row(
        connection,
        """SELECT sum(nll::DOUBLE), sum(bytes)
        FROM scores JOIN token_bytes USING (document, "window", position)
        WHERE condition = 'intact'""",
    )
    connection.execute("DROP TABLE token_bytes")
    return float(nats) / math.log(2) / float(size) if size else None


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
