"""Suffix identification read from a run: every number against a loop over its rows."""

import json

import numpy as np
import pandas as pd
import pytest
from figures import assert_readable, labels
from scipy.stats import norm, t
from simulated import Simulation, write_run
from tiny_run import scores

from probe import plots
from probe.analysis.compare.pair import connect_pair
from probe.analysis.suffix import COLUMNS, proportion_interval, suffix
from probe.analysis.suffix_answer import answer, sentence
from probe.analysis.summary import summarise
from probe.errors import UsageError
from probe.plots.style import EmptyFigureError
from probe.report.suffix import suffix_section
from probe.results.csv_files import read_csv
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


@pytest.fixture(scope="module", name="folder")
def one_run(tmp_path_factory):
    return write(tmp_path_factory.mktemp("choices") / "run")


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


def test_the_table_is_that_of_a_loop(folder):
    """Accuracy, margin, losses and counts by prefix; the file holds the same."""
    found, expected = suffix(folder), choices(folder)
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
    written = read_csv(folder / "suffix.csv")
    pd.testing.assert_frame_equal(written, found.table, check_dtype=False, rtol=1e-6)


def test_equal_losses_are_a_blind_choice(tmp_path):
    """Where all candidates are equal, each is chosen as likely: accuracy is chance."""
    equal = {name: flat(0) for name in ["truncate", *NAMES]}
    run = write(tmp_path / "run", curves=equal, token_spread=0.0)
    found = suffix(run)
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


def test_few_documents_have_no_interval(tmp_path):
    """Below six documents the value stands alone, and says why."""
    found = suffix(write(tmp_path / "run", documents=5))
    assert found.table[["low", "high", "margin_low", "margin_high"]].isna().all(axis=None)
    assert found.gain is None
    assert "(interval unresolved: 5 documents, at least 6 needed)" in sentence(found)


def test_the_answer_says_it(folder):
    """The longest prefix, its interval, chance, the gain, the table; a name is no escape code."""
    found = suffix(folder)
    last = found.table.iloc[-1]
    text = answer(found)
    share = f"{100 * last['accuracy']:.1f} %"
    assert text.startswith(
        f"tiny-model on made-up picks the gold continuation of 10 tokens among 4 in {share} of "
        f"windows after 128 tokens (95 % interval {100 * last['low']:.1f}–"
        f"{100 * last['high']:.1f} %); chance is 25.0 %. That is +"
    )
    assert "Measured on 27 windows of 9 documents; the other candidates are from elsewhere" in text
    lines = text.split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["prefix", "0", "32", "128"]
    assert text.endswith("below 0 the model prefers another text")


def test_names_are_shown_plainly(tmp_path):
    """What a terminal or a page would obey is escaped."""
    run = write(tmp_path / "run", model=f"\x1b[31m{ATTACK}", data="\x1b[2J")
    assert "\x1b" not in answer(suffix(run))

    class Explained:
        summary = summarise(run, write=False)
        notes = ()

    section = suffix_section(Explained())
    assert section.figures[0].tables[0].rows[-1][0] == "128"
    assert "<script" not in str(section.figures[0].svg)
    assert_readable(plots.accuracy(suffix(run)))


def test_distractors_are_no_losses_of_the_targets(folder):
    """Nothing else that reads the run sees their rows, and no length is read off it."""
    found = summarise(folder, write=False)
    assert set(found.curve["condition"]) == {"truncate"}
    assert set(found.losses.by_condition["condition"]) == {"intact", "truncate"}
    assert found.contexts == ()
    with connect(found.run.path / "windows.parquet", found.run.parts) as connection:
        held = connection.execute("SELECT DISTINCT condition FROM scores").fetchall()
    assert sorted(held) == [("intact",), ("truncate",)]
    with connect_pair(found.run, found.run) as connection:
        held = connection.execute("SELECT DISTINCT condition FROM b_scores").fetchall()
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
    run = write_run(tmp_path / "run", Simulation({"truncate": flat(0.1)}))
    with pytest.raises(UsageError, match="has another protocol; allowed: suffix"):
        suffix(run)

    class Explained:
        summary = summarise(run, write=False)

    assert suffix_section(Explained()) is None


def test_the_figure_shows_accuracy_and_chance(folder, tmp_path):
    """Points in percent over prefixes, the band, a dashed line at chance; several runs in one."""
    found = suffix(folder)
    axes = plots.accuracy(found)
    assert_readable(axes)
    points, chance = axes.lines[0].get_xydata(), axes.lines[1].get_ydata()
    assert points[:, 0].tolist() == list(PREFIXES)
    assert points[:, 1] == pytest.approx(100 * found.table["accuracy"].to_numpy())
    assert list(chance) == [25.0, 25.0]
    assert labels(axes) == ["tiny-model", "chance, 25.0 %"]
    other = suffix(write(tmp_path / "other", name="other", model="two", seed=1))
    axes = plots.accuracy([found, other])
    assert_readable(axes)
    assert labels(axes) == ["simulated: tiny-model", "other: two", "chance, 25.0 %"]
    with pytest.raises(EmptyFigureError):
        plots.accuracy([])
