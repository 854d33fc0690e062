"""All findings of a run together, and runs that lack what a finding needs."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from probe.analysis.information import information_findings
from probe.analysis.losses import losses
from simulated import Simulation, write_run

from probe.analysis import ablated, hinge, quantiles, tolerances
from probe.analysis import precision as detectable
from probe.analysis.fit import fitted_curves
from probe.analysis.floor import noise_floor
from probe.analysis.opened import opened
from probe.analysis.settings import Analysis
from probe.analysis.sums import document_sums
from probe.results.folder import read_folder
from probe.results.views import connect

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.6, 0.0),
}
FRAMES = {
    "information": ablated.COLUMNS,
    "tolerance_curve": tolerances.COLUMNS,
    "hinges": hinge.COLUMNS,
    "quantiles": quantiles.COLUMNS,
    "detectable": detectable.DETECTABLE_COLUMNS,
}


def findings(folder, **options):
    """What is done with a run before: opened, its curves fitted, its floor taken."""
    run = read_folder(folder)
    how = Analysis.from_record(run.record)
    with connect(folder / "windows.parquet", run.parts) as connection:
        found = opened(connection, run, how)
        rows = document_sums(connection, found.edges, found.starts)
        found = replace(found, floor=noise_floor(rows, found.reach, how.confidence))
        return information_findings(
            found,
            fitted_curves(rows, found.documents, found.weights, how.confidence),
            losses(connection) if options.get("measured") else None,
        )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return findings(write_run(tmp_path_factory.mktemp("information") / "run", Simulation(CURVES)))


@pytest.mark.parametrize(("name", "columns"), FRAMES.items(), ids=FRAMES)
def test_every_frame_has_its_columns(name, columns, found):
    """And rows of every condition but the noise control."""
    frame = getattr(found, name)
    assert tuple(frame.columns) == columns
    expected = {"shuffle"} if name == "information" else set(CURVES)
    assert set(frame["condition"]) == expected


def test_one_run_tells_one_story(found):
    """Shuffling costs twice as much near; 1 % is where it was planted, and the hinge near it."""
    near = found.information[found.information.distance_from < 32]
    assert (near["low"] <= 2).all()
    assert (near["high"] >= 2).all()
    one = found.tolerance_curve.query("condition == 'truncate' and tolerance == 0.01").iloc[0]
    assert (one["length"], one["low"], one["high"]) == (32, 30, 36)
    assert found.hinges.set_index("condition")["kind"].tolist() == ["length", "length"]
    assert not found.positions.rises
    assert found.notes == ()


def test_losses_may_be_handed_over(tmp_path):
    """The warning that the loss rises is the one that the losses give, read again or not."""
    rising = Simulation(CURVES, position_slope=5.0, documents=10)
    folder = write_run(tmp_path / "run", rising)
    assert findings(folder, measured=True).positions.text == findings(folder).positions.text
    assert findings(folder).positions.rises


def test_what_a_run_lacks_is_named(tmp_path):
    """Without truncation there is no ratio; the rest is there."""
    found = findings(write_run(tmp_path / "run", Simulation({"shuffle": CURVES["shuffle"]})))
    assert found.notes == ("no ablated information: not scored: 'truncate'",)
    assert found.information.empty
    assert not found.quantiles.empty


def test_one_document_gives_no_interval(tmp_path):
    """Points and reasons, no limits and no warning of a library."""
    found = findings(write_run(tmp_path / "run", Simulation(CURVES, documents=1)))
    assert not found.information["resolved"].any()
    assert (found.tolerance_curve["kind"] == "unresolved").all()
    assert (found.hinges["kind"] == "unresolved").all()
    assert found.detectable["detectable"].isna().all()
    assert found.positions.exponent is None
    assert found.positions.table["low"].isna().all()


def test_a_run_of_intact_rows_alone(tmp_path):
    """No curve: empty frames with their columns, and the loss by position."""
    found = findings(write_run(tmp_path / "run", Simulation({}, noise_spread=None)))
    for name, columns in FRAMES.items():
        assert tuple(getattr(found, name).columns) == columns
        assert getattr(found, name).empty
    assert found.positions is not None


def test_an_unfinished_run_is_read_as_far_as_it_goes(tmp_path):
    """Half of the parts: the documents that are there, nothing of the others."""
    folder = write_run(tmp_path / "run", Simulation(CURVES, documents=12))
    for part in sorted((folder / "scores").iterdir())[:5]:
        part.unlink()
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "unfinished"}))
    found = findings(folder)
    assert (found.information["documents"] == 7).all()
    assert pd.notna(found.tolerance_curve["length"]).any()
