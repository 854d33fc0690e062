"""An explained run: its parts belong to one reading of one run, and its files hold them."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from simulated import Simulation, write_run

from probe.analysis.explain import explain
from probe.commands.main import group
from probe.results.csv_files import read_csv

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.6, 0.0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("explained") / "run"
    return write_run(path, Simulation(CURVES, groups=("novel", "essay"), documents=14))


@pytest.fixture(scope="module")
def explained(folder):
    return explain(folder)


def test_one_value_of_all_tokens_is_the_curve_of_the_run(folder):
    found = explain(folder, classes=["frequency(top=0.9999)"], write=False)
    curve = found.summary.curve.query("condition == 'truncate' and not grey")
    by_bin = found.classes.query("condition == 'truncate'").assign(
        total=lambda rows: rows["delta"] * rows["targets"]
    )
    sums = by_bin.groupby("distance_from")[["total", "targets"]].sum()
    means = (sums["total"] / sums["targets"]).to_numpy()
    assert np.allclose(means, curve["delta"], atol=1e-9)
    assert (sums["targets"].to_numpy() == curve["targets"].to_numpy()).all()


def test_every_part_speaks_of_the_same_run(explained):
    assert set(explained.information["condition"]) == {"shuffle"}
    for name in ("tolerance_curve", "hinges", "quantiles", "detectable", "occurrences"):
        assert set(getattr(explained, name)["condition"]) == {"truncate", "shuffle"}, name
    counts = explained.class_counts
    assert counts.query("`class` == 'group'")["targets"].sum() == explained.summary.targets
    default = explained.summary.context("truncate", "1%")
    rows = explained.tolerance_curve.query("condition == 'truncate'")
    same = rows.loc[(rows["tolerance"] - 0.01).abs().idxmin()]
    assert (same["length"], same["low"], same["high"]) == (
        default.estimate,
        default.lower,
        default.upper,
    )


def test_files_hold_what_was_found(folder, explained):
    record = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    assert record["run"] == explained.summary.run.name
    assert len(record["class_contexts"]) == len(explained.class_contexts)
    assert record["hinges"][0]["text"] == explained.hinges["text"].iloc[0]
    table = read_csv(folder / "classes.csv")
    assert np.allclose(table["delta"], explained.classes["delta"], atol=1e-6)


def test_nothing_is_written_where_it_was_not_asked_for(tmp_path):
    folder = write_run(tmp_path / "run", Simulation({"truncate": lambda d: 0.3 * (d < 8)}))
    before = sorted(folder.rglob("*"))
    explain(folder, write=False)
    assert sorted(folder.rglob("*")) == before


def test_one_document_has_no_answer_and_no_false_interval(tmp_path):
    folder = write_run(tmp_path / "run", Simulation(CURVES, documents=1))
    found = explain(folder)
    assert set(found.class_contexts["kind"]) == {"unresolved"}
    assert found.classes[["low", "high"]].isna().all(axis=None)
    assert not found.information["resolved"].any()
    assert found.hinges[["low", "high"]].isna().all(axis=None)


def test_report_tells_findings_and_page(folder):
    result = CliRunner().invoke(group, ["report", str(folder), "--class", "kind"])
    assert result.exit_code == 0, result.output
    assert f"Page: {folder / 'report.html'}" in result.output
    assert (folder / "report.html").stat().st_size < 1_500_000
    wrong = CliRunner().invoke(group, ["report", str(folder), "--class", "colour"])
    assert wrong.exit_code == 2
    assert "colour" in wrong.output
    assert "Traceback" not in wrong.output


def test_without_truncate_the_missing_condition_is_named(tmp_path):
    folder = write_run(tmp_path / "run", Simulation({"shuffle": CURVES["shuffle"]}))
    found = explain(folder)
    assert any("truncate" in note for note in found.notes)


def test_code_that_a_run_folder_names_is_not_run(folder, tmp_path):
    """A folder may come from anyone: its classes that are files are named, not executed."""
    folder = shutil.copytree(folder, tmp_path / "copy")
    evil = folder / "evil.py"
    evil.write_text("raise SystemExit('executed')\n")
    record = json.loads((folder / "run.json").read_text())
    record["config"]["analysis"]["classes"] = [f"{evil}:f", "kind"]
    (folder / "run.json").write_text(json.dumps(record))
    found = explain(folder)
    assert set(found.classes["class"]) == {"kind"}
    assert any("was not run, because it is code" in note for note in found.notes)
