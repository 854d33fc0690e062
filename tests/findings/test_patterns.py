"""What patterns lose and spare: deltas from made-up rows, costs, sentences, tables, the chart."""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pattern_runs import DELTAS, FIRST, make
from simulated import Simulation, write_run
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    score,
    text_folder,
)

from probe.analysis.open_run import OpenRun, open_run
from probe.analysis.settings import Analysis
from probe.errors import ProbeError
from probe.findings.base import Finding, findings, plots, write_files
from probe.findings.chart import EmptyChartError
from probe.findings.patterns.answer import finding
from probe.findings.patterns.tradeoff import (
    COLUMNS,
    chart,
    cheapest,
    common_targets,
    family,
    tradeoff,
)
from probe.render.terminal import answers, details, text
from probe.results.tolerance import parse_tolerance


@pytest.fixture(scope="module", name="folder")
def run_folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("patterns"))


@contextmanager
def opened(folder: Path, tolerances: str = "") -> Iterator[OpenRun]:
    """The run, with other tolerances where some are given."""
    how = None
    if tolerances:
        texts = tuple(map(parse_tolerance, tolerances.split(", ")))
        how = Analysis(tolerances=texts, resamples=100)
    with open_run(folder, analysis=how, write=False) as run:
        yield run


def found(folder: Path, tolerances: str = "") -> Finding:
    """What is said of the patterns of a run."""
    with opened(folder, tolerances) as run:
        one = finding(run)
    assert one is not None
    return one


def costs(folder: Path) -> pd.DataFrame:
    """The table of its patterns by condition."""
    with opened(folder) as run:
        return run.once(tradeoff).set_index("condition")


def left_out(folder: Path) -> int:
    """How many targets of each pattern are left out."""
    with opened(folder) as run:
        return run.once(common_targets).left_out


@pytest.mark.slow
def test_deltas_are_those_of_pandas(folder):
    """The mean over the targets that all patterns hide something from, cheapest cache first."""
    with opened(folder) as run:
        table = run.once(tradeoff)
    rows = pd.read_parquet(folder / "scores")
    rows["condition"] = rows["condition"].astype(str)
    starts = pd.read_parquet(folder / "windows.parquet")[["document", "window", "start"]]
    rows = rows.astype({"document": str}).merge(starts.astype({"document": str}))
    assert list(table.columns) == list(COLUMNS)
    assert table["kv_share"].is_monotonic_increasing
    for row in table.to_dict("records"):
        every = rows[rows["condition"] == row["condition"]]
        common = every[every["position"] - every["start"] >= FIRST]
        assert 0 < len(common) < len(every)
        assert row["targets"] == len(common)
        assert left_out(folder) == len(every) - len(common)
        delta = (common["nll"] - common["nll_intact"]).mean()
        assert row["delta"] == pytest.approx(delta, abs=1e-6)
        assert row["low"] < row["delta"] < row["high"]


@pytest.mark.slow
def test_the_frontier_is_what_no_other_beats(folder):
    """Blocks cost as much cache as the wide window and lose more."""
    assert dict(costs(folder)["frontier"]) == {name: "blocks" not in name for name in DELTAS}


@pytest.mark.slow
def test_the_sentence_names_the_cheapest_below_the_tolerance(folder):
    one = found(folder, "1%")
    said = "loses less than 1 % of perplexity with 513 keys per query, 25 % of the KV cache"
    assert said in one.sentence
    assert one.headlines == [one.sentence]
    assert "of each pattern excluded" in text(one)
    table = costs(folder)
    assert cheapest(table.reset_index(), parse_tolerance("30%"))["keys"] == 65
    assert cheapest(table.reset_index(), parse_tolerance("0.0001 nats")) is None
    assert "no pattern of this run is shown" in found(folder, "0.0001 nats").sentence
    assert table.loc["attend(local(w=512, sinks=1))", "high"] < math.log(1.01)


@pytest.mark.slow
def test_the_table_is_kept_as_a_file(folder, tmp_path):
    """Without single heads, and in a sweep, it is the only one."""
    run_dir = Path(shutil.copytree(folder, tmp_path / "run"))
    with open_run(run_dir) as run:
        one = finding(run)
        assert write_files(run, [one]) == [run_dir / "patterns.csv"]
    pd.testing.assert_frame_equal(
        pd.read_csv(run_dir / "patterns.csv"), one.files["patterns.csv"], check_dtype=False
    )


@pytest.mark.slow
def test_both_answers_are_printed_and_neither_twice(folder):
    """That of the lengths leads; the sentence that the page tells beside it is printed once."""
    with opened(folder) as run:
        every = findings(run)
    printed = list(answers(every))
    assert [one.id for one in every if one.level == "answer" and one.shown] == [
        "answer",
        "attention",
    ]
    sentence = next(one.sentence for one in every if one.id == "attention")
    assert "\n\n".join([*printed, *details(every)]).count(sentence) == 1


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["attend(local(w=8, sinks=1))", "attend(pool(k=4))"])
def test_patterns_lead_where_attention_alone_was_limited(base, tmp_path, condition):
    """Also low-rank ones, which have a boundary: nothing is said of lengths."""
    folder = score(base, tmp_path, conditions=[condition])
    with opened(folder) as run:
        shown = [one for one in findings(run) if one.level == "answer" and one.shown]
    assert [one.id for one in shown] == ["attention"]


@pytest.mark.slow
def test_the_terminal_breaks_long_patterns(base, tmp_path):
    """A term a line; the page has the whole name, the columns are the same."""
    terms = [f"local(w={w}, sinks=1)" for w in (3, 4, 5, 6)]
    name = " + ".join(terms)
    terminal, page = found(score(base, tmp_path, conditions=[f"attend({name})"])).tables
    first, *others = terminal.rows
    assert [first[0], *(row[0] for row in others)] == [
        terms[0],
        *(f"  + {one}" for one in terms[1:]),
    ]
    assert (terminal.shown, terminal.captioned, terminal.rule) == ("terminal", False, True)
    assert [row[0] for row in page.rows] == [name]
    assert terminal.headers == page.headers
    assert page.headers[-2:] == ["targets", ""]
    assert first[1:] == page.rows[0][1:]
    assert page.shown == "page"


@pytest.mark.slow
def test_without_enough_documents_nothing_is_claimed(tmp_path):
    folder = make(tmp_path, documents=3)
    assert costs(folder)["high"].isna().all()
    assert "3 documents, an interval needs 6" in found(folder, "1%").sentence


@pytest.mark.slow
def test_a_run_without_patterns_has_no_finding_and_no_figure(tmp_path):
    folder = write_run(tmp_path / "run", Simulation({"truncate": lambda d: 0.5 / (1 + d)}))
    with opened(folder) as run:
        assert run.patterns == ()
        assert finding(run) is None
        for plot in plots():
            if plot.finding == "patterns":
                with pytest.raises(ProbeError, match="limits no attention; allowed: a condition"):
                    list(plot.charts([run]))


@pytest.mark.slow
def test_the_chart_has_a_point_a_pattern_and_the_frontier(folder):
    """Shares on a logarithmic axis; the frontier goes through the undominated ones."""
    with opened(folder) as run:
        table = run.once(tradeoff)
        drawn = chart(run, table)
        with pytest.raises(EmptyChartError, match="whose share of the KV cache is known"):
            chart(run, table.assign(kv_share=np.nan))
    series = {one.name: one for one in drawn.series}
    assert list(series) == ["local", "blocks", "frontier", "full attention"]
    best = table[table["frontier"]]
    assert list(series["frontier"].x) == list(best["kv_share"])
    assert (series["frontier"].role, series["frontier"].joined) == ("reference", True)
    assert (series["full attention"].x[0], series["full attention"].y[0]) == (1, 0)
    local = series["local"]
    assert (len(local.x), local.joined, local.points) == (2, False, True)
    assert (local.low < local.y).all()
    assert (local.y < local.high).all()
    assert local.titles[0].startswith("attend(local(w=64, sinks=1)): +0.2")
    assert [rule.label for rule in drawn.rules] == ["1 %", "2 %", "5 %", "10 %"]
    assert (drawn.x.kind, drawn.x.percent, drawn.x.high) == ("log", True, 1)
    assert drawn.x.low <= table["kv_share"].min() < 2 * drawn.x.low
    assert drawn.heading == ["tiny-model", "made-up"]


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


@pytest.mark.slow
def test_the_figures_of_the_finding(folder):
    """The trade-off alone, as a file and on the page."""
    one = found(folder)
    assert [(each.title, each.file, each.on_page) for each in one.charts] == [
        ("Delta against the share of the KV cache kept", "tradeoff", True)
    ]
    assert "loses less than 1 % of perplexity with 513 keys" in one.sentence


def changed_record(run: Path, **attention) -> Path:
    """The run with another record of its patterns' costs."""
    record = json.loads((run / "run.json").read_text())
    record["attention"] |= attention
    (run / "run.json").write_text(json.dumps(record))
    return run


@pytest.mark.slow
def test_a_pattern_that_hides_nothing_is_no_answer(tmp_path):
    """It loses nothing and spares nothing: told, and neither cheapest nor on the frontier."""
    name = "attend(local(w=512, sinks=1))"
    idle = {"keys": 9.0, "full": 9.0, "kv_share": 1.0, "flops_share": 1.0, "first": None}
    folder = changed_record(make(tmp_path), **{name: idle})
    table = costs(folder)
    assert cheapest(table.reset_index(), parse_tolerance("1%")) is None
    assert table.loc[name, "idle"]
    assert not table.loc[name, "frontier"]
    assert f"their delta is rounding and no answer: {name}" in text(found(folder))
    assert left_out(folder) == 0


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
    folder = changed_record(make(tmp_path), **{"attend(local(w=64, sinks=1))": cost})
    with pytest.raises(ProbeError, match=said):
        costs(folder)


@pytest.mark.slow
def test_without_costs_nothing_is_said_of_keys(tmp_path):
    one = found(changed_record(make(tmp_path), **{name: {} for name in DELTAS}), "1%")
    assert "nan" not in text(one)
    assert "keys per query" not in one.sentence
    assert "loses less than 1 % of perplexity (attend(local(w=512" in one.sentence
    assert one.charts == []


@pytest.mark.slow
def test_tolerances_that_differ_by_target_are_not_answered(folder):
    one = found(folder, "0.02 bpb")
    assert "bpb" not in text(one)
    assert one.sentence == "Patterns of attention, and what they cost."


@pytest.mark.slow
def test_a_pattern_that_hides_nothing_from_any_target_is_no_answer(tmp_path):
    """It first hides something behind the last target: nothing is lost and nothing is spared."""
    name = "attend(local(w=512, sinks=1))"
    late = {"keys": 9.0, "full": 9.0, "kv_share": 0.9, "flops_share": 0.9, "first": 10**6}
    folder = changed_record(make(tmp_path), **{name: late})
    table = costs(folder)
    assert table.loc[name, "idle"]
    assert not table.loc[name, "frontier"]
    assert cheapest(table.reset_index(), parse_tolerance("1%")) is None
    assert left_out(folder) == 0


@pytest.mark.slow
def test_a_record_that_says_nothing_of_a_cost(tmp_path):
    """Null in its place, or in that of one number: the loss is told without it."""
    name = "attend(local(w=64, sinks=1))"
    for recorded in (None, {"keys": None, "kv_share": 0.1}):
        folder = make(tmp_path / str(recorded is None))
        row = costs(changed_record(folder, **{name: recorded})).loc[name]
        assert np.isnan(row["keys"])
        assert np.isfinite(row["delta"])
        assert "local(w=64, sinks=1)" in text(found(folder))


@pytest.mark.slow
def test_full_attention_is_never_beaten_by_what_keeps_as_much(tmp_path):
    """A pattern alone in its run that holds the whole cache and loses is not on the frontier."""
    name = "attend(blocks(size=512, sinks=1))"
    whole = {"keys": 9.0, "full": 9.0, "kv_share": 1.0, "flops_share": 0.5, "first": 0}
    table = costs(changed_record(make(tmp_path), **{name: whole}))
    assert not table.loc[name, "frontier"]


@pytest.mark.slow
def test_what_no_pattern_reaches_is_told_at_every_tolerance(folder):
    """With what the best of them loses."""
    one = found(folder, "0.01%, 0.02%")
    assert one.more == []
    assert "less than 0.01 % or 0.02 % of perplexity; the smallest delta is that of" in one.sentence
    assert "local(w=512, sinks=1)" in one.sentence


@pytest.mark.slow
def test_names_are_escaped_in_sentences(tmp_path):
    """What a terminal would obey in a model's name is shown."""
    folder = make(tmp_path)
    record = json.loads((folder / "run.json").read_text())
    record["model"]["name"] = "\x1b[31mevil\u202e"
    (folder / "run.json").write_text(json.dumps(record))
    one = found(folder)
    assert one.sentence.startswith("\\x1b[31mevil\\u202e on made-up")
    assert not {"\x1b", "\u202e"} & set(text(one))
