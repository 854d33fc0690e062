"""Blocks of score rows against SQL and pandas over the same files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from open_runs import opened
from simulated import Simulation, write_run

from probe.analysis import cells as cells_module
from probe.analysis import scan as scan_module
from probe.analysis.bins import bin_edges
from probe.analysis.cells import cells
from probe.analysis.scan import Block, Scan
from probe.analysis.sums import document_sums
from probe.results.record import Reading
from probe.results.views import connect

CURVES = {"truncate": lambda d: 1 / (1 + d), "shuffle": lambda d: 0.5 / (1 + d)}
EDGES = bin_edges(256)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", Simulation(CURVES, boundaries=(100, 256), reach=256))


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("scores/*.parquet"))


def columns_of(scan: Scan, block: Block) -> dict[str, np.ndarray]:
    """The rows of a block with their names, by column."""
    layout = block.layout
    start = layout.spread(block.start)
    return {
        "document": np.array(scan.documents)[layout.spread(block.document)],
        "window": layout.spread(block.window),
        "position": layout.place + start,
        "boundary": np.where(layout.free, -1, layout.beyond + start),
        "distance": layout.distance,
        "condition": np.array(scan.conditions)[layout.spread(layout.condition)],
        "far": layout.far,
        "grey": layout.grey,
        "delta": block.delta,
        "free": layout.free,
    }


def rows_of(connection) -> pd.DataFrame:
    """All rows of all blocks."""
    scan = Scan(connection)
    blocks = scan.each(lambda blocks: [columns_of(scan, block) for block in blocks])
    parts = [columns for part in blocks for columns in part]
    # One frame at the end: blocks of seven rows are thousands.
    return pd.DataFrame({name: np.concatenate([one[name] for one in parts]) for name in parts[0]})


@pytest.mark.slow
@pytest.mark.parametrize("block", [7, 1000, 1 << 18])
@pytest.mark.parametrize("reading", [Reading(), Reading(context=200)])
def test_blocks_hold_the_rows_of_the_targets(folder, monkeypatch, block, reading):
    """Each once, with the delta, the far context and the greyness that SQL has."""
    monkeypatch.setattr(scan_module, "BLOCK", block)
    with connect(folder / "windows.parquet", parts(folder), reading=reading) as connection:
        found = rows_of(connection)
        expected = connection.execute(
            """SELECT document, "window", position, boundary, distance, condition, far_tokens(
                boundary, distance, boundary - far) AS far, grey, delta FROM targets ORDER BY ALL"""
        ).df()
        whole = connection.execute("SELECT count(*) FROM scores").fetchall()[0][0]
    assert len(found) == whole
    names = list(expected.columns)
    bounded = found[~found["free"]][names].sort_values(names, ignore_index=True)
    pd.testing.assert_frame_equal(bounded, expected, check_dtype=False, rtol=1e-12)


@pytest.mark.slow
def test_the_order_and_the_types_of_another_tool(folder):
    """Rows mixed, plain texts, other widths of numbers: the cells are the same."""
    with connect(folder / "windows.parquet", parts(folder)) as connection:
        expected = document_sums(connection, EDGES)
    rng = np.random.default_rng(0)
    for part in parts(folder):
        rows = pq.read_table(part).to_pandas().astype({"document": str, "condition": str})
        rows = rows.iloc[rng.permutation(len(rows))].astype({"position": "int64", "nll": "float64"})
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), part)
    with connect(folder / "windows.parquet", parts(folder)) as connection:
        found = document_sums(connection, EDGES)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9)


def test_repeats_are_averaged_before_anything_is_counted(tmp_path):
    """A target counts once, with the mean of its draws."""
    folder = write_run(tmp_path / "run", Simulation(CURVES, documents=3, repeats=3))
    with connect(folder / "windows.parquet", parts(folder)) as connection:
        found = rows_of(connection).query("not free").sort_values(["condition", "position"])
        expected = connection.execute("SELECT * FROM targets").df()
    assert len(found) == len(expected)
    keys = ["document", "window", "position", "boundary", "condition"]
    both = found.merge(expected, on=keys, suffixes=("", "_sql"))
    np.testing.assert_allclose(both["delta"], both["delta_sql"], atol=1e-12)


def test_other_texts_are_no_rows(folder):
    """Conditions that are no losses of the targets are left out as the rows are read."""
    reading = Reading(alternatives="shuf")
    with connect(folder / "windows.parquet", parts(folder), reading=reading) as connection:
        assert "shuffle" not in set(rows_of(connection)["condition"])


@pytest.mark.slow
def test_a_page_that_is_not_what_was_written_is_no_row(folder):
    """It is seen as it is decoded, whatever column it is of, and the part is named."""
    run = opened(folder)
    path = parts(folder)[0]
    pq.write_table(pq.read_table(path), path, compression="none", write_page_checksum=True)
    column = pq.read_metadata(path).row_group(0).column(7)  # the repeat, which no count needs
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 4
    path.write_bytes(content)
    with (
        connect(folder / "windows.parquet", parts(folder)) as connection,
        pytest.raises(OSError, match="CRC"),
    ):
        list(Scan(connection).each(lambda blocks: sum(1 for _ in blocks)))
    assert len(opened(folder).documents) == len(run.documents) - 1


@pytest.mark.slow
def test_what_counts_along_sees_every_row_once(folder, monkeypatch):
    """Also where the places that a sample has were not all, and the rows are read again."""

    class Counts:
        def __init__(self) -> None:
            self.rows: list[int] = []

        def begin(self, scan: Scan) -> None:
            self.scan = scan

        def count(self, block: Block) -> None:
            self.rows.append(len(block.nll))

    monkeypatch.setattr(cells_module, "_places", lambda *_: (300, 310))
    counts = Counts()
    with connect(folder / "windows.parquet", parts(folder)) as connection:
        cells(connection, EDGES, [counts])
        whole = connection.execute("SELECT count(*) FROM scores").fetchall()[0][0]
    assert sum(counts.rows) == whole
