"""Intervals of conditions whose documents share far texts: they cover the choice of the texts."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from open_runs import opened
from scipy.special import stdtrit
from simulated import Simulation, write_run

from probe.analysis.bootstrap import (
    bootstrap,
    by_text,
    pointwise_band,
    resample_weights,
    standard_error,
)
from probe.analysis.effective import effective_context
from probe.analysis.fit import draws_in_words, fit_curve, texts_error
from probe.analysis.sums import Sums
from probe.perturbations.shared_texts import text_numbers
from probe.results.tolerance import parse_tolerance

NAME = "replace(source='document', shared=3)"


def planted(documents: int, texts: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Means of documents whose texts have effects of their own, about a truth of 0."""
    own = rng.normal(size=texts)[np.arange(documents) % texts]
    values: np.ndarray = rng.normal(size=documents) + spread * own
    return values


@pytest.mark.parametrize("documents", [20, 50])
@pytest.mark.parametrize("texts", [4, 8])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_coverage(share: float, texts: int, documents: int) -> None:
    """95 % intervals hold the truth whatever share of the variance the texts cause."""
    rng, runs = np.random.default_rng(texts), 400
    spread = np.sqrt(share / (1 - share) * texts / documents)
    weights = resample_weights(documents, 1500, 0)
    numbers, ones = np.arange(documents) % texts, np.ones((documents, runs))
    values = np.stack([planted(documents, texts, spread, rng) for _ in range(runs)], axis=1)
    found = bootstrap(values, ones, weights, 0.95, numbers)
    low, high = pointwise_band(found, 0.95)
    assert 0.92 <= ((low <= 0) & (high >= 0)).mean() <= 0.98
    low, high = pointwise_band(bootstrap(values, ones, weights, 0.95), 0.95)
    alone = ((low <= 0) & (high >= 0)).mean()
    assert share < 0.9 or alone < 0.85  # what documents alone would have said


@pytest.mark.slow
def test_the_interval_is_that_of_as_many_units() -> None:
    """Documents of one text are a unit: t-limits of the means of texts, as documents have them."""
    rng, texts = np.random.default_rng(3), np.arange(24) % 6
    values, ones = planted(24, 6, 1.0, rng)[:, None], np.ones((24, 1))
    means = by_text(values, texts)[:, 0] / 4
    found = bootstrap(values, ones, resample_weights(24, 40_000, 0), 0.95, texts)
    assert (found.documents, found.texts, found.units) == (24, 6, 6)
    assert found.mean[0] == pytest.approx(means.mean())
    error = means.std(ddof=1) / np.sqrt(6)
    assert found.standard_error[0] == pytest.approx(error)
    low, high = pointwise_band(found, 0.95)
    half = stdtrit(5, 0.975) * error
    assert (high[0] - low[0]) / 2 == pytest.approx(half, rel=0.03)


def test_a_text_of_its_own_is_a_document() -> None:
    """With as many texts as documents nothing changes but the lumps of few draws."""
    rng = np.random.default_rng(4)
    sums, targets = rng.normal(size=(30, 5)), rng.integers(1, 9, size=(30, 5)).astype(float)
    weights = resample_weights(30, 5000, 0)
    plain = bootstrap(sums, targets, weights, 0.95)
    found = bootstrap(sums, targets, weights, 0.95, np.arange(30))
    assert found.standard_error == pytest.approx(plain.standard_error)
    assert found.units == plain.units == 30
    assert found.draws.std(axis=0) == pytest.approx(plain.draws.std(axis=0), rel=0.1)


def test_bins_without_targets_are_no_numbers() -> None:
    """A bin that no document has, and a text that no target has, are no crash and no warning."""
    targets = np.array([[4.0, 0], [4, 0], [0, 0], [4, 0]])
    texts = np.array([0, 1, 2, 0])
    found = bootstrap(targets * 0.5, targets, resample_weights(4, 50, 0), 0.95, texts)
    assert found.units == 2
    assert np.isnan(found.mean[1])
    assert np.isnan(found.draws[:, 1]).all()
    assert found.draws[:, 0] == pytest.approx(0.5)


def test_an_effective_context_is_tested_between_texts() -> None:
    """Where texts differ and documents do not, its limits are those of so few units."""
    lower = np.array([0, 1, 2, 4, 8, 16, 32, 64])
    rng, texts = np.random.default_rng(0), np.arange(40) % 4
    effect = rng.normal(size=4)[texts][:, None]
    delta = 1 / (1 + lower) + 0.05 * effect + 0.001 * rng.normal(size=(40, 8))
    shared = Sums(lower, np.append(lower[1:], 128), delta * 100, np.full((40, 8), 100.0), texts)
    weights = resample_weights(40, 500, 0)
    answers = [
        effective_context(fit_curve("x", sums, weights, 0.95), parse_tolerance("10%"), floor=None)
        for sums in (shared, replace(shared, texts=None))
    ]
    assert answers[0].documents == answers[1].documents == 40
    assert answers[0].kind != "unresolved"
    assert (answers[0].lower, answers[1].lower) == (4, 8)


@pytest.mark.slow
def test_a_run_says_what_the_texts_cause(tmp_path: Path) -> None:
    """An open run reads the texts off the pool; the curve and a line below the answer have them."""
    folder = write_run(
        tmp_path / "run", Simulation({NAME: lambda distance: 0.5 / (1 + distance)}, documents=9)
    )
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["data"]["pool"] = [one["id"] for one in record["data"]["documents"]]
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    run = opened(folder)
    texts = run.texts(NAME)
    assert texts is not None
    assert texts.tolist() == text_numbers(run.documents, record["data"]["pool"], 3).tolist()
    assert run.texts("truncate") is None
    curve = run.fitted[NAME]
    assert curve.resampled.units == 3
    rows = run.curve[(run.curve["condition"] == NAME) & ~run.curve["grey"]]
    error = standard_error(by_text(curve.sums.sums, texts), by_text(curve.sums.targets, texts))
    assert rows["standard_error"].to_numpy() == pytest.approx(error)
    assert rows["draws_error"].to_numpy() == pytest.approx(texts_error(curve))
    (line,) = draws_in_words(run.curve)
    assert line.startswith(f"{NAME}: in the median bin the choice of 3 texts causes ")
    assert line.endswith("documents of one text are a unit of its interval")
