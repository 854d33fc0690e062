"""Suffix identification read from a run: every number against a loop over its rows."""

import json
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t
from simulated import Simulation, write_run
from tiny_run import scores

from probe.analysis.open_run import open_run
from probe.errors import UsageError
from probe.findings.base import plots, write_files
from probe.findings.chart import EmptyChartError
from probe.findings.positions import losses
from probe.findings.suffix import (
    COLUMNS,
    chart,
    finding,
    plot,
    proportion_interval,
    sentence,
    suffixes,
)
from probe.render.terminal import text
from probe.results.files import read_csv
from probe.results.views import connect

ATTACK = "<script>alert(1)</script> $x$ \x07"
PREFIXES, TOKENS, CANDIDATES = (0, 32, 128), 10, 4
NAMES = [f"distractor(number={number})" for number in range(1, CANDIDATES)]


def flat(height):
    return lambda distance: np.full(len(distance), float(height))


def write(folder, *, curves=None, **changes):
    """A run of protocol suffix, its rows made up: ten targets behind each prefix."""
    made_up = {"truncate": lambda d: -0.4 * np.log1p(d) / 5, **dict.fromkeys(NAMES, flat(0.1))}
    given = {"documents": 9, "windows": 3, "token_spread": 1.0, "noise_spread": None, **changes}
    write_run(folder, Simulation(curves or made_up, distances=PREFIXES, **given))
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record["config"]["protocol"] = {
        "kind": "suffix",
        "prefixes": list(PREFIXES),
        "tokens": TOKENS,
        "candidates": CANDIDATES,
        "at": None,
    }
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.fixture(scope="module", name="run")
def one_run(tmp_path_factory):
    with open_run(write(tmp_path_factory.mktemp("choices") / "run")) as run:
        yield run


@pytest.fixture(name="opened")
def open_runs(tmp_path):
    """A function that writes a run and opens it until the test ends."""
    with ExitStack() as stack:
        yield lambda folder="run", **changes: stack.enter_context(
            open_run(write(tmp_path / folder, **changes))
        )


def choices(folder):
    """The losses of every choice, by a loop over windows and prefixes."""
    found = scores(folder)
    rows = []
    for (document, window, _), own in found[found.boundary >= 0].groupby(
        ["document", "window", "boundary"]
    ):
        means = {name: one.nll.astype(float).mean() for name, one in own.groupby("condition")}
        gold = means.pop("truncate")
        least = min(means.values())
        rows.append((document, window, own.distance.min(), gold, least, float(gold < least)))
    names = ["document", "window", "prefix", "gold", "least", "correct"]
    return pd.DataFrame(rows, columns=names)


@pytest.mark.slow
def test_the_table_is_that_of_a_loop(run):
    """Accuracy, margin, losses and counts by prefix; the file holds the same."""
    found, expected = suffixes(run), choices(run.path)
    assert list(found.table.columns) == list(COLUMNS)
    assert found.table["prefix"].tolist() == list(PREFIXES)
    for row in found.table.to_dict("records"):
        own = expected[expected.prefix == row["prefix"]]
        assert row["accuracy"] == pytest.approx(own.correct.mean())
        assert row["margin"] == pytest.approx((own.least - own.gold).mean(), abs=1e-6)
        assert row["gold"] == pytest.approx(own.gold.mean())
        assert row["best_distractor"] == pytest.approx(own.least.mean())
        assert (row["windows"], row["documents"], row["chance"]) == (27, 9, 0.25)
        assert row["low"] < row["accuracy"] < row["high"]
        assert row["margin_low"] < row["margin"] < row["margin_high"]
    assert 0.2 < found.table["accuracy"].iloc[0] < found.table["accuracy"].iloc[-1]
    first, last = (expected[expected.prefix == p].correct.mean() for p in (0, 128))
    gain, low, high = found.gain
    assert gain == pytest.approx(last - first)
    assert low < gain < high
    assert (found.windows, found.documents, found.chance) == (27, 9, 0.25)
    assert write_files(run, [finding(run)]) == [run.path / "suffix.csv"]
    written = read_csv(run.path / "suffix.csv")
    pd.testing.assert_frame_equal(written, found.table, check_dtype=False, rtol=1e-6)


@pytest.mark.slow
def test_equal_losses_are_a_blind_choice(opened):
    """Where all candidates are equal, each is chosen as likely: accuracy is chance."""
    equal = {name: flat(0) for name in ["truncate", *NAMES]}
    found = suffixes(opened(curves=equal, token_spread=0.0))
    assert found.table["accuracy"].tolist() == [0.25] * 3
    assert found.table["margin"].tolist() == [0.0] * 3


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_interval_is_wilsons(share):
    """One window a document: the shares that z standard errors of theirs away would give this."""
    documents = 20
    hits = (np.arange(documents) < share * documents).astype(float)
    low, high = proportion_interval(hits, np.ones(documents), 0.95)
    z = norm.ppf(0.975)
    trials = (documents - 1) * (z / t.ppf(0.975, documents - 1)) ** 2
    roots = np.roots([1 + z**2 / trials, -(2 * share + z**2 / trials), share**2])
    assert (low, high) == pytest.approx(tuple(sorted(roots)))


def test_windows_that_agree_count_once():
    """Ten windows of a document that all say the same are no more than one."""
    hits = np.array([1.0, 1, 1, 0, 1, 0, 1, 1])
    once = proportion_interval(hits, np.ones(8), 0.95)
    assert proportion_interval(10 * hits, np.full(8, 10.0), 0.95) == pytest.approx(once)
    sure = proportion_interval(np.full(8, 10.0), np.full(8, 10.0), 0.95)
    assert sure[1] == pytest.approx(1)
    assert 0.5 < sure[0] < 0.8


def test_the_interval_covers():
    """Documents that differ, shares near 1: about 95 of 100 intervals hold the true share."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        of_document = rng.beta(9, 1, size=12)
        hits = rng.binomial(4, of_document).astype(float)
        low, high = proportion_interval(hits, np.full(12, 4.0), 0.95)
        covered += low <= 0.9 <= high
    assert covered >= 930


@pytest.mark.slow
def test_few_documents_have_no_interval(opened):
    """Below six documents the value stands alone, and says why."""
    run = opened(documents=5)
    found = suffixes(run)
    assert found.table[["low", "high", "margin_low", "margin_high"]].isna().all(axis=None)
    assert found.gain is None
    assert "(interval unresolved: 5 documents, at least 6 needed)" in sentence(run)


def test_a_run_without_a_choice(opened):
    """Gold continuations alone are no choice: that is said, and nothing is drawn."""
    run = opened(curves={"truncate": flat(0)})
    found = finding(run)
    assert found.sentence == "tiny-model on made-up: no choice among candidates was scored."
    assert (list(found.tables), list(found.charts)) == ([], [])
    assert list(found.files["suffix.csv"]) == list(COLUMNS)
    with pytest.raises(EmptyChartError, match="no choice among candidates to draw"):
        chart([run])


def test_the_answer_says_it(run):
    """The longest prefix, its interval, chance, the gain, the table; a name is no escape code."""
    last = suffixes(run).table.iloc[-1]
    said = text(finding(run))
    share = f"{100 * last['accuracy']:.1f} %"
    assert said.startswith(
        f"tiny-model on made-up: the gold continuation of 10 tokens is chosen among 4 in"
        f" {share} of windows after 128 tokens (95 % interval {100 * last['low']:.1f} to"
        f" {100 * last['high']:.1f} %); chance is 25.0 %; the gain over 0 tokens is +"
    )
    assert "Measured on 27 windows of 9 documents; the other candidates are from elsewhere" in said
    lines = said.split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["prefix", "0", "32", "128"]
    assert [line[:6] for line in lines] == ["prefix", "     0", "    32", "   128"]
    assert said.endswith("below 0 the model prefers another text")


@pytest.mark.slow
def test_names_are_shown_plainly(opened):
    """What a terminal would obey is escaped; the page and the figures escape what a chart holds."""
    run = opened(model=f"\x1b[31m{ATTACK}", data="\x1b[2J")
    found = finding(run)
    assert "\x1b" not in text(found)
    (drawn,) = found.charts
    assert drawn.tables[0].rows[-1][0] == "128"
    assert drawn.tables[0].caption == (
        "Choices among candidates, by the length of the prefix (tokens)"
    )


def test_distractors_are_no_losses_of_the_targets(run):
    """Nothing else that reads the run sees their rows, and no length is read off it."""
    assert set(run.curve["condition"]) == {"truncate"}
    assert set(losses(run).by_condition["condition"]) == {"intact", "truncate"}
    assert run.contexts == ()
    held = run.connection.execute("SELECT DISTINCT condition FROM scores").fetchall()
    assert sorted(held) == [("intact",), ("truncate",)]


@pytest.mark.parametrize("name", ["[drop(rate=0.5), shuffle]", "truncate", "delete", "zebra"])
def test_other_conditions_stay(name, tmp_path):
    """Whatever the order of their names, conditions of other runs are all there."""
    run = write_run(tmp_path / "run", Simulation({name: flat(0.1)}, documents=6, windows=1))
    with connect(run / "windows.parquet", sorted(run.glob("scores/*"))) as connection:
        held = connection.execute("SELECT DISTINCT condition FROM scores").fetchall()
    assert sorted(held) == sorted([("intact",), ("noise",), (name,)])


def test_other_runs_are_refused(tmp_path):
    """A sweep has no candidates."""
    with open_run(write_run(tmp_path / "run", Simulation({"truncate": flat(0.1)}))) as run:
        with pytest.raises(UsageError, match="has another protocol; allowed: suffix"):
            suffixes(run)
        assert finding(run) is None


@pytest.mark.slow
def test_the_chart_shows_accuracy_and_chance(run, opened):
    """Points over prefixes, the band, a dashed line at chance; several runs in one."""
    table = suffixes(run).table
    (drawn,) = finding(run).charts
    assert (drawn.file, drawn.y.percent) == ("curve", True)
    (line,) = drawn.series
    assert line.name == "tiny-model"
    assert line.x.tolist() == list(PREFIXES)
    for column, values in (("accuracy", line.y), ("low", line.low), ("high", line.high)):
        assert values.tolist() == table[column].tolist()
    assert [(rule.at, rule.label, rule.named) for rule in drawn.rules] == [
        (0.25, "chance, 25.0 %", True)
    ]
    assert list(drawn.heading) == ["made-up", "choice among 4 continuations of 10 tokens"]
    ((_, both),) = plot([run, opened("other", name="other", model="two", seed=1)])
    assert [line.name for line in both.series] == ["simulated: tiny-model", "other: two"]
    assert len(both.rules) == 1
    assert both.file == ""
    with pytest.raises(EmptyChartError):
        chart([])


def test_plot_has_no_condition(run):
    """It takes any number of runs; a condition is refused."""
    assert [(one.kind, one.runs) for one in plots() if one.finding == "suffix"] == [("curve", None)]
    with pytest.raises(UsageError, match=r"--condition 'x': protocol suffix has none; allowed"):
        list(plot([run], condition="x"))
