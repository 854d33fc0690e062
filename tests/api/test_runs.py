"""Runs from Python: made, opened, told of, compared and drawn."""

import gc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from models import tiny
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    changed,
    model_folders,
    no_network,
    text_folder,
)
from transformers import AutoModelForCausalLM

import probe
from probe.analysis.open_run import open_run
from probe.config import check
from probe.errors import ProbeError, UsageError
from probe.findings.base import findings
from probe.findings.compare.finding import run_table
from probe.render.terminal import text

RUNS = Path(__file__).parents[1] / "golden" / "runs"
SWEEP, WRITER = RUNS / "sweep", RUNS / "sweep-writer"
PROTOCOLS = ("sweep", "grid", "band", "dense", "longppl", "passages", "suffix", "attend")


def test_scores_are_the_rows_of_the_folder():
    """As they were written, every part, with delta."""
    written = pd.concat([pq.read_table(part).to_pandas() for part in SWEEP.glob("scores/*")])
    with probe.open(SWEEP) as run:
        scores = run.scores
    assert len(scores) == len(written)
    assert [*written.columns, "delta"] == list(scores.columns)
    assert scores["nll"].sum() == pytest.approx(written["nll"].astype(float).sum(), rel=1e-6)
    rows = scores[scores["condition"] != "intact"]
    np.testing.assert_allclose(rows["delta"], rows["nll"] - rows["nll_intact"], atol=1e-6)


@pytest.mark.slow
def test_an_open_run_tells_what_the_commands_tell():
    """Findings and answer are those of an open run; each prints as the terminal has it."""
    run = probe.open(SWEEP)
    with open_run(SWEEP, write=False) as plain:
        told = findings(plain)
        pd.testing.assert_frame_equal(run.curve, plain.curve)
    assert [one.id for one in run.findings] == [one.id for one in told]
    assert run.answer.sentence == told[0].sentence
    assert str(run.answer) == text(told[0], wrap=True)
    assert repr(run) == "<run 'sweep': 'near' on 'inputs/texts.jsonl', 10 documents>"
    assert repr(run.answer).startswith("<answer: '")


@pytest.mark.slow
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_has_an_answer_to_show(name):
    """A sentence, and a figure in the page of a notebook."""
    with probe.open(RUNS / name) as run:
        assert run.answer.sentence
        html = run._repr_html_()
    assert html.count("data:image/svg+xml;base64,") == min(1, len(run.answer.charts))


@pytest.mark.slow
def test_nothing_is_written(tmp_path):
    """Opening, telling and drawing leave a folder as it was."""
    before = {file: file.stat().st_mtime_ns for file in SWEEP.rglob("*")}
    run = probe.open(SWEEP)
    assert run.findings
    probe.plot(run)
    assert {file: file.stat().st_mtime_ns for file in SWEEP.rglob("*")} == before


@pytest.mark.slow
def test_a_run_is_closed_with_what_refers_to_it():
    """Without a ``with`` nothing stays open, and no warning comes; frames stay."""
    run = probe.open(SWEEP)
    curve = run.curve
    del run
    gc.collect()
    assert len(curve)


@pytest.mark.slow
@pytest.mark.parametrize("form", [lambda content, _: content, lambda content, _: check(content)])
def test_run_scores_and_opens(base, tmp_path, form):
    """Plain values or a checked configuration; called again it finds nothing left to do."""
    config = form(changed(base, name="notebook"), tmp_path)
    with probe.run(config, results=tmp_path, progress=False) as run:
        assert run.path == tmp_path / "notebook"
        assert run.folder.record["status"] == "complete"
        assert len(run.documents) == 8
    parts = {part: part.stat().st_mtime_ns for part in run.path.glob("scores/*")}
    probe.run(config, results=tmp_path, progress=False)
    assert {part: part.stat().st_mtime_ns for part in run.path.glob("scores/*")} == parts


@pytest.mark.slow
def test_a_file_and_a_loaded_model(base, models, tmp_path, capsys):
    """A path is read as `probe run` reads it; the bar and the notes go to standard error."""
    import yaml

    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(changed(base, name="file")))
    model = AutoModelForCausalLM.from_pretrained(models[True]).eval()
    with probe.run(file, results=tmp_path, model=model) as run:
        given = run.scores
    out, err = capsys.readouterr()
    assert out == ""
    assert "note: left out, too short: 1 (short.txt)" in err
    with probe.run(changed(base, name="named"), results=tmp_path, progress=False) as run:
        np.testing.assert_allclose(run.scores["nll"], given["nll"], atol=1e-5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("gpt2", "model is of type str; allowed: a causal language model"),
        (tiny("llama").train(), "LlamaForCausalLM is in training mode; allowed: model.eval()"),
        (tiny("gpt2"), "model has model_type 'gpt2'; allowed: the model of model.path "),
        (tiny("llama", num_hidden_layers=1), "model has num_hidden_layers 1; allowed"),
    ],
)
def test_another_model_is_refused(model, told, base, tmp_path):
    """The record names that of the configuration; dropout would be in every loss."""
    with pytest.raises(UsageError) as caught:
        probe.run(base, results=tmp_path / "results", model=model, progress=False)
    assert told in str(caught.value)


@pytest.mark.slow
def test_two_runs_are_compared():
    """The table of all, and the differences of two as frames, from folders or open runs."""
    both = probe.compare(SWEEP, WRITER)
    with open_run(SWEEP, write=False) as a, open_run(WRITER, write=False) as b:
        pd.testing.assert_frame_equal(both.table, run_table([a, b]))
        opened = probe.compare(a, b)
        assert a.windows  # what was handed over open stays so
    assert both.differences is not None
    assert opened.differences is not None
    pd.testing.assert_frame_equal(both.differences.octaves, opened.differences.octaves)
    assert str(both) == repr(both)
    assert "sweep-writer" in str(both)
    assert "<table" in both._repr_html_()


@pytest.mark.slow
def test_a_comparison_begins_with_its_conclusion():
    """One sentence and one screen are shown; all the rest is there."""
    both = probe.compare(SWEEP, WRITER)
    assert [one.id for one in both.findings] == ["conclusion", "runs", "comparison"]
    assert str(both).startswith("At distances of ")
    assert " nats per token more than A " in str(both)
    assert len(str(both).splitlines()) <= 40
    assert "--" not in str(both)
    many = probe.compare(SWEEP, WRITER, RUNS / "few")
    assert str(many).startswith("3 runs: ")
    assert "The runs" in [one.title for one in many.findings]


@pytest.mark.slow
@pytest.mark.parametrize("runs", [[SWEEP], [SWEEP, WRITER, RUNS / "few"]])
def test_other_numbers_of_runs_have_a_table(runs):
    """Differences are of two."""
    compared = probe.compare(*runs)
    assert compared.differences is None
    assert compared.table["run"].nunique() == len(runs)


@pytest.mark.slow
def test_a_figure_of_runs():
    """New axes, or those that are given; several runs over one another."""
    axes = probe.plot(SWEEP, condition="truncate")
    assert axes.get_xlabel() == "distance (tokens)"
    own = Figure().subplots()
    assert probe.plot([SWEEP, WRITER], ax=own) is own
    assert len(own.lines) > len(axes.lines)
    assert probe.plot([SWEEP, WRITER], "compare", unit="bytes").get_xlabel() == "distance (bytes)"
    with pytest.raises(UsageError, match="ax is of type int; allowed: axes of matplotlib"):
        probe.plot(SWEEP, ax=3)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: probe.open("nowhere"), "no run folder at 'nowhere'"),
        (lambda: probe.open(SWEEP / "run.json"), "run.json' is a file; allowed: a run folder"),
        (lambda: probe.open("x" * 5000), "…: File name too long"),
        (lambda: probe.compare(), "no run to compare"),
        (lambda: probe.plot(SWEEP, "curves"), "kind is 'curves'; allowed: curve, "),
        (lambda: probe.plot(SWEEP, "compare"), "kind 'compare' takes 2 runs; got 1"),
        (lambda: probe.plot(SWEEP, by="x"), "kind curve has no option 'by'; allowed: condition"),
        (lambda: probe.plot(SWEEP, condition="x"), "'x' was not found"),
        (lambda: probe.plot(RUNS / "classes", "classes"), "figures; allowed: name="),
        (lambda: probe.plot(RUNS / "band", "tolerance"), "allowed: kind curve"),
        (lambda: probe.open(None), "run is None; allowed: the path of a run folder"),
        (lambda: probe.plot(None), "run is None; allowed"),
        (lambda: probe.plot([3]), "run is 3; allowed"),
        (lambda: probe.compare([SWEEP, WRITER]), "; allowed: the path of a run folder"),
        (lambda: probe.run({}, progress=False), "name: is missing"),
        (lambda: probe.run("nowhere.yaml"), "configuration nowhere.yaml: No such file"),
    ],
)
def test_mistakes_are_errors(call, told):
    with pytest.raises(UsageError) as caught:
        call()
    assert told in str(caught.value)


def test_nothing_to_draw_is_an_error():
    """It is no ValueError of a library."""
    with pytest.raises(ProbeError, match="nothing to draw"):
        probe.plot(RUNS / "few", "tolerance")
