"""What a prediction is worth, said of simulated runs; what it leaves as it was."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from open_runs import by_id, opened, written
from predicted_runs import POPULATION, SCORED, repeating

from probe.analysis.bins import octave_edges
from probe.analysis.bootstrap import bootstrap, pointwise_band, standard_error
from probe.analysis.looks import Target, look, needed_in_words
from probe.analysis.precision import pilot, with_documents
from probe.analysis.sums import by_octave, to_sums
from probe.findings.compare.comparison import compare
from probe.findings.contrasts import contrasts
from probe.findings.documents import by_document
from probe.findings.prediction import COLUMNS, octaves, plain_context


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return repeating(tmp_path_factory.mktemp("a") / "a")


@pytest.fixture(scope="module")
def run(folder):
    return opened(folder)


@pytest.fixture(scope="module")
def plain(folder):
    return opened(folder, predict=False)


def test_intervals_are_narrower_by_what_is_known_and_so_many_documents_are_they_worth(run):
    rows = run.once(octaves)
    assert [*rows] == [*COLUMNS]
    assert set(rows["condition"]) == {"truncate", "shuffle"}
    np.testing.assert_allclose(
        rows["width"], (rows.high - rows.low) / (rows.plain_high - rows.plain_low)
    )
    np.testing.assert_allclose(rows["worth"], rows["width"] ** -2)
    assert rows["width"].iloc[-1] < 0.8
    assert sorted({*rows["distance_from"]}) == octave_edges(64)[:-1].tolist()


def test_the_plain_numbers_are_those_of_the_run_without_a_prediction(run, plain):
    """Delta and its limits by octave, and the answer."""
    rows = run.once(octaves)
    for condition, own in plain.sums.groupby("condition"):
        if condition == "noise":
            continue
        sums = to_sums(by_octave(own[~own["grey"]], plain.last_edge), plain.documents)
        found = bootstrap(sums.sums, sums.targets, plain.weights, 0.95)
        mine = rows[rows["condition"] == condition]
        np.testing.assert_allclose(mine["plain_delta"], found.mean)
        limits = pointwise_band(found, 0.95)
        np.testing.assert_allclose(mine[["plain_low", "plain_high"]], np.transpose(limits))
    assert plain_context(run).full_text() == plain.headline().full_text()


@pytest.mark.slow
def test_what_is_said_of_it(run):
    """A sentence with both numbers of documents; a table; the plain answer beside the other."""
    found = by_id(run)["prediction"]
    last = run.once(octaves).query("condition == 'truncate'").iloc[-1]
    assert found.sentence == (
        f"{SCORED} documents were scored, and the token ids of {POPULATION} are known: with them"
        f" the interval of truncate at 32–63 tokens is {last.width:.2f} times as wide,"
        f" as {last.worth:.1f} times as many scored documents would make it."
    )
    assert found.headlines == [found.sentence]
    (more,) = found.more
    assert plain_context(run).full_text() in more
    (table,) = found.tables
    assert table.headers[0] == "condition"
    assert len(table.rows) == len(run.once(octaves))


@pytest.mark.slow
def test_what_is_written_of_it(tmp_path):
    """summary.json holds every octave, the documents, and the answer without it."""
    folder = repeating(tmp_path / "run")
    run = written(folder)
    record = json.loads((folder / "summary.json").read_text())["prediction"]
    assert record["population"] == POPULATION
    assert record["plain"] == plain_context(run).full_text()
    frame = pd.DataFrame(record["octaves"])
    pd.testing.assert_frame_equal(frame, run.once(octaves), check_dtype=False, rtol=1e-5)


@pytest.mark.slow
def test_nothing_is_said_without_one(plain, tmp_path):
    assert "prediction" not in by_id(plain)
    alone = opened(repeating(tmp_path / "alone", population=SCORED))
    assert alone.prediction is None
    assert "prediction" not in by_id(alone)


def test_documents_by_themselves_are_plain(run, plain):
    """What one document's mean is moved by says nothing of that document."""
    for mine, other in zip(by_document(run), by_document(plain), strict=True):
        pd.testing.assert_frame_equal(mine, other)


def test_contrasts_are_predicted_as_such(run, plain):
    """Means inside the plain intervals, and narrower intervals; of intact the curve's."""
    mine, other = run.once(contrasts)[0], plain.once(contrasts)[0]
    keys = ["contrast", "scale", "distance_from"]
    both = mine.merge(other, on=keys, suffixes=("", "_plain"))
    assert len(both) == len(mine) == len(other)
    octave = both[both["scale"] == "octave"]
    assert octave["delta"].between(octave["low_plain"], octave["high_plain"]).all()
    width = (octave.high - octave.low) / (octave.high_plain - octave.low_plain)
    assert width[octave["distance_from"] == 32].max() < 0.8
    curve = run.curve.query("condition == 'truncate' and not grey")
    of_bins = mine.query("contrast == 'truncate − intact' and scale == 'bin'")
    np.testing.assert_allclose(of_bins[["delta", "low", "high"]], curve[["delta", "low", "high"]])


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """The same documents, read by a model that is helped twice as much."""
    return repeating(tmp_path_factory.mktemp("b") / "b", worth=2.0)


@pytest.mark.slow
def test_differences_of_runs_are_predicted_as_such(folder, second):
    """Of paired windows: the mean inside the plain interval, an interval that is narrower."""
    found = compare(opened(folder), opened(second)).curve
    plain = compare(opened(folder, predict=False), opened(second, predict=False)).curve
    keys = ["condition", "unit", "distance_from"]
    names = [*keys, "difference", "low", "high"]
    both = found[names].merge(plain[names], on=keys, suffixes=("", "_plain"))
    assert len(both) == len(found) == len(plain)
    tokens = both[both["unit"] == "tokens"]
    inside = tokens["difference"].between(tokens["low_plain"], tokens["high_plain"])
    assert inside.mean() > 0.9
    narrower = (tokens.high - tokens.low) / (tokens.high_plain - tokens.low_plain)
    assert narrower.median() < 0.95
    others = both[both["unit"] != "tokens"]
    np.testing.assert_allclose(others["difference"], others["difference_plain"])


@pytest.mark.slow
def test_a_difference_needs_both_predictions(folder, second):
    """Of a run without one, what the scored documents say."""
    found = compare(opened(folder), opened(second, predict=False)).curve
    plain = compare(opened(folder, predict=False), opened(second, predict=False)).curve
    pd.testing.assert_frame_equal(found, plain)


@pytest.mark.slow
def test_a_run_differs_from_itself_by_nothing(folder):
    found = compare(opened(folder), opened(folder)).curve
    assert (found["difference"] == 0).all()


def test_a_look_sees_the_interval_of_the_report(run, plain):
    """What ends a run once it is narrow is what its report says of it, predicted or not."""
    last = run.once(octaves).query("condition == 'truncate'").iloc[-1]
    target = Target("truncate", 0.01, distances=(32, 63))
    assert look(run, target).half_width == pytest.approx((last.high - last.low) / 2)
    assert look(plain, target).half_width == pytest.approx((last.plain_high - last.plain_low) / 2)


def test_the_more_are_scored_the_less_is_left_to_predict(run, plain):
    """Between what the run has now and what its scored documents alone say: r + (1 − r) n / N."""
    spread = {}
    for scored in (SCORED, 42, POPULATION, 10 * POPULATION):
        sums = by_octave_of(run.sums_with("truncate", scored))
        spread[scored] = standard_error(*sums)[-1] ** 2
    now, alone = (
        standard_error(*by_octave_of(one.fitted["truncate"].sums))[-1] ** 2 for one in (run, plain)
    )
    assert spread[SCORED] == pytest.approx(now)
    assert spread[POPULATION] == spread[10 * POPULATION]
    assert spread[POPULATION] == pytest.approx(alone)
    # 42 is halfway between 12 and 72, λ takes a degree of freedom of each but the last.
    left = [spread[n] * (n - 2) / (n - 1) for n in (SCORED, 42)]
    assert left[1] == pytest.approx((left[0] + alone) / 2, rel=0.05)


def by_octave_of(sums):
    """Sums and targets of the last octave."""
    own = sums.lower >= 32
    return sums.sums[:, own].sum(axis=1)[:, None], sums.targets[:, own].sum(axis=1)[:, None]


def test_what_a_width_needs_is_planned_with_what_will_be_left(run):
    """Documents as many as the population tell nothing of others; a plan knows it."""
    curve = run.fitted["truncate"]
    many = with_documents(curve, POPULATION, 100, 0, run.sums_with("truncate", POPULATION))
    hopeful = with_documents(curve, POPULATION, 100, 0)
    assert (many.resampled.standard_error[-3:] > 1.2 * hopeful.resampled.standard_error[-3:]).all()
    target = Target("truncate", look(run, Target("truncate", 1, distances=(32, 63))).half_width / 2)
    needed = int(needed_in_words(run, replace(target, distances=(32, 63))))
    assert needed > 4 * SCORED  # four times as many would do if as much were left
    assert set(pilot(run, 0.5)["documents"]) == {SCORED}
