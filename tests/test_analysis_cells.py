"""Cells, read in one pass, against plain pandas and SQL over all rows."""

import contextlib

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from simulated import SCORES, Simulation, write_run

from probe.analysis import cells as cells_module
from probe.analysis.bins import bin_edges, bin_index, octave_edges
from probe.analysis.cells import cells, doubtful, far_range, scored, windows_and_targets
from probe.analysis.contrasts import contrast_sums
from probe.analysis.losses import losses
from probe.analysis.summary import summarise
from probe.analysis.sums import document_sums
from probe.analysis.tails import tails, top_sum
from probe.errors import ProbeError
from probe.results.views import connect

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


def targets_of(connection):
    return connection.execute("SELECT * FROM targets").df().astype({"document": str})


def test_contrasts_of_unequal_cells_are_those_of_a_merge(made):
    """Rows that one condition lacks, at some boundaries or here and there, leave both."""
    folder = made(boundaries=(100, 200, 256), reach=256)

    def chosen(rows):
        lacking = (rows["condition"] == "shuffle") & (rows["boundary"] % 512 == 100)
        return ~(lacking | ((rows["condition"] == "truncate") & (rows["position"] % 7 == 0)))

    change(folder, chosen)
    for first, second in (
        ("shuffle", "replace(source='document')"),
        ("replace(source='document')", "truncate"),
    ):
        with reading(folder) as connection:
            found = contrast_sums(connection, first, second, EDGES)
            rows = targets_of(connection)
        keys = ["document", "window", "position", "boundary", "distance", "grey"]
        parts = [rows[(rows.condition == name) & ~rows.grey] for name in (first, second)]
        both = parts[0].merge(parts[1], on=keys)
        both["difference"] = both.nll_x - both.nll_y
        both["distance_from"] = EDGES[bin_index(both.distance, EDGES)]
        expected = both.groupby(["distance_from", "document"])["difference"].agg(["size", "sum"])
        assert len(found) == len(expected)
        np.testing.assert_allclose(found[["targets", "delta_sum"]], expected, atol=1e-9)


@pytest.mark.parametrize("share", [0.025, 0.001, 0.0])
def test_tails_are_those_of_the_exact_quantile(made, monkeypatch, share):
    """However many deltas the guess keeps, the result is that of sorting them all."""
    monkeypatch.setattr(cells_module, "TAIL", share)
    folder = made(boundaries=(100, 256), reach=256, token_spread=0.3)
    with reading(folder) as connection:
        found = tails(connection, 256, edges=EDGES)
        rows = targets_of(connection)
    octaves = octave_edges(256)
    rows = rows[~rows.grey].assign(octave=octaves[bin_index(rows[~rows.grey].distance, octaves)])
    expected = duckdb.sql(
        """WITH cuts AS (SELECT condition, octave, quantile_disc(delta, 0.99) AS cut FROM rows
            GROUP BY ALL)
        SELECT condition, octave, avg((delta > 0)::INT) AS helped, avg((delta < 0)::INT) AS hurt,
            CASE WHEN sum(delta) > 0 THEN sum(delta) FILTER (delta >= cut) / sum(delta) END AS top,
            count(*) AS targets
        FROM rows JOIN cuts USING (condition, octave) GROUP BY ALL ORDER BY condition, octave"""
    ).df()
    assert found["condition"].tolist() == expected["condition"].tolist()
    assert found["distance_from"].tolist() == expected["octave"].tolist()
    np.testing.assert_allclose(
        found[["helped", "hurt", "top_share", "targets"]].to_numpy(float),
        expected[["helped", "hurt", "top", "targets"]].to_numpy(float),
        rtol=1e-9,
    )


def test_the_sum_of_the_top_needs_as_many_deltas_as_lie_above_the_quantile():
    """Of 200 deltas the quantile is the third largest; two alone do not know it."""
    deltas = np.random.default_rng(0).permutation(200).astype(float)
    assert top_sum(deltas, 200) == 199 + 198 + 197
    assert top_sum(deltas[deltas >= 197], 200) == 199 + 198 + 197
    assert top_sum(deltas[deltas >= 198], 200) is None


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


def test_losses_count_every_repeat(made):
    """By condition over all rows, by position and quarter over the intact ones."""
    folder = made(repeats=3, documents=7, position_slope=5.0)
    extra = pq.read_table(folder / "scores" / "part-00000.parquet").to_pandas()
    extra = extra[(extra["condition"] == "shuffle") & (extra["repeat"] == 2)]
    extra["repeat"], extra["nll"] = 3, extra["nll"] + 1
    table = pa.Table.from_pandas(extra, preserve_index=False).cast(SCORES)
    pq.write_table(table, folder / "scores" / "part-99999.parquet")
    with reading(folder) as connection:
        found = losses(connection)
        rows = connection.execute("SELECT * FROM scores").df()
        starts = connection.execute('SELECT document, "window", start FROM windows').df()
    rows = rows.astype({"document": str, "condition": str}).merge(starts)
    expected = rows.groupby("condition")["nll"].agg(["mean", "size"])
    by_condition = found.by_condition.set_index("condition").sort_index()
    np.testing.assert_allclose(by_condition["loss"], expected["mean"], rtol=1e-6)
    assert by_condition["targets"].tolist() == expected["size"].tolist()
    intact = rows[rows["condition"] == "intact"]
    place = intact["position"] - intact["start"]
    quarter = 1 + 4 * (place - place.min()) // (place.max() - place.min() + 1)
    means = intact.groupby(quarter)["nll"].mean()
    np.testing.assert_allclose(found.by_quarter["loss"], means, rtol=1e-6)
    own = intact.groupby([intact["document"], quarter])["nll"].mean().unstack()
    assert found.worsening[0] == pytest.approx((own[4] - own[2]).mean(), rel=1e-6)


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
            summarise(folder, write=False)
    pq.write_table(rows, part)
    windows = pq.read_table(folder / "windows.parquet")
    pq.write_table(windows.slice(1), folder / "windows.parquet")
    with pytest.raises(ProbeError, match="lacks 1 window that was scored, the first is window 0"):
        summarise(folder, write=False)


def test_the_order_of_parts_does_not_matter(made):
    """A condition that only late parts have, quiet or loud, is summed like the others."""
    folder = made(documents=20, boundaries=(100, 256))
    change(
        folder,
        lambda rows: (rows["document"] == "doc019") | ~rows["condition"].isin(["noise", "shuffle"]),
    )
    with reading(folder) as connection:
        found = document_sums(connection, EDGES).set_index(["condition", "distance_from"])
        rows = targets_of(connection)
        top = tails(connection, 256, edges=EDGES)
    for name in ("noise", "shuffle", "truncate"):
        own = rows[rows.condition == name]
        assert found.loc[name, "targets"].sum() == len(own)
        assert found.loc[name, "delta_sum"].sum() == pytest.approx(own.delta.sum(), abs=1e-6)
        assert top[top.condition == name]["targets"].sum() == (~own.grey).sum()


def test_places_that_the_sample_lacks_are_seen(made):
    """Quarters are those of all parts, also where every second part was looked at first."""
    folder = made(documents=40, windows=1, boundaries=(256,), reach=256)
    sampled = {f"doc{number:03d}" for number in range(0, 40, 2)}
    change(folder, lambda rows: ~(rows["document"].isin(sampled) & (rows["position"] % 512 > 300)))
    with reading(folder) as connection:
        found = losses(connection).by_quarter
        rows = connection.execute("SELECT * FROM scores WHERE condition = 'intact'").df()
    place = rows["position"]  # the windows begin with their documents
    quarter = 1 + 4 * (place - 256) // 256
    np.testing.assert_allclose(found["loss"], rows["nll"].groupby(quarter).mean(), rtol=1e-6)
    assert found["position_from"].tolist() == [256, 320, 384, 448]
    assert found["targets"].tolist() == rows["nll"].groupby(quarter).size().tolist()
