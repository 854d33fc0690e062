"""The answer: its sentence, basis, table and chart, and the files that hold its numbers."""

import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from open_runs import answer, by_id, opened, written
from simulated import Simulation, write_run

from probe.analysis.effective import EffectiveContext
from probe.analysis.floor import is_noise
from probe.findings.answer import answer_table, basis, meaning, sentence
from probe.findings.curve import pooled_curve
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_planted_lengths_are_told(run):
    """Steps at 32 and 64 are answered, and named as what they are."""
    assert sentence(run) == (
        "tiny-model on made-up: 32 tokens under truncate (95 % interval 30 to 36)"
        " at 1 % of perplexity."
    )
    lines = table_text(answer_table(run)).splitlines()
    assert len({line.find("64 (64–64)") for line in lines[2:4]}) == 1
    assert "8 documents, 16 windows and 6,592 targets" in answer(run)
    assert basis(run) in answer(run)


ANSWER = EffectiveContext(
    *("truncate", "1%", 0.00995, "length", 208, 208, 128, 384, 1024, (), ()),
    documents=24,
    targets=1000,
)
SENTENCES = [
    ({}, "208 tokens under truncate (95 % interval 128 to 384) at 1 % of perplexity"),
    (
        {"start": 128, "lower": 0},
        "208 tokens under truncate (95 % interval 128 or less to 384) at 1",
    ),
    (
        {"kind": "greater", "value": 1024, "estimate": None, "lower": 640, "upper": None},
        "more than 640 tokens under truncate (95 % lower limit) at 1 % of perplexity; the end was"
        " not seen within 1,024",
    ),
    (
        {"kind": "greater", "value": 1024, "estimate": None, "lower": None, "upper": None},
        "more than 1,024 tokens under truncate (95 % lower limit) at 1 % of perplexity; the end was"
        " not seen within 1,024",
    ),
    (
        {"kind": "greater", "value": 704, "estimate": None, "lower": 640, "upper": None},
        "more than 640 tokens under truncate (95 % lower limit) at 1 % of perplexity; the end was"
        " not seen before the last half octave of 1,024",
    ),
    (
        {"kind": "greater", "value": 320, "estimate": 704, "lower": 320, "upper": None},
        "more than 320 tokens under truncate (95 % lower limit) at 1 % of perplexity; the estimate"
        " is 704, with no upper bound within the measured range",
    ),
    (
        {"value": 4, "start": 4, "lower": 0, "upper": 11, "flags": ("at most",)},
        "at most 4 tokens under truncate (95 % interval up to 11) at 1 % of perplexity; no distance"
        " below 4 was measured",
    ),
    (
        {"value": 4, "start": 4, "lower": 0, "upper": 4, "flags": ("at most",)},
        "at most 4 tokens under truncate at 1 % of perplexity; no distance below 4 was measured",
    ),
    (
        {"kind": "zero", "value": 0, "lower": 0, "upper": 12},
        "0 tokens under truncate (95 % interval 0 to 12) at 1 % of perplexity; at every distance"
        " the mean loss rises by less than that",
    ),
    ({"kind": "zero", "value": 0, "lower": 0, "upper": 0}, "0 tokens under truncate at 1 % of"),
    ({"value": 1, "lower": 1, "upper": 2}, "1 token under truncate (95 % interval 1 to 2) at 1 %"),
    (
        {"tolerance": "0.01 nats"},
        "208 tokens under truncate (95 % interval 128 to 384) at 0.01 nats per token.",
    ),
    (
        {"kind": "unresolved", "value": None, "reasons": ("no target", "noise")},
        "effective context unresolved under truncate at 1 % of perplexity; no target; noise",
    ),
]


@pytest.mark.parametrize(("changes", "said"), SENTENCES)
def test_every_answer_is_a_sentence(run, monkeypatch, changes, said):
    """Limit, tolerance and estimate have a clause each, whatever the kind of the answer."""
    monkeypatch.setitem(vars(run), "contexts", (replace(ANSWER, **changes),))
    assert sentence(run).startswith(f"tiny-model on made-up: {said}")
    assert sentence(run).endswith(".")


def test_a_cell_is_short_and_the_rest_is_said_below(run, monkeypatch):
    """``> x`` and its estimate once: below the table in the terminal, in the cell on the page."""
    beyond = replace(ANSWER, kind="greater", value=1024, estimate=None, lower=640, upper=None)
    open_end = replace(beyond, tolerance="2%", value=320, lower=320, estimate=704)
    late = replace(beyond, tolerance="5%", value=704)
    monkeypatch.setitem(vars(run), "contexts", (beyond, open_end, late))
    later = replace(late, tolerance="10%", condition="shuffle")
    monkeypatch.setitem(vars(run), "contexts", (beyond, open_end, late, later))
    of_two = answer_table(run).below[-1]  # what is left open alike is said once
    end = "estimate in the last half octave before 1,024, or beyond it"
    assert of_two == f"truncate at 5 %; shuffle at 10 %: {end}"
    monkeypatch.setitem(vars(run), "contexts", (beyond, open_end, late))
    table = answer_table(run)
    assert list(table.headers) == ["condition", "1 %", "2 %", "5 %", "10 %"]
    assert table.rows == [["truncate", "> 640", "> 320", "> 640", "–"]]
    assert table.details == {(0, 2): "estimate 704"}
    assert list(table.below) == [
        "truncate: the text further away than so many tokens is cut off",
        "> x: the lower limit of the 95 % interval; the end was not seen within 1,024",
        "truncate at 2 %: estimate 704, no upper bound within the measured range",
        "truncate at 5 %: estimate in the last half octave before 1,024, or beyond it",
    ]
    assert table.below[1] in table.caption
    monkeypatch.setitem(vars(run), "contexts", (late,))
    assert list(answer_table(run).below)[1:] == [
        "> x: the lower limit of the 95 % interval",
        table.below[-1],
    ]
    monkeypatch.setitem(vars(run), "contexts", (ANSWER,))
    assert list(answer_table(run).below) == list(table.below)[:1]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("reverse", "reverse: put the tokens, words or sentences in the opposite order"),
        ("shuffle(span=5)", "shuffle(span=5): permute tokens, words or sentences: all at once,"),
        ("[drop(rate=0.5), shuffle]", ""),
        ("of_a_stranger(\x1b)", ""),
    ],
)
def test_other_conditions_are_said_by_their_summary(condition, said):
    """A chain, and what is not registered, has none."""
    assert meaning(condition).startswith(said)
    assert bool(meaning(condition)) == bool(said)


@pytest.mark.slow
def test_files_keep_the_answer(run):
    """curve.csv and summary.json hold the same numbers; no temporary file stays."""
    folder = run.path
    table = read_csv(folder / "curve.csv")
    assert list(table.columns) == list(run.curve.columns)
    np.testing.assert_allclose(table["delta"], run.curve["delta"], rtol=1e-6)
    record = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert record["effective_context"][-1]["text"] == run.contexts[-1].full_text()
    assert record["far"] == {"shortest": 100, "longest": 256}
    assert {row["left_out"] for row in record["without_group"]} == {"novel", "essay"}
    assert not list(folder.glob(".*"))
    before = (folder / "summary.json").read_bytes()
    written(folder, classes=["kind"])
    assert (folder / "summary.json").read_bytes() == before


SUMMARY = {
    *("run", "status", "model", "data", "documents", "windows", "targets", "unit"),
    *("reach", "far"),
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


@pytest.mark.slow
def test_a_late_start_is_told(tmp_path):
    """Of a curve that may be shown from 64 on, an upper limit."""
    run = write_run(tmp_path / "run", Simulation(CURVES, curve_starts={"shuffle": 64}))
    assert "≤ 64 (≤ 64–72)" in table_text(answer_table(opened(run)))


@pytest.mark.slow
def test_an_intact_loss_that_worsens_is_flagged(tmp_path):
    """Five nats over the window are seen, none are not."""
    curves = {"truncate": CURVES["truncate"]}
    for slope, worse in ((5.0, True), (0.0, False)):
        simulation = Simulation(curves, position_slope=slope, documents=10)
        run = opened(write_run(tmp_path / str(slope), simulation))
        assert (run.once(losses).worsening is not None) == worse
        assert ("the intact loss worsens with position" in answer(run)) == worse


@pytest.mark.slow
def test_few_documents_say_why(tmp_path):
    """The sentence names the reason."""
    run = write_run(tmp_path / "run", Simulation(CURVES, documents=3))
    assert sentence(opened(run)).endswith(
        ": effective context unresolved under truncate at 1 % of perplexity; 3 documents, at least"
        " 6 needed."
    )


@pytest.mark.slow
def test_the_chart_holds_the_curves(run):
    """A line a condition with its limits and fit, tolerances, the answer, the noise floor."""
    (chart,) = by_id(run)["answer"].charts
    usable = run.curve[~run.curve["grey"] & ~run.curve["condition"].map(is_noise)]
    lines = [line for line in chart.series if line.role == "series"]
    assert [line.name for line in lines] == run.curve_conditions
    for line in lines:
        own = usable[usable["condition"] == line.name]
        np.testing.assert_array_equal(line.fit[1][::2], own["fit"])
        octaves = pooled_curve(run, 1)
        octaves = octaves[(octaves["condition"] == line.name) & ~octaves["grey"]]
        for drawn, column in ((line.y, "delta"), (line.low, "low"), (line.high, "high")):
            np.testing.assert_array_equal(drawn, octaves[column])
    grey = [line for line in chart.series if line.role == "grey"]
    assert len(grey) == len(lines)
    assert [rule.label for rule in chart.rules] == ["1 %", "2 %", "5 %", "10 %"]
    (mark,) = chart.intervals
    answer_ = run.headline()
    assert (mark.low, mark.high, mark.at) == (answer_.lower, answer_.upper, answer_.estimate)
    samples = dict(chart.legend)
    assert samples["answer"] == "truncate, 1 %: 32"
    assert set(samples) == {"grey", "answer"}
    assert chart.file == "curve"
