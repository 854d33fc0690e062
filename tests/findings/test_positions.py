"""The intact loss by position, the power law through it, and mean losses by condition."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from open_runs import by_id, opened
from simulated import SCORES, Simulation, rows_of, write_run

from probe.analysis.bins import bin_edges
from probe.analysis.bootstrap import bootstrap, pointwise_band, resample_weights
from probe.analysis.cells import cells
from probe.analysis.settings import Analysis
from probe.findings.positions import COLUMNS, fit_power_law, intact_positions, losses
from probe.findings.table import decimals, records
from probe.results.scores import WINDOWS
from probe.results.views import connect

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "replace(source='document')": lambda d: np.where(d < 64, 0.5, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.6, 0.0),
}


@pytest.fixture
def made_up(tmp_path):
    """A run of intact rows whose mean loss at each position is known."""

    def make(loss, *, documents=12, first=0, last=4000, spread=0.1):
        rng = np.random.default_rng(0)
        positions = np.arange(first, last)
        names = [f"doc{number:02d}" for number in range(documents)]
        frames, windows = [], []
        for number, name in enumerate(names):
            level = 1 + spread * rng.normal()
            nll = loss(positions + 1) * level + 0.3 * rng.normal(size=len(positions))
            start = 7 * number
            frames.append(
                pd.DataFrame({"document": name, "position": positions + start, "nll": nll})
            )
            windows.append({"document": name, "window": 0, "start": start, "token_ids": [0] * last})
        none = dict.fromkeys(["far_start", "boundary", "distance"], -1)
        scores = pd.concat(frames).assign(window=0, condition="intact", repeat=0, **none)
        table = pa.Table.from_pandas(scores.assign(nll_intact=scores["nll"]), preserve_index=False)
        pq.write_table(table.select(SCORES.names).cast(SCORES), tmp_path / "part.parquet")
        rows = [window | {"text": None, "char_start": [], "char_end": []} for window in windows]
        pq.write_table(pa.Table.from_pylist(rows, schema=WINDOWS), tmp_path / "windows.parquet")
        connection = connect(tmp_path / "windows.parquet", [tmp_path / "part.parquet"])
        run = SimpleNamespace(
            connection=connection,
            cells=cells(connection, bin_edges(1)),
            documents=names,
            weights=resample_weights(len(names), 400, seed=0),
            analysis=Analysis(),
        )
        worsening = SimpleNamespace(worsening=None)
        run.once = lambda work: worsening if work is losses else work(run)
        return run

    return make


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(2.0, 3.0, 0.5), (0.0, 8.0, 0.1)])
def test_an_exact_law_comes_back(floor, scale, exponent):
    """Floor, scale and exponent, whatever the weights."""
    positions = np.geomspace(10, 4000, 30)
    weights = np.random.default_rng(0).uniform(1, 9, size=30)
    law = fit_power_law(positions, floor + scale * positions**-exponent, weights)
    assert (law.floor, law.scale, law.exponent) == pytest.approx((floor, scale, exponent), abs=2e-3)
    assert law.at(positions) == pytest.approx(floor + scale * positions**-exponent, abs=1e-4)


@pytest.mark.slow
def test_the_law_is_the_best_of_its_kind():
    """No other floor, scale and exponent on a grid comes closer to noisy losses."""
    rng = np.random.default_rng(0)
    positions = np.geomspace(4, 1000, 20)
    values = 2 + 4 * positions**-0.6 + 0.05 * rng.normal(size=20)
    weights = rng.uniform(1, 5, size=20)
    law = fit_power_law(positions, values, weights)
    own = (weights * (values - law.at(positions)) ** 2).sum()
    grid = np.meshgrid(np.linspace(0, 3, 61), np.linspace(1, 7, 61), np.linspace(0.05, 3, 60))
    floors, scales, exponents = (axis.ravel()[:, None] for axis in grid)
    others = (weights * (values - floors - scales * positions**-exponents) ** 2).sum(axis=1)
    assert own <= others.min()


@pytest.mark.slow
def test_a_planted_law_is_found_in_rows(made_up):
    """From 1 to 4,000: the loss and its law, within the noise, in words."""
    fit = intact_positions(made_up(lambda p: 2 + 4 * p**-0.5))
    law = fit.law
    assert law.floor == pytest.approx(2, rel=0.15)
    assert law.exponent == pytest.approx(0.5, rel=0.15)
    assert fit.text == (
        f"intact loss = {law.floor:.3f} + {law.scale:.3g} · position^−{law.exponent:.2f} nats"
        " (positions 1 to 4,000)"
    )
    assert not fit.rises
    assert tuple(fit.table.columns) == COLUMNS
    inside = (fit.table["low"] <= fit.table["fit"]) & (fit.table["fit"] <= fit.table["high"])
    assert inside.mean() > 0.9
    short = intact_positions(
        made_up(lambda p: 2 + 400 * p**-0.9, first=1000, last=2000, spread=0.01)
    )
    assert "too few octaves to separate floor and exponent" in short.text


def test_a_loss_that_does_not_fall_has_no_law(made_up):
    """Flat: the numbers are missing and the text says why; the table stays."""
    fit = intact_positions(made_up(lambda p: 3 + 0 * p, last=1000))
    assert fit.law is None
    assert fit.text == "no power law: the loss does not measurably fall with position"
    assert fit.table["fit"].isna().all()
    assert fit.table["loss"].notna().all()


def test_a_fall_that_is_no_power_law_is_said(made_up):
    """An exponent of 9 is a step to all that can be seen."""
    fit = intact_positions(made_up(lambda p: 2 + 60 * p**-9.0, last=1000))
    assert fit.text == "no power law: the exponent lies outside 0.02 to 4"


@pytest.mark.slow
def test_the_table_is_that_of_pandas(tmp_path):
    """Means over positions inside the window, every target once, bands over documents."""
    folder = write_run(tmp_path / "run", Simulation({"truncate": np.zeros_like}, documents=6))
    run = opened(folder, resamples=400)
    names, weights = run.documents, run.weights
    fit = intact_positions(run)
    rows = rows_of(folder).query("condition == 'intact'")
    place = rows.position - rows.start
    assert fit.table["position_from"].iloc[0] == place.min()
    assert fit.table["position_to"].iloc[-1] == place.max() + 1
    assert (fit.table["position_from"].iloc[1:] == fit.table["position_to"].iloc[:-1].values).all()
    sums, counts = (np.zeros((6, len(fit.table))) for _ in range(2))
    for number, row in enumerate(fit.table.itertuples()):
        part = rows[place.between(row.position_from, row.position_to - 1)]
        assert (row.loss, row.targets) == (pytest.approx(part.nll.mean()), len(part))
        for document, own in part.groupby("document"):
            at = names.index(document)
            sums[at, number], counts[at, number] = own.nll.sum(), len(own)
    low, high = pointwise_band(bootstrap(sums, counts, weights, 0.95), 0.95)
    np.testing.assert_allclose(fit.table[["low", "high"]], np.column_stack([low, high]))


@pytest.mark.slow
def test_a_loss_that_rises_is_warned_of(tmp_path):
    """With what the run's losses test: the rise, its lower limit, and what it means."""
    simulation = Simulation({"truncate": np.zeros_like}, position_slope=5.0, documents=10)
    run = opened(write_run(tmp_path / "run", simulation))
    measured, fit = run.once(losses), intact_positions(run)
    assert fit.rises
    assert fit.law is None
    assert f"the intact loss rises with position, by {measured.worsening[0]:.3f} nats" in fit.text
    caveats = by_id(run)["positions"].caveats
    assert "The intact loss rises with position: read delta there with care." in caveats


@pytest.mark.slow
def test_one_document_or_none(made_up):
    """One document has a table without bands and no law; no intact row, nothing at all."""
    fit = intact_positions(made_up(lambda p: 2 + 4 * p**-0.5, documents=1))
    assert fit.text.startswith("no power law: too few documents")
    assert fit.table[["low", "high"]].isna().all(axis=None)
    few = intact_positions(made_up(lambda p: 2 + 4 * p**-0.5, last=2))
    assert few.text == "no power law: 2 bins of position, at least 4 needed"
    run = made_up(lambda p: 2 + 0 * p, last=10)
    run.connection.execute(f"DELETE FROM {run.cells}")
    assert intact_positions(run) is None


@pytest.mark.slow
def test_losses_count_every_repeat(tmp_path):
    """By condition over all rows, by position and quarter over the intact ones."""
    simulation = Simulation(CURVES, repeats=3, documents=7, position_slope=5.0)
    folder = write_run(tmp_path / "run", simulation)
    extra = pq.read_table(folder / "scores" / "part-00000.parquet").to_pandas()
    extra = extra[(extra["condition"] == "shuffle") & (extra["repeat"] == 2)]
    extra["repeat"], extra["nll"] = 3, extra["nll"] + 1
    table = pa.Table.from_pandas(extra, preserve_index=False).cast(SCORES)
    pq.write_table(table, folder / "scores" / "part-99999.parquet")
    run = opened(folder)
    found = losses(run)
    rows = run.connection.execute("SELECT * FROM scores").df()
    starts = run.connection.execute('SELECT document, "window", start FROM windows').df()
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


@pytest.mark.slow
def test_places_that_the_sample_lacks_are_seen(tmp_path):
    """Quarters are those of all parts, also where every second part was looked at first."""
    simulation = Simulation(CURVES, documents=40, windows=1, boundaries=(256,), reach=256)
    folder = write_run(tmp_path / "run", simulation)
    sampled = {f"doc{number:03d}" for number in range(0, 40, 2)}
    for part in sorted(folder.glob("scores/*.parquet")):
        table = pq.read_table(part)
        rows = table.to_pandas()
        left_out = rows["document"].isin(sampled) & (rows["position"] % 512 > 300)
        pq.write_table(table.filter(pa.array(~left_out)), part)
    run = opened(folder)
    found = losses(run).by_quarter
    rows = run.connection.execute("SELECT * FROM scores WHERE condition = 'intact'").df()
    place = rows["position"]  # the windows begin with their documents
    quarter = 1 + 4 * (place - 256) // 256
    np.testing.assert_allclose(found["loss"], rows["nll"].groupby(quarter).mean(), rtol=1e-6)
    assert found["position_from"].tolist() == [256, 320, 384, 448]
    assert found["targets"].tolist() == rows["nll"].groupby(quarter).size().tolist()


@pytest.mark.slow
def test_the_section_holds_both_tables_and_the_law(tmp_path):
    """Loss by position with its limits and the law; mean losses by condition beside intact ones."""
    curves = {"truncate": lambda d: np.where(d < 32, 0.3, 0.0)}
    simulation = Simulation(curves, documents=10, position_slope=-5.0)
    run = opened(write_run(tmp_path / "run", simulation))
    section, fit = by_id(run)["positions"], intact_positions(run)
    (chart,) = section.charts
    assert section.more == [fit.text]
    first, last = records(fit.table.iloc[[0, -1]])
    assert section.sentence == (
        "More text in front of a token helps: the intact loss falls with position, from"
        f" {decimals(first['loss'])} nats at 256–261 to {decimals(last['loss'])} at 501–511."
    )
    for drawn, column in zip(
        (chart.series[0].y, chart.series[0].low, chart.series[0].high),
        ("loss", "low", "high"),
        strict=True,
    ):
        np.testing.assert_array_equal(drawn, fit.table[column])
    assert [row[0] for row in section.tables[0].rows] == ["intact", "noise", "truncate"]
    means = run.once(losses).by_condition
    assert [row[1] for row in section.tables[0].rows] == [decimals(loss) for loss in means["loss"]]
