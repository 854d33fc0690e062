"""Where far text is read: mean KL by octave with its interval and floor, against pandas."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from open_runs import answer, by_id, opened
from simulated import Simulation, rows_of, write_run

from probe.analysis.bins import octave_edges
from probe.analysis.bootstrap import bootstrap, pointwise_band
from probe.findings.reading import COLUMNS, LEAST, read_to, reading

CURVES = {"truncate": lambda d: 0.5 / (1 + d), "shuffle": lambda d: 0.2 / (1 + d)}


def with_kl(folder, size=lambda rows: 1e-3 / (1 + rows["distance"])):
    """Give each row a KL: *size* with its spread, and of the noise condition little."""
    for number, part in enumerate(sorted(folder.glob("scores/*.parquet"))):
        table = pq.read_table(part)
        rows = table.to_pandas()
        spread = np.random.default_rng(number).gamma(2.0, 0.5, size=len(rows))
        noise = (rows["condition"].astype(str) == "noise").to_numpy()
        kl = np.where(noise, 1e-7, size(rows)) * spread
        kl[(rows["boundary"] < 0).to_numpy()] = np.nan
        values = pa.array(kl.astype(np.float32), from_pandas=True)
        pq.write_table(table.append_column("kl", values), part)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    simulation = Simulation(CURVES, boundaries=(100, 256), reach=256, curve_starts={"shuffle": 16})
    return opened(with_kl(write_run(tmp_path_factory.mktemp("reading") / "run", simulation)))


def test_means_are_those_of_pandas(run):
    """By octave, grey rows and what lies before a curve's start left out, documents drawn again."""
    found = reading(run)
    assert tuple(found.columns) == COLUMNS
    rows = rows_of(run.path).query("boundary >= 0")
    rows = rows[rows.distance <= rows.boundary - rows.start]
    edges = octave_edges(256)
    assert len(found) == 2 * 6 + 4
    for row in found.to_dict("records"):
        inside = rows.distance.between(row["distance_from"], row["distance_to"] - 1)
        own = rows[inside & (rows.condition == row["condition"])]
        assert row["distance_from"] in edges
        assert row["targets"] == len(own)
        assert row["kl"] == pytest.approx(own["kl"].mean(), rel=1e-5)
        sums = own.groupby("document")["kl"].agg(["sum", "size"]).reindex(run.documents)
        resampled = bootstrap(*sums.to_numpy().T[:, :, None], run.weights, 0.95)
        low, high = pointwise_band(resampled, 0.95)
        assert (row["low"], row["high"]) == pytest.approx((low[0], high[0]), rel=1e-5)
    assert found.loc[found["condition"] == "shuffle", "distance_from"].min() == 16


def test_what_is_read_lies_above_the_floor(run):
    """The floor is the noise's upper limit by octave; a KL of rounding is read nowhere."""
    found = reading(run)
    floors = found[found["condition"] == "noise"].set_index("distance_from")["floor"]
    assert (floors > 1e-7).all()
    for row in found.to_dict("records"):
        assert row["floor"] == floors[row["distance_from"]]
        assert row["read"] == (row["low"] > max(row["floor"], LEAST))


@pytest.mark.slow
def test_it_is_told_with_the_answer(tmp_path):
    """How far each condition is read, in the answer, in its own section and in its table."""
    folder = write_run(tmp_path / "run", Simulation(CURVES))
    run = opened(with_kl(folder, lambda rows: np.where(rows["distance"] < 32, 1e-3, 1e-9)))
    lines = [f"{name}: KL to intact is above its noise floor up to 32" for name in CURVES]
    assert sorted(read_to(run)) == sorted(lines)
    assert all(f"- {line}" in answer(run) for line in lines)
    section = by_id(run)["reading"]
    assert section.sentence == (
        "Far text is read (KL above its noise floor) under truncate up to 32; shuffle up to 32."
    )
    (table,) = section.tables
    assert table.headers == ["distance", "truncate", "shuffle"]
    assert [cells[1].endswith(" *") for cells in table.rows] == [True] * 3 + [False] * 3


@pytest.mark.slow
def test_without_a_floor_nothing_is_read(tmp_path):
    """And that is said."""
    folder = write_run(tmp_path / "run", Simulation(CURVES, noise_spread=None))
    run = opened(with_kl(folder))
    assert not reading(run)["read"].any()
    assert read_to(run) == []
    assert "truncate has no noise floor to compare with" in by_id(run)["reading"].sentence


@pytest.mark.slow
def test_without_kl_there_is_none(tmp_path):
    """An empty frame with its columns, and no section."""
    run = opened(write_run(tmp_path / "run", Simulation(CURVES)))
    assert tuple(reading(run).columns) == COLUMNS
    assert reading(run).empty
    assert "reading" not in by_id(run)
