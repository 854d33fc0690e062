"""The smallest delta that a run's documents would show."""

import numpy as np
import pytest
from made_sums import make_sums
from open_runs import by_id, of_curves, opened
from scipy.stats import ttest_1samp
from simulated import Simulation, write_run

from probe.analysis.bootstrap import resample_weights
from probe.analysis.fit import fit_curve
from probe.analysis.sums import Sums
from probe.findings.minimum_detectable import COLUMNS, detectable
from probe.findings.table import decimals


def curves(sums, name="truncate"):
    weights = resample_weights(len(sums.sums), 50, seed=0)
    return of_curves({name: fit_curve(name, sums, weights, 0.95)})


def test_by_hand():
    """Eight documents: (2.3646 + 0.8960) standard errors of their means."""
    sums = make_sums(lambda d: 0.1 + 0 * d, documents=8, spread=0.5)
    table = detectable(curves(sums))
    means = sums.sums / sums.targets
    error = means.std(axis=0, ddof=1) / np.sqrt(8)
    np.testing.assert_allclose(table["standard_error"], error)
    np.testing.assert_allclose(table["detectable"], (2.364624 + 0.896030) * error, rtol=1e-5)
    assert (table["documents"] == 8).all()
    assert tuple(table.columns) == COLUMNS


def test_it_is_found_four_times_out_of_five():
    """A delta of this size, tested by scipy in 4,000 runs of 12 documents."""
    rng = np.random.default_rng(0)
    lower = np.array([0])
    ones = np.ones((12, 1))
    known = 1 / np.sqrt(12)
    made = detectable(curves(Sums(lower, lower + 1, rng.normal(size=(12, 1)), ones)))
    size = float(made["detectable"].iloc[0] / made["standard_error"].iloc[0]) * known
    found = ttest_1samp(size + rng.normal(size=(4000, 12)), 0, axis=1).pvalue < 0.05
    assert 0.77 < found.mean() < 0.83


def test_documents_are_counted_by_bin():
    """A bin that only one document has says nothing; noise has no row."""
    sums = make_sums(lambda d: 0.1 + 0 * d, documents=8, spread=0.5)
    targets = sums.targets.copy()
    targets[1:, 3] = 0
    table = detectable(curves(Sums(sums.lower, sums.upper, sums.sums * (targets > 0), targets)))
    assert table["documents"].iloc[3] == 1
    assert np.isnan(table["detectable"].iloc[3])
    assert table["detectable"].drop(3).notna().all()
    assert detectable(curves(sums, "noise")).empty


@pytest.mark.parametrize("documents", [1])
def test_one_document(documents):
    """No spread, no limit, no warning."""
    table = detectable(curves(make_sums(lambda d: 0 * d, documents=documents, spread=0.5)))
    assert table["detectable"].isna().all()


@pytest.mark.slow
def test_the_section_holds_the_rows(tmp_path):
    """A line a condition, and the farthest distance in words."""
    curves = {"truncate": lambda d: 0.5 / (1 + d), "shuffle": lambda d: 0.2 / (1 + d)}
    run = opened(write_run(tmp_path / "run", Simulation(curves)))
    section, rows = by_id(run)["detectable"], detectable(run)
    (chart,) = section.charts
    for line in chart.series:
        np.testing.assert_array_equal(
            line.y, rows.loc[rows["condition"] == line.name, "detectable"]
        )
    last = rows[rows["condition"] == "truncate"]["detectable"].iloc[-1]
    assert section.sentence == (
        "Under truncate at 240–255 the minimum detectable effect is"
        f" {decimals(last)} nats per token (80 % power)."
    )
