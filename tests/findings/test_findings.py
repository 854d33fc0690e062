"""All findings of a run: parts of one reading, files that hold them, runs that lack something."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from open_runs import answer, opened, written
from simulated import Simulation, write_run

from probe.analysis import segmented
from probe.commands.main import group
from probe.findings import by_tolerance, concentration, information, minimum_detectable
from probe.findings.base import entries, findings
from probe.findings.classes import classes
from probe.findings.contrasts import contrasts
from probe.findings.positions import intact_positions, losses
from probe.results.files import read_csv

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.6, 0.0),
}
FRAMES = {
    "information": (lambda run: run.once(information.ablated_information)[0], information.COLUMNS),
    "tolerance_curve": (lambda run: run.once(by_tolerance.tolerance_curve), by_tolerance.COLUMNS),
    "hinges": (lambda run: segmented.hinges(run.fitted), segmented.COLUMNS),
    "quantiles": (
        lambda run: run.once(concentration.quantiles),
        (*concentration.PLACES, *concentration.NAMES, "targets"),
    ),
    "detectable": (minimum_detectable.detectable, minimum_detectable.COLUMNS),
}
"""Frames of findings.json by condition and place: how they are had, and their columns."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("findings") / "run"
    return write_run(path, Simulation(CURVES, groups=("novel", "essay"), documents=14))


@pytest.fixture(scope="module")
def run(folder):
    return written(folder)


def notes(run):
    """What some findings could not work out."""
    return [note for finding in findings(run) for note in finding.notes]


@pytest.mark.parametrize(("work", "columns"), FRAMES.values(), ids=FRAMES)
def test_every_frame_has_its_columns(work, columns, run):
    """And rows of every condition but the noise control; ratios are to truncation."""
    frame = work(run)
    assert tuple(frame.columns) == columns
    expected = {"shuffle"} if columns is information.COLUMNS else set(CURVES)
    assert set(frame["condition"]) == expected


def test_one_run_tells_one_story(run):
    """Shuffling costs twice as much near; 1 % is where it was planted, and the hinge near it."""
    rows, missing = run.once(information.ablated_information)
    near = rows[rows.distance_from < 32]
    assert (near["low"] <= 2).all()
    assert (near["high"] >= 2).all()
    curve = run.once(by_tolerance.tolerance_curve)
    one = curve.query("condition == 'truncate' and tolerance == 0.01").iloc[0]
    default = run.context("truncate", "1%")
    assert (one["length"], one["low"], one["high"]) == (
        default.estimate,
        default.lower,
        default.upper,
    )
    assert one["length"] == 32
    assert segmented.hinges(run.fitted)["kind"].tolist() == ["length", "length"]
    assert not run.once(intact_positions).rises
    assert missing == ()
    found, _ = run.once(classes)
    assert set(found.occurrences["condition"]) == set(CURVES)
    assert found.counts.query("`class` == 'group'")["targets"].sum() == run.targets


@pytest.mark.slow
def test_one_value_of_all_tokens_is_the_curve_of_the_run(folder):
    """The mean over the values of a class that every token has is the mean of the run."""
    run = opened(folder, classes=["frequency(top=0.9999)"])
    curve = run.curve.query("condition == 'truncate' and not grey")
    found, _ = run.once(classes)
    by_bin = found.curves.query("condition == 'truncate'").assign(
        total=lambda rows: rows["delta"] * rows["targets"]
    )
    sums = by_bin.groupby("distance_from")[["total", "targets"]].sum()
    means = (sums["total"] / sums["targets"]).to_numpy()
    assert np.allclose(means, curve["delta"], atol=1e-9)
    assert (sums["targets"].to_numpy() == curve["targets"].to_numpy()).all()


def test_files_hold_what_was_found(run):
    """findings.json and classes.csv have every row of the frames that they are made of."""
    record = json.loads((run.path / "findings.json").read_text(encoding="utf-8"))
    assert record["run"] == run.name
    found, _ = run.once(classes)
    assert len(record["class_contexts"]) == len(found.contexts)
    assert len(record["class_counts"]) == len(found.counts)
    assert (len(record["occurrences"]), len(record["copies"])) == (
        len(found.occurrences),
        len(found.copies),
    )
    for name, (work, columns) in FRAMES.items():
        frame = work(run)
        assert len(record[name]) == len(frame), name
        written = [column for column in columns if column != "short"]  # words of tables alone
        assert list(record[name][0]) == written, name
        numbers = frame.select_dtypes("number").columns
        kept = pd.DataFrame(record[name])[numbers].astype(float).to_numpy()
        plain = frame[numbers].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
        np.testing.assert_allclose(kept, plain, rtol=1e-7, err_msg=name)
    fit = run.once(intact_positions)
    assert record["positions"]["text"] == fit.text
    assert len(record["positions"]["table"]) == len(fit.table)
    table = read_csv(run.path / "classes.csv")
    assert list(table.columns) == list(found.curves.columns)
    assert np.allclose(table["delta"], found.curves["delta"], atol=1e-6)


@pytest.mark.slow
def test_what_run_keeps_is_what_report_keeps(folder):
    """`probe run` works out the findings that it prints and keeps; report adds to them."""
    run = opened(folder)
    brief = {entry.name for entry in entries() if entry.level != "detail"}
    assert {"curve", "contrasts", "reading", "shares", "positions", "documents"} <= brief
    names = {name for finding in findings(run, brief=True) for name in finding.files}
    assert names == {"summary.json", "curve.csv"}


@pytest.mark.slow
def test_nothing_is_written_where_it_was_not_asked_for(tmp_path):
    """A run that is opened without being written to stays as it is, classes included."""
    folder = write_run(tmp_path / "run", Simulation({"truncate": lambda d: 0.3 * (d < 8)}))
    before = sorted(folder.rglob("*"))
    findings(opened(folder))
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_losses_may_be_asked_for_before(tmp_path):
    """The warning that the loss rises is the one that the losses give, read before or not."""
    rising = Simulation(CURVES, position_slope=5.0, documents=10)
    folder = write_run(tmp_path / "run", rising)
    first, second = opened(folder), opened(folder)
    first.once(losses)
    assert first.once(intact_positions).text == second.once(intact_positions).text
    assert second.once(intact_positions).rises


@pytest.mark.slow
def test_one_document_gives_no_interval(tmp_path):
    """Points and reasons, no limits and no warning of a library."""
    run = written(write_run(tmp_path / "run", Simulation(CURVES, documents=1)))
    rows, _ = run.once(information.ablated_information)
    assert not rows["resolved"].any()
    assert (run.once(by_tolerance.tolerance_curve)["kind"] == "unresolved").all()
    bends = segmented.hinges(run.fitted)
    assert (bends["kind"] == "unresolved").all()
    assert bends[["low", "high"]].isna().all(axis=None)
    assert minimum_detectable.detectable(run)["detectable"].isna().all()
    fit = run.once(intact_positions)
    assert fit.law is None
    assert fit.table["low"].isna().all()
    found, _ = run.once(classes)
    assert set(found.contexts["kind"]) == {"unresolved"}
    assert found.curves[["low", "high"]].isna().all(axis=None)


@pytest.mark.slow
def test_a_run_of_intact_rows_alone(tmp_path):
    """No curve: empty frames with their columns, and the loss by position."""
    run = written(write_run(tmp_path / "run", Simulation({}, noise_spread=None)))
    for name, (work, columns) in FRAMES.items():
        assert tuple(work(run).columns) == columns, name
        assert work(run).empty, name
    assert run.once(intact_positions) is not None


@pytest.mark.slow
def test_an_unfinished_run_is_read_as_far_as_it_goes(tmp_path):
    """Half of the parts: the documents that are there, nothing of the others."""
    folder = write_run(tmp_path / "run", Simulation(CURVES, documents=12))
    for part in sorted((folder / "scores").iterdir())[:5]:
        part.unlink()
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "unfinished"}))
    run = opened(folder)
    rows, _ = run.once(information.ablated_information)
    assert (rows["documents"] == 7).all()
    assert pd.notna(run.once(by_tolerance.tolerance_curve)["length"]).any()
    assert "is unfinished" in answer(run)


@pytest.mark.slow
def test_without_truncate_the_missing_condition_is_named(tmp_path):
    """Without truncation there is no ratio and no contrast; the rest is there."""
    folder = write_run(tmp_path / "run", Simulation({"shuffle": CURVES["shuffle"]}))
    run = opened(folder)
    rows, missing = run.once(information.ablated_information)
    assert missing == ("no ablated information: not scored: 'truncate'",)
    assert rows.empty
    assert not run.once(concentration.quantiles).empty
    assert "no ablated information: not scored: 'truncate'" in notes(run)
    _, lacking = run.once(contrasts)
    assert any(line.startswith("no contrast truncate − intact") for line in lacking)
    assert not any("no contrast" in note for note in notes(run))


@pytest.mark.slow
def test_report_tells_findings_and_page(folder):
    """The page is small, and a class that is not known is a mistake in one line."""
    result = CliRunner().invoke(group, ["report", str(folder), "--class", "kind"])
    assert result.exit_code == 0, result.output
    assert f"Page: {folder / 'report.html'}" in result.output
    assert (folder / "report.html").stat().st_size < 1_500_000
    wrong = CliRunner().invoke(group, ["report", str(folder), "--class", "colour"])
    assert wrong.exit_code == 2
    assert "colour" in wrong.output
    assert "Traceback" not in wrong.output


@pytest.mark.slow
def test_code_that_a_run_folder_names_is_not_run(folder, tmp_path):
    """A folder may come from anyone: its classes that are files are named, not executed."""
    folder = shutil.copytree(folder, tmp_path / "copy")
    evil = folder / "evil.py"
    evil.write_text("raise SystemExit('executed')\n")
    record = json.loads((folder / "run.json").read_text())
    record["config"]["analysis"]["classes"] = [f"{evil}:f", "kind"]
    (folder / "run.json").write_text(json.dumps(record))
    run = opened(folder)
    found, _ = run.once(classes)
    assert set(found.curves["class"]) == {"kind"}
    assert any("was not run, because it is code" in note for note in notes(run))
