"""The noise floor: what the noise condition says that delta cannot be told from 0 below."""

import math

import numpy as np
import pandas as pd
import pytest
from simulated import Simulation, rows_of, write_run

from probe.analysis.bins import bin_edges
from probe.analysis.floor import noise_floor
from probe.analysis.sums import document_sums
from probe.results.folder import read_folder
from probe.results.views import connect

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    curves = {"truncate": lambda d: np.where(d < 32, 0.3, 0.0)}
    path = tmp_path_factory.mktemp("runs") / "run"
    return write_run(path, Simulation(curves, boundaries=(100, 256), reach=256))


def test_the_noise_floor_is_the_larger_error(folder):
    """By hand for one octave; without a noise condition there is none."""
    run = read_folder(folder)
    with connect(folder / "windows.parquet", run.parts) as connection:
        sums = document_sums(connection, bin_edges(256))
    floor = noise_floor(sums, 256)
    rows = rows_of(folder).query("condition == 'noise' and distance >= 16 and distance < 32")
    delta = rows.nll - rows.nll_intact
    by_document = delta.groupby(rows.document).mean()  # as many targets in each
    between = by_document.std(ddof=1) / math.sqrt(len(by_document))
    error = max(delta.std(ddof=1) / math.sqrt(len(delta)), between)
    assert floor.limit[2] == pytest.approx(abs(delta.mean()) + 2.364624 * error, rel=1e-5)
    assert np.isnan(floor.at(np.array([5000]))[0])
    assert noise_floor(sums[sums.condition != "noise"], 256) is None


def test_source_and_target_have_the_larger_floor_of_both(folder):
    """By octave, of the noise of each; a second noise condition of the same text counts nothing."""
    run = read_folder(folder)
    with connect(folder / "windows.parquet", run.parts) as connection:
        sums = document_sums(connection, bin_edges(256))
    noise = sums[sums.condition == "noise"].assign(condition="noise(of='target')")
    far = noise.distance_from >= 64
    louder = noise.assign(condition="noise(of='source')").copy()
    louder[["delta_sum", "delta_squares"]] *= np.where(far, 2.0, 0.1)[:, None]
    few = noise[:1].assign(condition="noise(windows=1, of='source')", delta_sum=1e6)
    alone = [noise_floor(one, 256).limit for one in (noise, louder)]
    both = noise_floor(pd.concat([noise, louder, few]), 256)
    np.testing.assert_array_equal(both.limit, np.fmax(*alone))
    assert (both.limit == alone[0]).any()
    assert (both.limit == alone[1]).any()
    assert both.condition == "noise(of='source'), noise(of='target')"
