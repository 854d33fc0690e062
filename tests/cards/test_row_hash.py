"""The hash of a run's rows: equal to a plain loop, the same however rows are partitioned."""

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from probe.cards.row_hash import COLUMNS, HOW, LATER, row_hash
from probe.results.scores import OPTIONAL, SCHEMA

FULL = pa.schema([*SCHEMA, *OPTIONAL.items()])
WORD = 2**64


def mix(word: int) -> int:
    """The finaliser of splitmix64."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB % WORD
    return word ^ word >> 31


def word_of(value: Any) -> int:
    if value is None:
        return 0x00676E697373696D
    if isinstance(value, str):
        return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8], "little")
    if isinstance(value, float):
        return int.from_bytes(struct.pack("<f", value), "little")
    return int(value) % WORD


def plain(rows: Sequence[dict[str, Any]], columns: Sequence[str] = COLUMNS) -> str:
    """The hash as it is described, a row and a value at a time."""
    total = 0
    for row in rows:
        word = 0
        for name in columns:
            word = mix(((word ^ word_of(row.get(name))) + 0x9E3779B97F4A7C15) % WORD)
        total += word
    return hashlib.sha256(
        f"context-probe rows 1\n{len(rows)}\n{total % WORD:016x}\n".encode()
    ).hexdigest()


@pytest.fixture(name="table")
def rows_of_a_run() -> pa.Table:
    """Rows of three documents, with missing values, a negative boundary and equal rows."""
    rng = np.random.default_rng(3)
    rows = [
        {
            "document": f"{'ü' * (number % 3)}/a.txt",
            "window": number % 2,
            "position": number,
            "far_start": None if number % 5 else 7,
            "boundary": number - 1,
            "distance": 4,
            "condition": "truncate" if number % 2 else "intact",
            "repeat": 0,
            "nll": float(np.float32(rng.random())),
            "nll_intact": -0.0 if number == 3 else 1.5,
            "kl": None,
            "top1": bool(number % 2),
            "entropy": float(np.float32(rng.random())),
        }
        for number in range(20)
    ]
    return pa.Table.from_pylist([*rows, rows[0]], schema=FULL)


def written(folder: Path, tables: Sequence[pa.Table]) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{number}.parquet" for number in range(len(tables))]
    for file, table in zip(files, tables, strict=True):
        pq.write_table(table, file)
    return files


def test_as_described(table: pa.Table, tmp_path: Path) -> None:
    """A plain loop over the rows finds the same hash."""
    found = row_hash(written(tmp_path / "run", [table]))
    assert found.rows == 21
    assert found.sha256 == plain(table.to_pylist())
    assert all(name in HOW for name in COLUMNS)
    assert "{" not in HOW


def test_order_and_partition_do_not_matter(table: pa.Table, tmp_path: Path) -> None:
    """Shuffled rows in other parts, one of them empty and without the optional columns."""
    whole = row_hash(written(tmp_path / "whole", [table]))
    mixed = table.take(np.random.default_rng(0).permutation(len(table)))
    parts = [mixed.slice(0, 4), mixed.slice(4, 0).select(SCHEMA.names), mixed.slice(4)]
    assert row_hash(written(tmp_path / "parts", parts)) == whole


def test_texts_may_be_plain(table: pa.Table, tmp_path: Path) -> None:
    """Other tools write names without a dictionary, and whole numbers of another width."""
    other = table.cast(
        pa.schema(
            [
                (
                    field.name,
                    pa.string()
                    if pa.types.is_dictionary(field.type)
                    else pa.int64()
                    if pa.types.is_integer(field.type)
                    else field.type,
                )
                for field in FULL
            ]
        )
    )
    assert row_hash(written(tmp_path / "other", [other])) == row_hash(
        written(tmp_path / "ours", [table])
    )


def test_a_missing_column_is_missing_values(table: pa.Table, tmp_path: Path) -> None:
    """``kl`` is missing in every row: without the column the hash is the same."""
    with_it, without = (
        row_hash(written(tmp_path / name, [rows]))
        for name, rows in (("with", table), ("without", table.drop_columns("kl")))
    )
    assert with_it == without


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[1:],
        lambda rows: [*rows, rows[0]],
        lambda rows: [*rows[:-1], {**rows[-1], "nll": 0.25}],
        lambda rows: [*rows[:-1], {**rows[-1], "boundary": None}],
        lambda rows: [
            {**rows[0], "position": rows[1]["position"]},
            {**rows[1], "position": rows[0]["position"]},
            *rows[2:],
        ],
    ],
    ids=["lost", "doubled", "changed", "missing", "exchanged"],
)
def test_a_change_shows(change: Any, table: pa.Table, tmp_path: Path) -> None:
    """A row lost, doubled or changed, and values exchanged between two rows."""
    other = pa.Table.from_pylist(change(table.to_pylist()), schema=FULL)
    before, after = (
        row_hash(written(tmp_path / name, [rows]))
        for name, rows in (("before", table), ("after", other))
    )
    assert before.sha256 != after.sha256


def test_no_rows(tmp_path: Path) -> None:
    """An empty part has the hash of no rows."""
    empty = row_hash(written(tmp_path / "empty", [FULL.empty_table()]))
    assert (empty.rows, empty.sha256) == (0, plain([]))


def test_columns_that_came_later_change_no_earlier_hash(table: pa.Table, tmp_path: Path) -> None:
    """Rows without them have the hash that versions before gave, which knew nothing of them."""
    first = [name for name in COLUMNS if name not in LATER]
    assert first[-3:] == ["kl", "top1", "entropy"]
    without = table.select(first)
    found = row_hash(written(tmp_path / "earlier", [without]))
    assert found.sha256 == plain(without.to_pylist(), first)
    assert found.sha256 != row_hash(written(tmp_path / "later", [table])).sha256
