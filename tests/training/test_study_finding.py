"""The numbers of a study against its score rows, and what is said of them."""

import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm, t

from probe.analysis.bootstrap import resample_weights
from probe.findings.key_tokens import KeyRule
from probe.training import study_arms
from probe.training.study import Trained
from probe.training.study_arms import Quantity, arms_of
from probe.training.study_finding import finding
from probe.training.study_run import models, run_folder, train


@pytest.mark.slow
def test_the_numbers_are_those_of_the_rows(done):
    """Means and differences against the score rows, added up one by one."""
    study, folder = done
    arms = arms_of(study, folder)
    every = {}
    for model in models(study):
        rows = pq.read_table(run_folder(folder, "far", model) / "scores").to_pandas()
        rows = rows.astype({"document": str, "condition": str})
        intact = rows[rows["condition"] == "intact"]
        keys = ["document", "window", "position"]
        whole = intact[[*keys, "nll"]].rename(columns={"nll": "whole"})
        cut = rows[rows["condition"] == "truncate"].merge(whole, on=keys)
        cut["distance"] = cut["position"] - cut["boundary"]
        far = cut[cut["distance"] >= 8]
        far = far[far["distance"] <= far["boundary"]]  # else the far text is shorter: grey
        delta = (far["nll"] - far["whole"]).mean()
        every[model] = intact["nll"].mean(), delta
    for arm in study.arms:
        intact, delta = np.mean([every[Trained(arm, seed)] for seed in study.seeds], axis=0)
        row = arms.row("intact loss", arm)
        assert row["value"] == pytest.approx(intact, abs=1e-6)
        assert row["seed_low"] == pytest.approx(min(every[Trained(arm, s)][0] for s in (0, 1)))
        octaves = arms.table[(arms.table["quantity"] == "delta") & (arms.table["arm"] == arm)]
        assert octaves.iloc[-1]["distance_from"] == 8
        assert octaves.iloc[-1]["value"] == pytest.approx(delta, abs=1e-6)
        if arm != "plain":
            first = np.mean([every[Trained("plain", seed)][0] for seed in study.seeds])
            assert row["difference"] == pytest.approx(intact - first, abs=1e-6)
            seeds = [every[Trained(arm, s)][0] - every[Trained("plain", s)][0] for s in (0, 1)]
            assert row["difference_seed_low"] == pytest.approx(min(seeds), abs=1e-6)
            assert row["difference_low"] < row["difference"] < row["difference_high"]
    table = finding(arms).tables[0]
    assert [row[0] for row in table.rows] == list(study.arms)


@pytest.mark.slow
def test_an_arm_is_compared_with_those_that_it_names(done):
    """Each difference is that of the two arms' own losses, in the table and in words."""
    study, folder = done
    named = study.arms["longce"].model_copy(update={"against": ["half", "plain"]})
    arms = arms_of(study.model_copy(update={"arms": {**study.arms, "longce": named}}), folder)
    assert arms.others("longce") == ["half", "plain"]
    assert arms.others("plain") == []
    own = arms.row("intact loss", "longce")
    assert own["against"] == "half"
    for other in ("half", "plain"):
        row = arms.row("intact loss", "longce", against=other)
        assert row["value"] == own["value"]
        assert row["difference"] == own["value"] - arms.row("intact loss", other)["value"]
    told = finding(arms)
    words = [told.sentence, *told.more]
    assert [line.partition(":")[0] for line in words][:2] == [
        "longce against half",
        "longce against plain",
    ]
    level, apart = told.tables[:2]
    assert [row[0] for row in level.rows] == list(study.arms)
    names = [row[0] for row in apart.rows]
    assert names[names.index("longce − half") + 1] == "longce − plain"
    assert not [name for name in names if name.startswith("plain")]
    plain = arms_of(study, folder).row("intact loss", "longce")
    same = arms.row("intact loss", "longce", against="plain")
    pd.testing.assert_series_equal(plain, same, check_names=False)


@pytest.mark.slow
def test_key_tokens_are_those_of_the_first_arm(done, monkeypatch):
    """LongPPL of every arm is of the same tokens; a model this small has none by the usual rule."""
    study, folder = done
    monkeypatch.setattr(study_arms, "KeyRule", lambda: KeyRule(lsd=0.02, lcl=-3.7))
    rows = pq.read_table(run_folder(folder, "longppl", Trained("plain", 0)) / "scores").to_pandas()
    wide = rows.pivot_table(
        index=["document", "position"], columns="condition", values="nll", observed=True
    )
    keys = wide[(wide["truncate"] - wide["intact"] > 0.02) & (wide["intact"] < 3.7)].index
    assert 0 < len(keys) < len(wide) / 2
    arms = arms_of(study, folder)
    for arm in study.arms:
        losses = []
        for seed in study.seeds:
            own = pq.read_table(run_folder(folder, "longppl", Trained(arm, seed)) / "scores")
            frame = own.to_pandas()
            frame = frame[frame["condition"] == "intact"].set_index(["document", "position"])
            losses.append(frame.loc[keys, "nll"].mean())
        row = arms.row("key-token loss", arm)
        assert row["value"] == pytest.approx(np.mean(losses), abs=1e-6)
        assert row["seed_low"] == pytest.approx(min(losses), abs=1e-6)
    (caption, _) = [t.caption for t in finding(arms).tables if t.caption.startswith("Key-token")]
    assert "keys chosen by plain-0, which favours plain-0" in caption


@pytest.mark.slow
def test_intervals_are_those_of_documents_drawn_again(done):
    """Low, high and detectable of the far loss, document by document, by numpy."""
    study, folder = done
    arms = arms_of(study, folder)
    record = json.loads((run_folder(folder, "far", Trained("plain", 0)) / "run.json").read_text())
    documents = sorted(one["id"] for one in record["data"]["documents"])
    rng, n = np.random.default_rng(record["config"]["seed"]), len(documents)
    draws = [rng.integers(n, size=n) for _ in range(2000)]
    sums = {}
    for model in models(study):
        rows = pq.read_table(run_folder(folder, "far", model) / "scores").to_pandas()
        rows = rows[rows["condition"] == "intact"].astype({"document": str})
        each = (
            rows.astype({"nll": float})
            .groupby("document")["nll"]
            .agg(["sum", "count"])
            .loc[documents]
        )
        sums[model] = each.to_numpy(dtype=np.float64)
    wide = t.ppf(0.975, n - 1) / norm.ppf(0.975) * math.sqrt(n / (n - 1))
    means = {}
    for arm in study.arms:
        own = sum(sums[Trained(arm, seed)] for seed in study.seeds)
        again = np.array([own[drawn].sum(0) for drawn in draws])
        mean = own[:, 0].sum() / own[:, 1].sum()
        means[arm] = mean + wide * (again[:, 0] / again[:, 1] - mean)
        row = arms.row("intact loss", arm)
        assert [row["low"], row["high"]] == pytest.approx(np.quantile(means[arm], [0.025, 0.975]))
        if arm == "plain":
            continue
        apart = means[arm] - means["plain"]
        limits = [row["difference_low"], row["difference_high"]]
        assert limits == pytest.approx(np.quantile(apart, [0.025, 0.975]), abs=1e-9)
        losses = {model: own[:, 0].sum() / own[:, 1].sum() for model, own in sums.items()}
        pairs = [losses[Trained(arm, s)] - losses[Trained("plain", s)] for s in study.seeds]
        of_documents = (apart.std() / wide * math.sqrt(n / (n - 1))) ** 2
        of_seeds = np.var(pairs, ddof=1) / len(pairs)
        error = math.sqrt(of_documents + of_seeds)
        freedom = error**4 / (of_documents**2 / (n - 1) + of_seeds**2 / (len(pairs) - 1))
        low = row["difference"] - t.ppf(0.975, freedom) * error
        assert row["difference_both_low"] == pytest.approx(low, rel=1e-4)
        factor = t.ppf(0.975, freedom) + t.ppf(0.8, freedom)
        assert row["detectable"] == pytest.approx(factor * error, rel=1e-4)


def test_a_bin_that_few_documents_have_leaves_the_others_as_they_are():
    """Resamples without its one document say nothing of that bin, and all of the others."""
    rng = np.random.default_rng(0)
    targets = np.ones((6, 4))
    targets[1:, 0] = 0
    models_ = [Trained("plain", 0), Trained("other", 0)]
    sums = {one: rng.normal(size=(6, 4)) * targets for one in models_}
    lower = np.array([0, 2, 4, 8])
    study = SimpleNamespace(against=lambda arm: [] if arm == "plain" else ["plain"])
    weights = resample_weights(6, 500, 0)

    def rows(bins):
        given = {one: values[:, bins] for one, values in sums.items()}
        counts = dict.fromkeys(models_, targets[:, bins])
        quantity = Quantity("m", "delta", lower[bins], lower[bins] * 2, given, counts)
        found = study_arms._rows(quantity, study, weights, 0.95)
        return found[(found["quantity"] == "delta") & (found["distance_from"] >= 2)]

    every, without = rows([0, 1, 2, 3]), rows([1, 2, 3])
    pd.testing.assert_frame_equal(every.reset_index(drop=True), without.reset_index(drop=True))


@pytest.mark.slow
def test_two_measures_have_a_table_each(done, tmp_path):
    """The second is measured later; the first stays as it is, though the folder has moved."""
    study, folder = done
    shutil.copytree(folder.parent, tmp_path / "results")
    shorter = {**study.measures["far"], "protocol": {"kind": "sweep", "reach": 8}}
    arms = {name: study.arms[name] for name in ("plain", "longce")}
    measures = {"far": study.measures["far"], "near": shorter}
    both = study.model_copy(update={"measures": measures, "arms": arms})
    path = train(both, tmp_path / "results")
    captions = [table.caption for table in finding(arms_of(both, path)).tables]
    assert [caption for caption in captions if caption.startswith("Delta by")] == [
        f"Delta by octave of distance (tokens), nats per token; measure {name}" for name in measures
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "both", "seeds", "words"),
    [
        ((math.nan, math.nan), (-1, 1), [0, 1, 2], "too few documents for an interval"),
        ((-0.1, 0.3), (-1, 1), [0, 1, 2], "no clear change"),
        ((0.05, 0.3), (math.nan, math.nan), [0], "one seed, which others may contradict"),
        ((0.05, 0.3), (-0.1, 0.4), [0, 1, 2], "other seeds may contradict (of one sign in these)"),
        ((0.05, 0.3), (0.01, 0.4), [0, 1, 2], "beyond what documents and seeds vary"),
    ],
)
def test_a_sentence_says_no_more_than_the_numbers(done, limits, both, seeds, words):
    study, folder = done
    arms = arms_of(study, folder)
    row = {"difference": 0.1, "difference_seed_low": 0.05, "difference_seed_high": 0.2}
    row |= {"difference_low": limits[0], "difference_high": limits[1]}
    row |= {"difference_both_low": both[0], "difference_both_high": both[1]}
    table = arms.table.assign(**row)
    known = replace(arms, study=study.model_copy(update={"seeds": seeds}), table=table)
    assert words in " ".join(finding(known).sentence.split())


@pytest.mark.slow
def test_what_a_measure_does_not_give_is_said(done, tmp_path):
    """No key tokens; distances with less far than near text, alone or behind others."""
    study, folder = done
    shutil.copytree(folder.parent, tmp_path / "results")
    arms = {name: study.arms[name] for name in ("plain", "longce")}
    grid = {"kind": "grid", "targets": {"count": 4, "end_offset": 0}}
    measures = {
        name: {"windows": {"length": 47}, "protocol": {**grid, "distances": distances}}
        | {"conditions": ["truncate"]}
        for name, distances in (("some", [8, 32]), ("none", [32]))
    }
    measures["longppl"] = study.measures["longppl"]
    given = study.model_copy(update={"measures": measures, "arms": arms, "seeds": [0]})
    found = arms_of(given, train(given, tmp_path / "results"))
    excluded = "distances from 32 on have targets with less far than near text"
    for words in (f"some: {excluded}", f"none: {excluded}", "longppl: plain-0 has no key tokens"):
        assert [line for line in found.caveats if line.startswith(words)], words
    assert found.measures("far delta") == ["some"]
    assert found.measures("intact loss") == list(measures)
    row = found.row("far delta", "longce")
    assert (row["distance_from"], row["distance_to"]) == (8, 12), "as far as targets are"
    (octaves,) = [table for table in finding(found).tables if table.caption.startswith("Delta")]
    assert octaves.headers == ["arm", "8–11"]
