"""The part of an error that the draws cause, against the same sums in pandas."""

import numpy as np
import pandas as pd
import pytest
from open_runs import answer, opened
from simulated import Simulation, write_run

from probe.analysis.fit import draws_in_words

pytestmark = pytest.mark.slow


def make(tmp_path, repeats):
    curves = {"shuffle": lambda distance: 0.5 / (1 + distance)}
    return write_run(tmp_path / "run", Simulation(curves, repeats=repeats, documents=7))


def test_draws_errors_are_those_of_pandas(tmp_path):
    """Between the repeats of one document: sums over a bin, their variance, added up."""
    curve = opened(make(tmp_path, 3)).curve
    rows = pd.read_parquet(tmp_path / "run" / "scores")
    rows = rows[rows["boundary"] >= 0]
    starts = pd.read_parquet(tmp_path / "run" / "windows.parquet")[["document", "window", "start"]]
    rows = rows.merge(starts.astype({"document": str}), on=["document", "window"])
    rows = rows[rows["distance"] <= rows["boundary"] - rows["start"]]
    rows["delta"] = rows["nll"].astype(float) - rows["nll_intact"]
    checked = 0
    for bin_ in curve[~curve["grey"]].to_dict("records"):
        inside = rows["distance"].between(bin_["distance_from"], bin_["distance_to"] - 1)
        own = rows[inside & (rows["condition"] == bin_["condition"])].astype({"document": str})
        sums = own.groupby(["document", "repeat"])["delta"].agg(["sum", "size"]).unstack()
        variance = (sums["sum"].var(axis=1, ddof=1) / 3).sum()
        expected = np.sqrt(variance) / sums["size"].mean(axis=1).sum()
        assert bin_["draws_error"] == pytest.approx(expected, rel=1e-5)
        assert bin_["standard_error"] > 0
        checked += 1
    assert checked > 10


def test_one_draw_tells_nothing_of_the_others(tmp_path):
    curve = opened(make(tmp_path, 1)).curve
    assert curve["draws_error"].isna().all()
    assert curve["standard_error"].notna().all()
    assert draws_in_words(curve) == []


def test_the_answer_tells_the_part_of_the_draws(tmp_path):
    """A reader sees whether more draws or more documents would narrow an interval."""
    run = opened(make(tmp_path, 3))
    known = run.curve.dropna(subset=["draws_error"])
    known = known[known["condition"] == "shuffle"]
    share = (known["draws_error"] / known["standard_error"]) ** 2
    assert 0.01 < share.median() < 1
    (line,) = draws_in_words(run.curve)
    assert f"shuffle: in the median bin the draws cause {share.median() * 100:.0f} % of the" in line
    assert f"- {line}" in answer(run)
