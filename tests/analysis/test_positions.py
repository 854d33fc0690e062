"""The intact loss by position, and the power law through it."""

import duckdb
import numpy as np
import pandas as pd
import pytest
from simulated import Simulation, write_run
from test_analysis_runs import rows_of

from probe.analysis.bootstrap import bootstrap, pointwise_band, resample_weights
from probe.analysis.losses import losses
from probe.analysis.positions import COLUMNS, fit_power_law, intact_positions
from probe.results.folder import read_folder
from probe.results.views import connect


def made_up(loss, *, documents=12, first=0, last=4000, spread=0.1, seed=0):
    """A connection to intact rows whose mean loss at each position is known."""
    rng = np.random.default_rng(seed)
    positions = np.arange(first, last)
    names = [f"doc{number:02d}" for number in range(documents)]
    frames = []
    for number, name in enumerate(names):
        level = 1 + spread * rng.normal()
        nll = loss(positions + 1) * level + 0.3 * rng.normal(size=len(positions))
        start = 7 * number
        frames.append(pd.DataFrame({"document": name, "position": positions + start, "nll": nll}))
    scores = pd.concat(frames).assign(window=0, condition="intact", boundary=-1)
    starts = [7 * number for number in range(documents)]
    windows = pd.DataFrame({"document": names, "window": 0, "start": starts})
    connection = duckdb.connect()
    connection.register("rows", scores)
    connection.register("places", windows)
    connection.execute("CREATE TABLE scores AS FROM rows; CREATE TABLE windows AS FROM places")
    return connection, names


def solve(connection, names, worsening=None):
    weights = resample_weights(len(names), 400, seed=0)
    with connection:
        return intact_positions(
            connection, documents=names, weights=weights, confidence=0.95, worsening=worsening
        )


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(2.0, 3.0, 0.5), (0.0, 8.0, 0.1)])
def test_an_exact_law_comes_back(floor, scale, exponent):
    """Floor, scale and exponent, whatever the weights."""
    positions = np.geomspace(10, 4000, 30)
    weights = np.random.default_rng(0).uniform(1, 9, size=30)
    law = fit_power_law(positions, floor + scale * positions**-exponent, weights)
    assert (law.floor, law.scale, law.exponent) == pytest.approx((floor, scale, exponent), abs=2e-3)
    assert law.at(positions) == pytest.approx(floor + scale * positions**-exponent, abs=1e-4)


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


def test_a_planted_law_is_found_in_rows():
    """From 1 to 4,000: the loss and its law, within the noise, in words."""
    fit = solve(*made_up(lambda p: 2 + 4 * p**-0.5))
    assert fit.floor == pytest.approx(2, rel=0.15)
    assert fit.exponent == pytest.approx(0.5, rel=0.15)
    assert fit.text == (
        f"intact loss = {fit.floor:.3f} + {fit.scale:.3g} · position^−{fit.exponent:.2f} nats"
        " (positions 1 to 4,000)"
    )
    assert not fit.rises
    assert tuple(fit.table.columns) == COLUMNS
    inside = (fit.table["low"] <= fit.table["fit"]) & (fit.table["fit"] <= fit.table["high"])
    assert inside.mean() > 0.9
    short = solve(*made_up(lambda p: 2 + 400 * p**-0.9, first=1000, last=2000, spread=0.01))
    assert "too few octaves to tell floor from exponent" in short.text


def test_the_table_is_that_of_pandas(tmp_path):
    """Means over positions inside the window, every target once, bands over documents."""
    folder = write_run(tmp_path / "run", Simulation({"truncate": np.zeros_like}, documents=6))
    with connect(folder / "windows.parquet", read_folder(folder).parts) as connection:
        names = [f"doc{number:03d}" for number in range(6)]
        weights = resample_weights(6, 400, seed=0)
        fit = intact_positions(connection, documents=names, weights=weights, confidence=0.95)
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


def test_a_loss_that_does_not_fall_has_no_law():
    """Flat: the numbers are missing and the text says why; the table stays."""
    fit = solve(*made_up(lambda p: 3 + 0 * p, last=1000))
    assert (fit.floor, fit.scale, fit.exponent) == (None, None, None)
    assert fit.text == "no power law: the loss does not measurably fall with position"
    assert fit.table["fit"].isna().all()
    assert fit.table["loss"].notna().all()


def test_a_fall_that_is_no_power_law_is_said():
    """An exponent of 9 is a step to all that can be seen."""
    fit = solve(*made_up(lambda p: 2 + 60 * p**-9.0, last=1000))
    assert fit.text == "no power law: the exponent lies outside 0.02 to 4"


def test_a_loss_that_rises_is_warned_of(tmp_path):
    """With what the run's losses test: the rise, its lower limit, and what it means."""
    simulation = Simulation({"truncate": np.zeros_like}, position_slope=5.0, documents=10)
    folder = write_run(tmp_path / "run", simulation)
    with connect(folder / "windows.parquet", read_folder(folder).parts) as connection:
        measured = losses(connection)
        names = [f"doc{number:03d}" for number in range(10)]
        weights = resample_weights(10, 400, seed=0)
        fit = intact_positions(
            connection,
            documents=names,
            weights=weights,
            confidence=0.95,
            worsening=measured.worsening,
        )
    assert fit.rises
    assert fit.floor is None
    assert f"the intact loss rises with position, by {measured.worsening[0]:.3f} nats" in fit.text


def test_one_document_or_none():
    """One document has a table without bands and no law; no intact row, nothing at all."""
    fit = solve(*made_up(lambda p: 2 + 4 * p**-0.5, documents=1))
    assert fit.text.startswith("no power law: too few documents")
    assert fit.table[["low", "high"]].isna().all(axis=None)
    few = solve(*made_up(lambda p: 2 + 4 * p**-0.5, last=2))
    assert few.text == "no power law: 2 bins of position, at least 4 needed"
    connection, names = made_up(lambda p: 2 + 0 * p, last=10)
    connection.execute("DELETE FROM scores")
    assert solve(connection, names) is None
