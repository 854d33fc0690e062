"""Cells, read in one pass, against plain pandas and SQL over all rows."""

import contextlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from open_runs import opened
from simulated import Simulation, write_run

from probe.analysis.bins import bin_edges
from probe.analysis.cells import cells, doubtful, far_range, scored, windows_and_targets
from probe.analysis.sums import document_sums
from probe.errors import ProbeError
from probe.findings.concentration import shares
from probe.results.views import connect

pytestmark = pytest.mark.slow

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "replace(source='document')": lambda d: np.where(d < 64, 0.5, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.6, 0.0),
}
EDGES = bin_edges(256)


@pytest.fixture
def made(tmp_path):
    return lambda **given: write_run(tmp_path / "run", Simulation(CURVES, **given))


@contextlib.contextmanager
def reading(folder):
    with connect(folder / "windows.parquet", sorted(folder.glob("scores/*.parquet"))) as found:
        yield found


def change(folder, chosen):
    """Keep the rows of each part that *chosen*, a function of its frame, says."""
    for part in sorted(folder.glob("scores/*.parquet")):
        table = pq.read_table(part)
        pq.write_table(table.filter(pa.array(chosen(table.to_pandas()))), part)


def test_many_windows_of_a_document_are_counted(made):
    """More than a machine word has bits."""
    folder = made(documents=1, windows=70, length=32, boundaries=(16,), reach=16)
    with reading(folder) as connection:
        rows = document_sums(connection, bin_edges(16))
        assert set(rows["windows"]) == {70}
        table = cells(connection, bin_edges(16))
        assert windows_and_targets(connection, table) == (70, 70 * 16)
        assert far_range(connection, table) == (16, 16)


def test_windows_and_targets_count_once_whatever_was_scored(made):
    """A window without intact rows, or with gaps between them, counts all its positions."""
    folder = made(boundaries=(100, 256), reach=256)

    def gaps(rows):
        intact = rows["condition"] == "intact"
        return ~(intact & ((rows["document"] == "doc000") | (rows["position"] == 300)))

    for chosen in (lambda rows: np.ones(len(rows), dtype=bool), gaps):
        change(folder, chosen)
        with reading(folder) as connection:
            found = windows_and_targets(connection, cells(connection, EDGES))
            rows = connection.execute("SELECT * FROM scores").df()
        names = ["document", "window"]
        assert found == (
            len(rows[names].drop_duplicates()),
            len(rows.drop_duplicates([*names, "position"])),
        )


def test_names_and_doubts(made):
    """Documents and conditions in order; a loss that is no number and a lost window are seen."""
    folder = made()
    with reading(folder) as connection:
        table = cells(connection, EDGES)
        documents, conditions = scored(connection, table)
        assert documents == [f"doc{number:03d}" for number in range(8)]
        assert conditions == sorted([*CURVES, "noise"])
        assert not doubtful(connection, table)
        assert cells(connection, EDGES) == table
        assert cells(connection, bin_edges(256, 4)) != table
    part = folder / "scores" / "part-00003.parquet"
    rows = pq.read_table(part)
    for wrong in (np.nan, np.inf, None):
        nll = rows["nll"].to_pylist()
        nll[-1] = wrong
        place = rows.schema.get_field_index("nll")
        values = pa.array(nll, pa.float32())
        pq.write_table(rows.set_column(place, rows.schema.field("nll"), values), part)
        with reading(folder) as connection:
            assert doubtful(connection, cells(connection, EDGES))
        with pytest.raises(ProbeError, match=r"NaN, infinite or missing: '.*' has 1"):
            opened(folder)
    pq.write_table(rows, part)
    windows = pq.read_table(folder / "windows.parquet")
    pq.write_table(windows.slice(1), folder / "windows.parquet")
    with pytest.raises(ProbeError, match="lacks 1 window that was scored, the first is window 0"):
        opened(folder)


def test_the_order_of_parts_does_not_matter(made):
    """A condition that only late parts have, quiet or loud, is summed like the others."""
    folder = made(documents=20, boundaries=(100, 256))
    change(
        folder,
        lambda rows: (rows["document"] == "doc019") | ~rows["condition"].isin(["noise", "shuffle"]),
    )
    run = opened(folder)
    found = document_sums(run.connection, EDGES).set_index(["condition", "distance_from"])
    rows = run.connection.execute("SELECT * FROM targets").df().astype({"document": str})
    top = shares(run)
    for name in ("noise", "shuffle", "truncate"):
        own = rows[rows.condition == name]
        assert found.loc[name, "targets"].sum() == len(own)
        assert found.loc[name, "delta_sum"].sum() == pytest.approx(own.delta.sum(), abs=1e-6)
        assert top[top.condition == name]["targets"].sum() == (~own.grey).sum()
