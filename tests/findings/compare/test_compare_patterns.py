"""Attention patterns of two runs: a planted difference, a plain oracle, what is left out."""

import duckdb
import numpy as np
import pandas as pd
import pytest
from compare_runs import change_record, compared, printed
from pattern_runs import DELTAS, FIRST, make

from probe.findings.compare.pair import patterns

WIDE = "attend(local(w=512, sinks=1))"


@pytest.fixture(scope="module", name="runs")
def two_runs(tmp_path_factory):
    return tuple(
        make(tmp_path_factory.mktemp(name), extra=extra, seed=seed)
        for name, extra, seed in (("a", 0.0, 0), ("b", 0.05, 1))
    )


def pattern_deltas(folder, condition):
    """Mean delta by document from the first target on that the pattern hides something from."""
    rows = pd.read_parquet(folder / "scores").astype({"condition": str, "document": str})
    starts = pd.read_parquet(folder / "windows.parquet")[["document", "window", "start"]]
    rows = rows.merge(starts.astype({"document": str}))
    rows = rows[rows["condition"] == condition]
    if condition == WIDE:
        rows = rows[rows["position"] - rows["start"] >= FIRST]
    return (rows["nll"].astype(float) - rows["nll_intact"]).groupby(rows["document"])


@pytest.mark.slow
def test_a_planted_difference(runs):
    """Each pattern loses 0.05 nats more in the second run, on the same targets."""
    found = compared(*runs)
    assert found.paired
    table = found.patterns.set_index("condition")
    assert set(table.index) == set(DELTAS)
    for name, row in table.iterrows():
        a, b = (pattern_deltas(folder, name) for folder in runs)
        apart = b.sum() - a.sum()
        assert row["a"] == pytest.approx(a.sum().sum() / a.size().sum(), abs=1e-9)
        assert row["difference"] == pytest.approx(apart.sum() / a.size().sum(), abs=1e-9)
        assert row["low"] < row["difference"] < row["high"]
        assert row["low"] < 0.05 < row["high"]
        assert row["targets"] == a.size().sum()
    assert "Delta of attention patterns, B − A (nats per token)" in printed(found)


@pytest.mark.slow
def test_a_run_differs_from_itself_by_nothing(runs):
    table = compared(runs[0], runs[0]).patterns
    assert len(table) == len(DELTAS)
    assert (table[["difference", "low", "high"]] == 0).all(axis=None)


@pytest.mark.slow
def test_runs_without_common_windows(tmp_path, runs):
    """Other targets of the same documents: each run's own mean, nothing paired."""
    other = make(tmp_path / "other", documents=8, extra=0.05, seed=2)
    rows = pd.read_parquet(other / "windows.parquet")
    rows["token_ids"] = [np.asarray(ids)[::-1] for ids in rows["token_ids"]]
    rows.to_parquet(other / "windows.parquet")
    found = compared(runs[0], other)
    assert not found.paired
    for row in found.patterns.to_dict("records"):
        means = [
            own.sum().sum() / own.size().sum()
            for own in (pattern_deltas(folder, row["condition"]) for folder in (runs[0], other))
        ]
        assert (row["a"], row["b"]) == pytest.approx(tuple(means), abs=1e-9)
        assert row["difference"] == pytest.approx(means[1] - means[0], abs=1e-9)


@pytest.mark.slow
def test_what_only_one_run_has(tmp_path, runs):
    """A pattern of one run, or one that hides nothing, is in no row or left as it is."""
    folder = make(tmp_path / "one")
    for part in (folder / "scores").glob("*.parquet"):
        rows = pd.read_parquet(part).astype({"condition": str})
        rows[rows["condition"] != WIDE].to_parquet(part)
    change_record(folder, attention={})
    table = compared(runs[0], folder).patterns
    assert set(table["condition"]) == set(DELTAS) - {WIDE}


def test_single_heads_are_left_out():
    """They may be hundreds; several heads, or heads beside another pattern, are a pattern."""
    names = [
        "attend(heads(gaussian, layers=[0], heads=[1, 2]))",
        "attend(heads(gaussian, layers=[0], heads=[1]) + local(w=4, sinks=1))",
        "attend(heads(gaussian, layers=[0], heads=[1]) + heads(dense, layers=[1], heads=[0]))",
        "attend(local(w=4, sinks=1))",
    ]
    single = ["attend(heads(gaussian, layers=[0], heads=[1]))"]
    single += ["attend(heads(dilated(block=4, gap=2), layers=[12], heads=[3]))"]
    with duckdb.connect() as connection:
        frame = pd.DataFrame({"condition": [*names, *single, "truncate"], "boundary": -1})
        connection.register("a_scores", frame)
        assert patterns(connection, "a") == sorted(names)
