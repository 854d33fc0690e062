"""Windows of attention beside text cut off at their width: the same targets, plain means."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
)

from probe.analysis.attended import attended
from probe.analysis.attended_answer import answer
from probe.analysis.beside import APART, ATTENDED, COLUMNS, NEAR, beside
from probe.analysis.summary import summarise
from probe.plots import beside as figure
from probe.plots.style import EmptyFigureError
from probe.report.patterns import pattern_section
from probe.results.csv_files import read_csv

WIDTHS = (8, 16, 24)
GRID = {
    "kind": "grid",
    "distances": list(WIDTHS[:2]),
    "targets": {"count": 6, "end_offset": 0},
}


@pytest.fixture(scope="module", name="folder")
def run_folder(base, tmp_path_factory):
    local = [f"attend(local({w}))" for w in WIDTHS]
    conditions = ["truncate", "hide", *local, "attend(local(8, sinks=0))"]
    return score(base, tmp_path_factory.mktemp("beside"), protocol=GRID, conditions=conditions)


def plain(folder):
    """Mean delta by series and width, target by target."""
    rows = scores(folder)
    rows["delta"] = rows["nll"].astype(float) - rows["nll_intact"]
    keys = ["document", "window", "position"]
    found = {}
    for w in WIDTHS[:2]:
        window = rows[rows["condition"] == f"attend(local(w={w}, sinks=1))"]
        first = window.groupby(["document", "window"])["position"].transform("min")
        near = window[window["position"] - first <= w * NEAR].set_index(keys)["delta"]
        text = {}
        for name in ("truncate", "hide"):
            own = rows[rows["condition"] == name]
            own = own[own["position"] - own["boundary"] <= w * (1 + NEAR)]
            own = own[own["position"] - own["boundary"] >= w].set_index(keys)["delta"]
            text[name] = own.loc[near.index]
        values = {ATTENDED: near, **text}
        for name, own in values.items():
            found[name, w] = own.mean(), len(own)
        for one, other in APART:
            found[f"{one} − {other}", w] = (values[one] - values[other]).mean(), len(near)
    return found


def test_the_same_targets_at_each_width(folder):
    """Of each boundary the targets with hardly more than w tokens before them."""
    table = beside(summarise(folder, write=False))
    assert list(table.columns) == list(COLUMNS)
    expected = plain(folder)
    assert {(row["series"], row["w"]) for _, row in table.iterrows()} == set(expected)
    for row in table.to_dict("records"):
        delta, targets = expected[row["series"], row["w"]]
        assert row["delta"] == pytest.approx(delta, abs=1e-7)
        assert row["targets"] == targets
        assert row["low"] <= row["delta"] <= row["high"]
    assert table["targets"].nunique() > 1


def test_it_is_told_and_drawn(folder):
    """In the terminal, as a file, as a figure and on the page."""
    found = attended(folder)
    assert "Beside text cut off or hidden at distance w" in answer(found)
    written = read_csv(folder / "beside.csv")
    np.testing.assert_allclose(written["delta"], found.beside["delta"], rtol=1e-6)
    axes = figure(found.beside)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [ATTENDED, "truncate", "hide"]
    section = pattern_section(SimpleNamespace(summary=found.summary))
    assert [one.title for one in section.figures][1].startswith("A window of attention beside")
    with pytest.raises(EmptyFigureError):
        figure(found.beside[found.beside["series"].str.contains("−")])


def test_no_grid_no_comparison(base, tmp_path):
    """In a sweep the boundaries of targets are others."""
    folder = score(base, tmp_path, conditions=["truncate", "attend(local(8))"])
    assert json.loads((folder / "run.json").read_text())["config"]["protocol"]["kind"] == "sweep"
    assert beside(summarise(folder, write=False)).empty
