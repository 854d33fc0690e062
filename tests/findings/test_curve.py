"""The answer: its sentence, basis, table and chart, and the files that hold its numbers."""

import json
from collections import defaultdict

import numpy as np
import pytest
from open_runs import answer, by_id, opened, written
from simulated import Simulation, write_run

from probe.analysis.floor import is_noise
from probe.findings.answer import answer_table, basis, sentence
from probe.findings.positions import losses
from probe.render.terminal import table_text
from probe.results.files import read_csv

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "replace(source='document')": lambda d: np.where(d < 64, 0.5, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.6, 0.0),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    # A name that a pattern language would read otherwise.
    path = tmp_path_factory.mktemp("runs") / "run[1]*=x"
    groups = ("novel", "essay")
    simulation = Simulation(CURVES, groups=groups, boundaries=(100, 256), reach=256)
    return written(write_run(path, simulation), classes=["kind"])


def test_a_condition_looks_the_same_in_every_chart(run):
    """Also where others are left out of a chart, or its name is the first of two."""
    looks, titles = defaultdict(set), defaultdict(set)
    for chart in (chart for finding in by_id(run).values() for chart in finding.charts):
        for series in chart.series:
            name = series.name.partition(" − ")[0]
            if name in CURVES:
                looks[name].add(series.appearance)
                titles[name].add(chart.title)
    assert "Ablated information by distance" in titles["shuffle"]
    assert all(len(found) >= 3 for found in titles.values())
    assert [len(found) for found in looks.values()] == [1, 1, 1]
    assert len(set.union(*looks.values())) == 3


def test_the_planted_lengths_are_told(run):
    """Steps at 32 and 64 are answered, and named as what they are."""
    assert sentence(run) == (
        "tiny-model on made-up uses 32 tokens of context (95 % interval 30–36)"
        " at a tolerance of 1 % of perplexity."
    )
    lines = table_text(answer_table(run)).splitlines()
    assert len({line.find("64 (64–64)") for line in lines[2:4]}) == 1
    assert "8 documents, 16 windows and 6,592 targets" in answer(run)
    assert basis(run) in answer(run)


def test_files_keep_the_answer(run):
    """curve.csv and summary.json hold the same numbers; no temporary file stays."""
    folder = run.path
    table = read_csv(folder / "curve.csv")
    assert list(table.columns) == list(run.curve.columns)
    np.testing.assert_allclose(table["delta"], run.curve["delta"], rtol=1e-6)
    record = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert record["effective_context"][-1]["text"] == run.contexts[-1].text()
    assert record["far"] == {"shortest": 100, "longest": 256}
    assert {row["left_out"] for row in record["without_group"]} == {"novel", "essay"}
    assert not list(folder.glob(".*"))
    before = (folder / "summary.json").read_bytes()
    written(folder, classes=["kind"])
    assert (folder / "summary.json").read_bytes() == before


SUMMARY = {
    *("run", "status", "model", "data", "documents", "windows", "targets", "reach", "far"),
    *("analysis", "effective_context", "noise_floor", "losses", "contrasts", "reading", "tails"),
    *("document_lengths", "documents_spread", "without_group", "flags", "warnings"),
}
FINDINGS = {
    *("run", "notes", "class_contexts", "class_counts", "occurrences", "copies", "information"),
    *("tolerance_curve", "hinges", "quantiles", "detectable", "positions"),
}


def test_files_have_the_keys_of_the_results_contract(run):
    """No part of summary.json and findings.json is lost, none is there that readers do not know."""
    for name, keys in (("summary.json", SUMMARY), ("findings.json", FINDINGS)):
        record = json.loads((run.path / name).read_text(encoding="utf-8"))
        assert set(record) == keys
    summary = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["losses"]) == {"by_condition", "by_position", "by_quarter", "worsening"}
    octaves = set(summary["noise_floor"]["octaves"][0])
    assert octaves == {"distance_from", "distance_to", "limit", "targets"}
    assert summary["analysis"]["tolerances"] == ["1%", "2%", "5%", "10%"]


def test_a_late_start_is_told(tmp_path):
    """Of a curve that may be shown from 64 on, an upper limit."""
    run = write_run(tmp_path / "run", Simulation(CURVES, curve_starts={"shuffle": 64}))
    assert "≤ 64 (upper limit 72)" in table_text(answer_table(opened(run)))


def test_an_intact_loss_that_worsens_is_flagged(tmp_path):
    """Five nats over the window are seen, none are not."""
    curves = {"truncate": CURVES["truncate"]}
    for slope, worse in ((5.0, True), (0.0, False)):
        simulation = Simulation(curves, position_slope=slope, documents=10)
        run = opened(write_run(tmp_path / str(slope), simulation))
        assert (run.once(losses).worsening is not None) == worse
        assert ("the intact loss worsens with position" in answer(run)) == worse


def test_few_documents_say_why(tmp_path):
    """The sentence names the reason."""
    run = write_run(tmp_path / "run", Simulation(CURVES, documents=3))
    assert sentence(opened(run)).endswith(
        "is unresolved at a tolerance of 1 % of perplexity: 3 documents, at least 6 needed."
    )


def test_the_chart_holds_the_curves(run):
    """A line a condition with its limits and fit, tolerances, the answer, the noise floor."""
    (chart,) = by_id(run)["answer"].charts
    usable = run.curve[~run.curve["grey"] & ~run.curve["condition"].map(is_noise)]
    lines = [line for line in chart.series if line.role == "series"]
    assert [line.name for line in lines] == run.curve_conditions
    for line in lines:
        own = usable[usable["condition"] == line.name]
        ends = own["distance_from"].to_numpy(), own["distance_to"].to_numpy()
        np.testing.assert_array_equal(line.x, (ends[0] + ends[1] - 1) / 2)
        parts = ((line.y, "delta"), (line.low, "low"), (line.high, "high"), (line.fit, "fit"))
        for drawn, column in parts:
            np.testing.assert_array_equal(drawn, own[column])
    grey = [line for line in chart.series if line.role == "grey"]
    assert (
        sum(len(line.x) for line in grey)
        == (run.curve["grey"] & ~run.curve["condition"].map(is_noise)).sum()
    )
    assert [rule.label for rule in chart.rules] == ["1 %", "2 %", "5 %", "10 %"]
    (mark,) = chart.intervals
    answer_ = run.headline()
    assert (mark.low, mark.high, mark.at) == (answer_.lower, answer_.upper, answer_.estimate)
    np.testing.assert_array_equal(chart.floor.limits, run.floor.limit)
    samples = dict(chart.legend)
    assert samples["answer"] == "truncate, 1 %: 32 (30–36)"
    assert set(samples) == {"floor", "grey", "answer"}
    assert chart.file == "curve"
