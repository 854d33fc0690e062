"""The token explorer holds the rows of the parquet files, and no more than there is room for."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import Simulation, write_run

from probe.analysis.open_run import open_run
from probe.render import explorer
from probe.render.explorer import explore, level, packed

CURVES = {
    "truncate": lambda d: 1.5 / (1 + d),
    "shuffle": lambda d: 0.5 / (1 + d),
    "replace(source='document')": lambda d: 2 / (1 + d),
}


@pytest.fixture(scope="module", name="run")
def open_run_of_a_simulation(tmp_path_factory):
    simulation = Simulation(
        CURVES,
        documents=9,
        length=96,
        boundaries=(32, 64),
        reach=32,
        repeats=2,
        token_spread=0.5,
    )
    return open_run(write_run(tmp_path_factory.mktemp("explorer") / "run", simulation))


def rows_of(run):
    """All rows with a boundary, repeats averaged, as pandas sees them."""
    frames = [pq.read_table(part).to_pandas() for part in run.folder.parts]
    frame = pd.concat(frames).astype({"document": str, "condition": str})
    frame = frame[(frame["boundary"] >= 0) & (frame["condition"] != "noise")]
    keys = ["document", "window", "position", "boundary", "distance", "condition"]
    return frame.astype({"nll": float}).groupby(keys, as_index=False)[["nll", "nll_intact"]].mean()


@pytest.mark.slow
def test_every_row_of_a_window_is_there(run):
    """Unpacked, the losses are those of the parquet files to half a thousandth of a nat."""
    found = explore(run)
    payload = json.loads(found.payload)
    rows = rows_of(run)
    for window, data in zip(found.windows, payload["windows"], strict=True):
        own = rows[(rows["document"] == window.document) & (rows["window"] == window.number)]
        start = 96 * window.number
        expected = {
            (row.condition, row.boundary - start, row.position - start): row.nll
            for row in own.itertuples()
        }
        unpacked = {
            (payload["conditions"][condition], far, first + place): value / 1000
            for condition, far, first, values in data["blocks"]
            for place, value in enumerate(values)
            if value is not None
        }
        assert unpacked.keys() == expected.keys()
        for key, value in unpacked.items():
            assert abs(value - expected[key]) <= 0.0005 + 1e-9
        intact = own.groupby("position")["nll_intact"].first()
        for place, value in enumerate(data["intact"]):
            assert abs(value / 1000 - intact[start + data["first"] + place]) <= 0.0005 + 1e-6


@pytest.mark.slow
def test_a_token_has_the_colour_of_its_farthest_distance(run):
    """Delta of the headline condition at the longest distance measured for the token."""
    found = explore(run)
    assert found.condition == "truncate"
    rows = rows_of(run)
    for window in found.windows:
        own = rows[
            (rows["document"] == window.document)
            & (rows["window"] == window.number)
            & (rows["condition"] == "truncate")
        ]
        for place, token in enumerate(window.tokens):
            mine = own[own["position"] == 96 * window.number + window.first + place]
            farthest = mine.loc[mine["distance"].idxmax()]
            delta = farthest["nll"] - farthest["nll_intact"]
            steps = (-3, -1, -0.3, -0.1, 0.1, 0.3, 1, 3)
            assert token.level == sum(delta >= step for step in steps) == level(delta)
    assert found.distances == (0, 31)


@pytest.mark.slow
def test_windows_stand_at_even_ranks(run):
    """One a document, the lowest and the highest mean delta among them, in order."""
    found = explore(run)
    rows = rows_of(run)
    first = rows[(rows["window"] == 0) & (rows["condition"] == "truncate")]
    means = (first["nll"] - first["nll_intact"]).groupby(first["document"]).mean().sort_values()
    ranks = [0, 2, 3, 5, 6, 8]
    assert [window.document for window in found.windows] == list(means.index[ranks])
    assert [window.mean for window in found.windows] == pytest.approx(list(means.iloc[ranks]))
    assert found.of == 18


def test_the_text_is_that_of_the_window(run):
    """Tokens shown and the text before them join to the window's text."""
    window = explore(run).windows[0]
    shown = window.before + "".join(token.markup for token in window.tokens)
    assert shown == "abé" * 96
    assert (window.first, window.length, window.before_cut) == (32, 96, False)


@pytest.mark.slow
def test_fewer_windows_where_there_is_less_room(run):
    """One window is always shown."""
    assert len(explore(run).windows) == 6
    assert len(explore(run, most_bytes=1).windows) == 1
    room = len(explore(run).payload)
    found = explore(run, most_bytes=room)
    assert 1 < len(found.windows) < 6
    assert len(found.payload) < room


def test_of_a_long_window_the_stretch_where_far_text_helps_most(run, monkeypatch):
    """Against all stretches tried one by one."""
    monkeypatch.setattr(explorer, "MOST_TOKENS", 20)
    rng = np.random.default_rng(0)
    offsets = np.sort(rng.choice(np.arange(100, 200), 60, replace=False))
    delta = rng.normal(size=60)
    found = explorer._stretch(offsets, delta)
    starts = range(int(offsets[0]), int(offsets[-1]) - 18)
    sums = {at: delta[(offsets >= at) & (offsets < at + 20)].sum() for at in starts}
    assert found[1] - found[0] == 19
    assert sums[found[0]] == pytest.approx(max(sums.values()))
    assert all(len(window.tokens) == 20 for window in explore(run).windows)


@pytest.mark.slow
def test_a_run_without_text_shows_ids(tmp_path):
    """Tokenised data has no text."""
    path = write_run(tmp_path / "run", Simulation({"truncate": CURVES["truncate"]}, text=False))
    window = explore(open_run(path, write=False)).windows[0]
    assert window.tokens[0].markup == " #256"
    assert window.before == ""


@pytest.mark.slow
def test_a_run_without_a_curve_has_no_explorer(tmp_path):
    """Noise alone is no condition to look at."""
    path = write_run(tmp_path / "run", Simulation({}))
    assert explore(open_run(path, write=False)) is None


@given(st.text())
def test_the_payload_cannot_end_its_element(text):
    """Nor hold what an HTML parser or an editor takes for something else; it reads back whole."""
    found = packed({"text": [text]})
    assert not set(found) & set("<>&\u2028\u2029\u202e\u2066\x7f\ufeff")
    assert json.loads(found) == {"text": [text]}
    assert json.loads(packed({"a": "</script>\ud800"})) == {"a": "</script>\ud800"}
