"""The patterns of a run: deltas from made-up rows, costs, the sentence, the figure."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pattern_runs import DELTAS, FIRST, make
from simulated import Simulation, write_run

from probe.analysis.attended import COLUMNS, attended, cheapest, has_patterns
from probe.analysis.attended_answer import answer, sentence, sentences
from probe.analysis.settings import Analysis
from probe.analysis.summary import summarise
from probe.analysis.tolerance import parse_tolerance
from probe.errors import ProbeError
from probe.plots.style import EmptyFigureError
from probe.plots.tradeoff import family, tradeoff
from probe.report.patterns import pattern_section


@pytest.fixture(scope="module", name="folder")
def run_folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("patterns"))


def test_deltas_are_those_of_pandas(folder):
    """The mean over the targets that all patterns hide something from, cheapest cache first."""
    found = attended(folder, write=False)
    rows = pd.read_parquet(folder / "scores")
    rows["condition"] = rows["condition"].astype(str)
    starts = pd.read_parquet(folder / "windows.parquet")[["document", "window", "start"]]
    rows = rows.astype({"document": str}).merge(starts.astype({"document": str}))
    assert list(found.table.columns) == list(COLUMNS)
    assert found.table["kv_share"].is_monotonic_increasing
    for row in found.table.to_dict("records"):
        own = rows[rows["condition"] == row["condition"]]
        kept = own[own["position"] - own["start"] >= FIRST]
        assert 0 < len(kept) < len(own)
        assert row["targets"] == len(kept)
        assert found.left == len(own) - len(kept)
        assert row["delta"] == pytest.approx((kept["nll"] - kept["nll_intact"]).mean(), abs=1e-6)
        assert row["low"] < row["delta"] < row["high"]


def test_the_frontier_is_what_no_other_beats(folder):
    """Blocks cost as much cache as the wide window and lose more."""
    table = attended(folder, write=False).table.set_index("condition")["frontier"]
    assert dict(table) == {name: "blocks" not in name for name in DELTAS}


def test_the_sentence_names_the_cheapest_below_the_tolerance(folder):
    found = attended(folder)
    told = sentence(found, parse_tolerance("1%"))
    assert "loses less than 1 % of perplexity with 513 keys a query, 25 % of the KV cache" in told
    assert cheapest(found.table, parse_tolerance("30%"))["keys"] == 65
    assert cheapest(found.table, parse_tolerance("0.0001 nats")) is None
    assert "no pattern of this run is known" in sentence(found, parse_tolerance("0.0001 nats"))
    assert "left out" in answer(found)
    assert (folder / "patterns.csv").is_file()
    high = found.table.set_index("condition").loc["attend(local(w=512, sinks=1))", "high"]
    assert high < math.log(1.01)


def test_without_enough_documents_nothing_is_claimed(tmp_path):
    found = attended(make(tmp_path, documents=3), write=False)
    assert found.table["high"].isna().all()
    assert "3 documents, an interval needs 6" in sentence(found, parse_tolerance("1%"))


def test_a_run_without_patterns_says_so(tmp_path):
    run = write_run(tmp_path / "run", Simulation({"truncate": lambda d: 0.5 / (1 + d)}))
    assert not has_patterns(summarise(run, write=False).run.record)
    with pytest.raises(ProbeError, match="limits no attention"):
        attended(run)


def test_the_figure_has_a_point_a_pattern_and_the_frontier(folder):
    """Shares in percent on a logarithmic axis; the frontier goes through the undominated ones."""
    table = attended(folder, write=False).table
    axes = tradeoff(table, tolerances={math.log(1.01): "1 %"})
    best = table[table["frontier"]]
    drawn = [list(line.get_xdata()) for line in axes.get_lines()]
    assert list(100 * best["kv_share"]) in drawn
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[:2] == ["local", "blocks"]
    with pytest.raises(EmptyFigureError):
        tradeoff(table.assign(kv_share=np.nan))


@pytest.mark.parametrize(
    ("condition", "name"),
    [
        ("attend(local(w=64, sinks=1))", "local"),
        ("attend(local(w=64, sinks=4))", "local(sinks=4)"),
        ("attend(dilated(w=64, gap=1, sinks=1))", "dilated"),
        ("attend(pool(k=8))", "pool"),
        ("attend(global(positions=[0, 9], sinks=1) + local(w=3, sinks=1))", "global + local"),
        (
            "attend(heads(local(w=3, sinks=1), layers=[0, 2, 3, 4, 6, 7], heads=[1]))",
            "heads(local, layers=[0, 2–4, 6, 7], heads=[1])",
        ),
    ],
)
def test_families(condition, name):
    assert family(condition) == name


def test_the_page_answers(folder):
    """The finding, and a figure of the trade-off."""
    found = attended(folder, write=False)
    section = pattern_section(SimpleNamespace(summary=found.summary))
    assert [figure.title for figure in section.figures] == [
        "Delta against the share of the KV cache kept"
    ]
    assert "loses less than 1 % of perplexity with 513 keys" in section.finding


def changed_record(run: Path, **attention) -> Path:
    """The run with another record of its patterns' costs."""
    record = json.loads((run / "run.json").read_text())
    record["attention"] |= attention
    (run / "run.json").write_text(json.dumps(record))
    return run


def test_a_pattern_that_hides_nothing_is_no_answer(tmp_path):
    """It loses nothing and spares nothing: told, and neither cheapest nor on the frontier."""
    name = "attend(local(w=512, sinks=1))"
    idle = {"keys": 9.0, "full": 9.0, "kv_share": 1.0, "flops_share": 1.0, "first": None}
    found = attended(changed_record(make(tmp_path), **{name: idle}), write=False)
    assert cheapest(found.table, parse_tolerance("1%")) is None
    row = found.table.set_index("condition").loc[name]
    assert row["idle"]
    assert not row["frontier"]
    assert f"noise of the patterns' arithmetic: {name}" in answer(found)
    assert found.left == 0  # it leaves no target out


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        ({"keys": -3}, "keys is -3; allowed: a number from 0 on"),
        ({"kv_share": "x"}, "kv_share is 'x'"),
        ({"first": "x"}, "first is 'x'"),
        ([1], "expected an object|allowed: an object"),
    ],
)
def test_costs_that_are_none_are_told(tmp_path, cost, said):
    run = changed_record(make(tmp_path), **{"attend(local(w=64, sinks=1))": cost})
    with pytest.raises(ProbeError, match=said):
        attended(run, write=False)


def test_without_costs_nothing_is_said_of_keys(tmp_path):
    found = attended(changed_record(make(tmp_path), **{name: {} for name in DELTAS}), write=False)
    told = sentence(found, parse_tolerance("1%"))
    assert "nan" not in answer(found)
    assert "keys a query" not in told
    assert "loses less than 1 % of perplexity (attend(local(w=512" in told


def test_tolerances_that_differ_by_target_are_not_answered(folder):
    how = Analysis(tolerances=(parse_tolerance("0.02 bpb"),), resamples=100)
    assert "bpb" not in answer(attended(folder, analysis=how, write=False))


def test_a_pattern_that_hides_nothing_from_any_target_is_no_answer(tmp_path):
    """It first hides something behind the last target: nothing is lost and nothing is spared."""
    name = "attend(local(w=512, sinks=1))"
    late = {"keys": 9.0, "full": 9.0, "kv_share": 0.9, "flops_share": 0.9, "first": 10**6}
    found = attended(changed_record(make(tmp_path), **{name: late}), write=False)
    row = found.table.set_index("condition").loc[name]
    assert row["idle"]
    assert not row["frontier"]
    assert cheapest(found.table, parse_tolerance("1%")) is None
    assert found.left == 0


def test_a_record_that_says_nothing_of_a_cost(tmp_path):
    """Null in its place, or in that of one number: the loss is told without it."""
    name = "attend(local(w=64, sinks=1))"
    for told in (None, {"keys": None, "kv_share": 0.1}):
        folder = make(tmp_path / str(told is None))
        found = attended(changed_record(folder, **{name: told}), write=False)
        row = found.table.set_index("condition").loc[name]
        assert np.isnan(row["keys"])
        assert np.isfinite(row["delta"])
        assert "local(w=64, sinks=1)" in answer(found)


def test_full_attention_is_never_beaten_by_what_keeps_as_much(tmp_path):
    """A pattern alone in its run that holds the whole cache and loses is not on the frontier."""
    name = "attend(blocks(size=512, sinks=1))"
    whole = {"keys": 9.0, "full": 9.0, "kv_share": 1.0, "flops_share": 0.5, "first": 0}
    found = attended(changed_record(make(tmp_path), **{name: whole}), write=False)
    assert not found.table.set_index("condition").loc[name, "frontier"]


def test_what_no_pattern_reaches_is_told_at_every_tolerance(folder):
    """With what the best of them loses."""
    how = Analysis.from_record({"config": {"analysis": {"tolerances": ["0.01%", "0.02%"]}}})
    found = attended(folder, analysis=how, write=False)
    (told,) = sentences(found)
    assert "less than 0.01 % or 0.02 % of perplexity; the least is lost by" in told
    assert "local(w=512, sinks=1)" in told
