"""Prediction-powered sums, against the formula in loops, simulations and a plain regression."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adjusted_by_loops import adjusted_by_loops
from hypothesis import given, settings
from hypothesis import strategies as st
from open_runs import opened
from regressed_by_loops import centred_of
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    model_folders,
    no_network,
    score,
    text_folder,
)

from probe.analysis import scan
from probe.analysis.bins import bin_edges
from probe.analysis.predicted import FEWEST, Prediction, adjusted
from probe.analysis.sums import Sums, to_sums

EDGES = bin_edges(40, bins_per_octave=2)
LOWER, UPPER = EDGES[:-1], EDGES[1:]
BINS = len(LOWER)
RUNS = 600


def sums_of(values, targets=None):
    """Sums of some documents, shape (documents, bins), in the first bins."""
    values = np.asarray(values, dtype=float)
    targets = np.full(values.shape, 10.0) if targets is None else np.asarray(targets, dtype=float)
    size = values.shape[1]
    return Sums(LOWER[:size], UPPER[:size], values, targets)


def drawn(documents, seed, *, known=1.0, unknown=1.0, bins=BINS):
    """Sums whose documents differ by what is predicted and by what is not; and the prediction."""
    rng = np.random.default_rng(seed)
    moved = known * rng.normal(size=(documents, 1)) + 0.1 * rng.normal(size=(documents, bins))
    rest = unknown * rng.normal(size=(documents, bins))
    return sums_of(5 + moved + rest), moved


def errors(sums):
    """Standard error of the mean of each bin, as a linearised bootstrap of documents has it."""
    total = sums.targets.sum(axis=0)
    left = sums.sums - sums.sums.sum(axis=0) / total * sums.targets
    return np.sqrt((left**2).sum(axis=0)) / total


def means(sums):
    return sums.sums.sum(axis=0) / sums.targets.sum(axis=0)


@pytest.mark.parametrize("documents", [FEWEST, 7, 30])
@pytest.mark.parametrize("times", [1.5, 10])
@pytest.mark.parametrize("known", [0.0, 0.5, 2.0])
def test_the_sums_are_those_of_the_formula_in_loops(documents, times, known):
    """The mean, and what each document leaves of it by a slope that is found without it."""
    sums, centred = drawn(documents, documents, known=known)
    found = adjusted(sums, centred, int(times * documents))
    expected = adjusted_by_loops(sums, centred, int(times * documents))
    np.testing.assert_allclose(found.sums, expected, atol=1e-9)
    np.testing.assert_array_equal(found.targets, sums.targets)


def test_it_is_unchanged_where_nothing_can_be_learnt():
    """As many documents as are scored; too few; nothing predicted; the same of each document."""
    sums, centred = drawn(12, 0)
    assert adjusted(sums, centred, 12) is sums
    few = sums_of(sums.sums[: FEWEST - 1])
    assert adjusted(few, centred[: FEWEST - 1], 1000) is few
    for nothing in (np.zeros_like(centred), np.full_like(centred, 0.3)):
        found = adjusted(sums, nothing, 1000)
        np.testing.assert_allclose(found.sums, sums.sums, atol=1e-12)


def test_a_prediction_that_is_wrong_way_round_is_not_used():
    sums, centred = drawn(12, 1, known=2.0)
    found = adjusted(sums, -centred, 1000)
    np.testing.assert_allclose(found.sums, sums.sums, atol=1e-12)


def test_the_rounding_of_a_constant_is_no_difference_between_documents():
    """Documents of many and of few targets, and the same predicted of each target."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        documents = int(rng.integers(FEWEST, 30))
        targets = rng.integers(1, 40, size=(documents, 3)).astype(float)
        sums = sums_of(rng.normal(size=targets.shape) * targets, targets)
        found = adjusted(sums, 0.3 * targets, 1000)
        np.testing.assert_allclose(found.sums, sums.sums, atol=1e-12)


def test_documents_and_bins_without_targets_stay_empty():
    """They count for nothing: neither as documents, nor in the mean of the others."""
    sums, centred = drawn(12, 2)
    empty = np.zeros((3, BINS))
    more = Sums(LOWER, UPPER, np.vstack([sums.sums, empty]), np.vstack([sums.targets, empty]))
    found = adjusted(more, np.vstack([centred, empty]), 100)
    np.testing.assert_allclose(found.sums[:12], adjusted(sums, centred, 100).sums, rtol=1e-12)
    np.testing.assert_array_equal(found.sums[12:], 0)
    assert adjusted(more, np.vstack([centred, empty]), 12) is more
    hollow = Sums(LOWER, UPPER, sums.sums.copy(), sums.targets.copy())
    hollow.sums[:, 3] = hollow.targets[:, 3] = 0
    centred[:, 3] = 0
    found = adjusted(hollow, centred, 100)
    np.testing.assert_array_equal(found.sums[:, 3], 0)
    assert np.isfinite(found.sums).all()


@settings(max_examples=50, deadline=None)
@given(data=st.data(), documents=st.integers(1, 9))
def test_any_numbers_give_finite_sums_with_the_mean_moved_by_a_slope(data, documents):
    """Documents of any number of targets, none among them: what has none gets none."""
    shape = (documents, 4)
    whole = st.lists(st.integers(0, 5), min_size=4 * documents, max_size=4 * documents)
    targets = np.array(data.draw(whole), dtype=float).reshape(shape)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values, centred = (rng.normal(size=shape) * (targets > 0) for _ in range(2))
    sums = sums_of(values, targets)
    found = adjusted(sums, centred, 50)
    assert np.isfinite(found.sums).all()
    np.testing.assert_allclose(found.sums[targets == 0], 0, atol=1e-12)


def worlds(documents, population, repeats, known, unknown, biased=0.5):
    """Simulated runs out of populations: error of the mean and its standard error, both ways.

    The prediction is off by a factor and by a constant of all documents, which changes nothing.
    """
    found = []
    for seed in range(repeats):
        rng = np.random.default_rng([documents, population, seed])
        knew = known * rng.normal(size=population)
        delta = 1 + knew + unknown * rng.normal(size=population)
        predicted = biased * knew + 3
        scored = slice(documents)
        sums = sums_of(10 * delta[scored, None])
        centred = 10 * (predicted[scored] - predicted.mean())[:, None]
        ways = (sums, adjusted(sums, centred, population))
        found.append([(means(one)[0] - 1, errors(one)[0]) for one in ways])
    return np.array(found).transpose(1, 2, 0)


@pytest.mark.parametrize(("known", "documents"), [(1.0, 20), (2.0, 10)])
def test_the_mean_is_unbiased_and_its_error_is_what_is_left(known, documents):
    """Over many simulated runs: no bias, and a variance that falls toward r + (1 − r) n/N.

    r is the share of the variance between documents that the prediction does not know.
    """
    population = 10 * documents
    plain, found = worlds(documents, population, RUNS, known, 1.0)
    within = found[0].std() / np.sqrt(RUNS)
    assert abs(found[0].mean()) < 3.5 * within
    unknown = 1 / (1 + known**2)
    share = unknown + (1 - unknown) * documents / population
    narrowed = found[0].var() / plain[0].var()
    # A slope of few documents costs a little of it.
    assert share * 0.9 < narrowed < share * (1 + 4 / documents) + 0.02
    assert narrowed < 0.9
    # The error that is said is the one that is made: not below it by more than what n gives away.
    said = np.sqrt((found[1] ** 2).mean()) / found[0].std()
    plainly = np.sqrt((plain[1] ** 2).mean()) / plain[0].std()
    assert 0.97 * plainly < said < 1.15 * plainly


def test_of_a_prediction_that_is_noise_little_is_used():
    """λ is shrunk: the mean is no less sure than that of the scored documents, but for a trifle."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(RUNS):
        sums, noise = sums_of(5 + rng.normal(size=(20, 1))), rng.normal(size=(20, 1))
        found.append([means(one)[0] for one in (sums, adjusted(sums, noise, 200))])
    before, after = np.array(found).std(axis=0)
    assert after < 1.04 * before


def inside_by_loops(prediction, condition, lower, upper):
    found = np.zeros((prediction.documents, len(lower)))
    for at, (first, last) in enumerate(zip(lower, upper, strict=True)):
        for b in range(len(prediction.edges) - 1):
            if first <= prediction.edges[b] and prediction.edges[b + 1] <= last:
                found[:, at] += prediction.centred[condition][:, b]
    return found


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_sums_inside_other_bins_are_those_of_the_bins_that_lie_in_them(data):
    """Octaves, other runs' bins, none at all; bins that lie across an edge are in neither."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    prediction = Prediction(3, 9, EDGES, {"truncate": rng.normal(size=(3, BINS))})
    ends = sorted(data.draw(st.sets(st.integers(0, 50), min_size=2, max_size=6)))
    lower, upper = np.array(ends[:-1]), np.array(ends[1:])
    found = prediction.inside("truncate", lower, upper)
    expected = inside_by_loops(prediction, "truncate", lower, upper)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert not prediction.inside("shuffle", lower, upper).any()


def test_what_one_condition_does_beyond_another_is_predicted_by_the_difference():
    sums, centred = drawn(12, 3, known=2.0)
    prediction = Prediction(12, 100, EDGES, {"a": 1.5 * centred, "b": 0.5 * centred})
    found = prediction.adjust(sums, "a", "b")
    np.testing.assert_allclose(found.sums, adjusted(sums, centred, 100).sums, rtol=1e-12)
    alone = prediction.adjust(sums, "a", "intact")
    np.testing.assert_allclose(alone.sums, adjusted(sums, 1.5 * centred, 100).sums, rtol=1e-12)


CHANGES = {
    "sweep": {"windows__per_document": 2},
    "drawn twice": {"repeats": 2, "conditions": ["truncate", "shuffle"]},
    "grid": {
        "protocol": {
            "kind": "grid",
            "distances": [1, 2, 8, 20],
            "targets": {"count": 3, "end_offset": 4},
        }
    },
}


@pytest.fixture(scope="module", name="folders")
def run_folders(base, tmp_path_factory):
    """Five documents scored, three more known by their token ids, three ways."""
    root = tmp_path_factory.mktemp("predicted")
    return {
        name: score(base, root / str(at), data__max_documents=5, **changes)
        for at, (name, changes) in enumerate(CHANGES.items())
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_what_is_predicted_of_a_run_is_a_regression_of_its_rows(folders, name):
    """Every document's by the others; the mean that of all documents, those not scored too."""
    run = opened(folders[name])
    assert (run.prediction.documents, run.prediction.population) == (5, 8)
    drawn_far = [one for one in run.conditions if one != "noise"]
    assert sorted(run.prediction.centred) == sorted(drawn_far)
    for condition in ("truncate", "shuffle"):
        expected = centred_of(folders[name], condition, run.edges)
        found = dict(zip(run.documents, run.prediction.centred[condition], strict=True))
        assert found.keys() == expected.keys()
        for document in run.documents:
            np.testing.assert_allclose(found[document], expected[document], rtol=1e-6, atol=1e-9)
        assert any(values.any() for values in expected.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sweep", "drawn twice"])
@pytest.mark.parametrize("size", [7, 100])
def test_it_is_the_same_however_rows_come(folders, name, size, monkeypatch):
    """In blocks that end inside of windows, in threads, draws averaged first."""
    whole = opened(folders[name]).prediction
    monkeypatch.setattr(scan, "BLOCK", size)
    monkeypatch.setattr(scan, "_VECTORS", 1)
    found = opened(folders[name]).prediction
    assert found.population == whole.population
    assert found.centred.keys() == whole.centred.keys()
    for condition, values in whole.centred.items():
        np.testing.assert_allclose(found.centred[condition], values, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_the_curves_of_a_run_are_those_of_its_adjusted_sums(folders):
    """Of every condition but the noise control, and grey rows as they are."""
    run = opened(folders["sweep"])
    for condition, rows in run.plain_sums.groupby("condition"):
        found = run.sums[run.sums["condition"] == condition]
        grey = rows["grey"]
        pd.testing.assert_frame_equal(found[grey], rows[grey])
        plain = to_sums(rows[~grey], run.documents)
        known = run.prediction.centred.get(condition, np.zeros((5, len(run.edges) - 1)))
        known = known[:, np.searchsorted(run.edges, plain.lower)]
        expected = adjusted(plain, known, 8)
        np.testing.assert_allclose(to_sums(found[~grey], run.documents).sums, expected.sums)
        columns = [name for name in rows if name != "delta_sum"]
        pd.testing.assert_frame_equal(found[columns], rows[columns])


@pytest.mark.slow
def test_a_run_that_is_not_to_be_predicted_has_its_own_sums(folders):
    run = opened(folders["sweep"], predict=False)
    assert run.prediction is None
    pd.testing.assert_frame_equal(run.sums, run.plain_sums)


@pytest.mark.slow
def test_a_condition_scored_on_some_windows_only_is_not_predicted_otherwise(folders, tmp_path):
    """Where a window lacks rows, what was predicted of its targets is that of no other window."""
    folder = copied(folders["sweep"], tmp_path)
    for part in sorted(folder.glob("scores/*.parquet"))[:1]:
        table = pq.read_table(part)
        rows = table.to_pandas()
        lacking = (rows["condition"] == "shuffle") & (rows["distance"] == 3)
        pq.write_table(table.filter(pa.array(~lacking)), part)
    run = opened(folder)
    assert "shuffle" not in run.prediction.centred
    assert "truncate" in run.prediction.centred
    assert np.isfinite(run.sums["delta_sum"]).all()


@pytest.mark.slow
def test_rows_of_a_whole_document_may_be_missing(folders, tmp_path):
    """What token ids say of it is known all the same: it is one of the documents beyond."""
    folder = copied(folders["sweep"], tmp_path)
    gone = opened(folder).documents[0]
    for part in folder.glob("scores/*.parquet"):
        table = pq.read_table(part)
        rows = table.to_pandas()
        kept = (rows["condition"] != "shuffle") | (rows["document"] != gone)
        pq.write_table(table.filter(pa.array(kept)), part)
    run = opened(folder)
    assert run.prediction.population == 8
    assert not run.prediction.centred["shuffle"][0].any()
    for document, expected in centred_of(folder, "shuffle", run.edges).items():
        found = run.prediction.centred["shuffle"][run.documents.index(document)]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert run.prediction.centred["truncate"][0].any()
    plain = run.plain_sums.query("condition == 'shuffle' and not grey")
    assert np.isfinite(run.sums["delta_sum"]).all()
    assert gone not in set(plain["document"])


def copied(folder, into):
    return Path(shutil.copytree(folder, into / "run"))


@pytest.mark.slow
def test_documents_of_which_no_window_is_long_enough_are_not_of_the_population(folders, tmp_path):
    """What they would say is not known, so that no interval is narrowed by it."""
    folder = copied(folders["sweep"], tmp_path)
    found = pq.read_table(folder / "population.parquet").to_pylist()
    short = found[0]["document"]
    for row in found:
        if row["document"] == short:
            row["token_ids"] = row["token_ids"][:20]
    pq.write_table(pa.Table.from_pylist(found), folder / "population.parquet")
    assert opened(folder).prediction.population == 7
    for row in found:
        row["token_ids"] = []
    pq.write_table(pa.Table.from_pylist(found), folder / "population.parquet")
    run = opened(folder)
    assert run.prediction.population == 5
    pd.testing.assert_frame_equal(run.sums, run.plain_sums)


@pytest.mark.slow
def test_rows_that_lie_nowhere_in_their_window_are_no_targets(folders, tmp_path):
    """A distance below 0, a target before its boundary: they say nothing, and nothing ends."""
    for at, (column, value) in enumerate([("distance", -5), ("position", 0), ("boundary", 10**6)]):
        folder = copied(folders["sweep"], tmp_path / str(at))
        part = sorted(folder.glob("scores/*.parquet"))[0]
        table = pq.read_table(part)
        rows = table.to_pandas()
        rows.loc[rows.index[rows["condition"] == "truncate"][3], column] = value
        changed = pa.Table.from_pandas(rows, schema=table.schema, preserve_index=False)
        pq.write_table(changed, part)
        assert np.isfinite(opened(folder).sums["delta_sum"]).all()
