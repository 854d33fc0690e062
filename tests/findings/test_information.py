"""Ablated information: a ratio of two means on common targets, drawn together."""

import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from open_runs import by_id, changed, opened
from simulated import Simulation, rows_of, write_run

from probe.analysis.bins import octave_edges
from probe.analysis.bootstrap import resample_weights, stretch, too_few
from probe.analysis.floor import NoiseFloor
from probe.findings.chart import EmptyChartError
from probe.findings.information import (
    COLUMNS,
    ablated_information,
    chart,
    plot,
    ratio_limits,
)

CURVES = {
    "truncate": lambda d: np.where(d < 64, 0.4, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.1, 0.0),
    "replace(source='document')": lambda d: np.where(d < 64, 0.6, 0.0),
}


def found_in(folder, **parts):
    return ablated_information(changed(opened(folder, resamples=400), **parts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    simulation = Simulation(CURVES, boundaries=(100, 256), reach=256, repeats=2)
    return write_run(tmp_path_factory.mktemp("ablated") / "run", simulation)


@pytest.fixture(scope="module")
def table(folder):
    frame, notes = found_in(folder)
    assert notes == ()
    return frame


def common(folder, condition):
    """Targets of a condition and of truncation by a merge, their repeats averaged."""
    keys = ["document", "window", "position", "boundary", "distance", "start"]
    rows = rows_of(folder).query("boundary >= 0")
    means = rows.groupby([*keys, "condition"], as_index=False)[["nll", "nll_intact"]].mean()
    means["delta"] = means.nll - means.nll_intact
    means = means[means.distance <= means.boundary - means.start]
    return means[means.condition == condition].merge(
        means[means.condition == "truncate"], on=keys, suffixes=("", "_truncate")
    )


@pytest.mark.slow
def test_ratios_are_those_of_a_merge(folder, table):
    """Common targets by a merge, documents drawn one by one, their means stretched and divided."""
    both = common(folder, "shuffle")
    octave = both[(both.distance >= 16) & (both.distance < 32)]
    row = table[(table.condition == "shuffle") & (table.distance_from == 16)].iloc[0]
    assert row.targets == len(octave)
    assert row.ratio == pytest.approx(octave.delta.sum() / octave.delta_truncate.sum())
    sums = octave.groupby("document")[["delta", "delta_truncate"]].agg(["sum", "size"])
    weights = resample_weights(len(sums), 400, seed=0)
    widened = stretch(len(sums), 0.95)
    drawn = []
    for weight in weights:
        pair = []
        for name in ("delta", "delta_truncate"):
            total, size = sums[name]["sum"].to_numpy(), sums[name]["size"].to_numpy()
            mean = total.sum() / size.sum()
            pair.append(mean + widened * ((weight @ total) / (weight @ size) - mean))
        drawn.append(pair[0] / pair[1])
    assert (row.low, row.high) == pytest.approx((sorted(drawn)[9], sorted(drawn)[390]))


@pytest.mark.slow
def test_targets_that_one_condition_lacks_are_left_out(folder, tmp_path):
    """A third of the shuffled targets of one document are gone: so are they from truncation."""
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    part = copy / "scores" / "part-00002.parquet"
    rows = pq.read_table(part)
    names = np.array(rows["condition"].to_pylist())
    kept = (names != "shuffle") | (rows["position"].to_numpy() % 3 > 0)
    pq.write_table(rows.filter(kept), part)
    frame, _ = found_in(copy)
    both = common(copy, "shuffle")
    for row in frame[(frame.condition == "shuffle") & frame.resolved].itertuples():
        octave = both[both.distance.between(row.distance_from, row.distance_to - 1)]
        assert row.targets == len(octave)
        assert row.ratio == pytest.approx(octave.delta.sum() / octave.delta_truncate.sum())
    whole = frame[frame.condition != "shuffle"]["targets"].sum()
    assert frame[frame.condition == "shuffle"]["targets"].sum() < whole


def test_planted_ratios_are_in_their_intervals(table):
    """A quarter of the loss, and one and a half times it: a ratio has no bound."""
    near = table[table.distance_from < 64]
    assert near["resolved"].all()
    for condition, ratio in (("shuffle", 0.25), ("replace(source='document')", 1.5)):
        part = near[near.condition == condition]
        assert len(part) == 4
        assert ((part.low <= ratio) & (ratio <= part.high)).all()
        assert (part.high - part.low).max() < 0.2
    assert set(table["condition"]) == {"shuffle", "replace(source='document')"}
    assert tuple(table.columns) == COLUMNS


def test_without_a_loss_to_divide_nothing_is_said(table):
    """Behind 64 truncation costs nothing: no ratio, and the interval that holds 0."""
    far = table[table.distance_from >= 64]
    assert not far["resolved"].any()
    assert far[["ratio", "low", "high"]].isna().all(axis=None)
    assert far["reason"].str.contains(r"truncate − intact, −.* to \+.* contains 0").all()


@pytest.mark.slow
def test_a_truncation_that_helps_has_no_share(tmp_path):
    """Below 0 there is no loss either: two gains would look like a loss that is shared."""
    curves = {"truncate": lambda d: -0.4 + 0 * d, "shuffle": lambda d: -0.1 + 0 * d}
    frame, _ = found_in(write_run(tmp_path / "run", Simulation(curves)))
    assert frame["reason"].str.contains("lies below 0").all()
    assert not frame["resolved"].any()


@pytest.mark.slow
def test_a_denominator_in_the_noise_is_unresolved(folder, table):
    """A floor above the interval's lower limit takes the ratio away."""
    edges = octave_edges(256)
    limits = np.full(len(edges) - 1, 0.5)
    floor = NoiseFloor("noise", edges[:-1], edges[1:], limits, limits.astype(int))
    frame, _ = found_in(folder, floor=floor)
    near = frame[frame.distance_from < 64]
    assert near["reason"].str.contains("reaches down to the noise floor 0.5").all()


@pytest.mark.slow
def test_what_is_missing_is_named(tmp_path):
    """Without truncation, or with nothing beside it, there is a line and no row."""
    shuffled = write_run(tmp_path / "a", Simulation({"shuffle": CURVES["shuffle"]}))
    frame, notes = found_in(shuffled)
    assert frame.empty
    assert notes == ("no ablated information: not scored: 'truncate'",)
    lone = write_run(tmp_path / "b", Simulation({"truncate": CURVES["truncate"]}))
    frame, notes = found_in(lone)
    assert tuple(frame.columns) == COLUMNS
    assert notes == ("no ablated information: nothing was scored besides 'truncate'",)


@pytest.mark.slow
@pytest.mark.parametrize("documents", [1, 5])
def test_few_documents_are_unresolved(documents, tmp_path):
    """No false interval."""
    frame, _ = found_in(write_run(tmp_path / "run", Simulation(CURVES, documents=documents)))
    assert not frame["resolved"].any()
    assert (frame["reason"] == too_few(documents)).all()
    assert frame["low"].isna().all()


@pytest.mark.slow
def test_late_starts_are_respected(folder, table):
    """Octaves before the start of either curve are left out."""
    frame, _ = found_in(folder, starts={"shuffle": 64})
    assert frame[frame.condition == "shuffle"]["distance_from"].min() == 64
    assert frame[frame.condition != "shuffle"]["distance_from"].min() == 0
    frame, _ = found_in(folder, starts={"truncate": 32})
    assert (frame.groupby("condition")["distance_from"].min() == 32).all()
    pd.testing.assert_frame_equal(
        frame, table[table.distance_from >= 32].reset_index(drop=True), check_dtype=False
    )


@pytest.mark.parametrize("mean", [5.0, 2.1])
def test_limits_are_those_of_a_search_over_ratios(mean):
    """Every ρ for which the interval of N − ρ D holds 0, tried one by one; D may turn negative."""
    rng = np.random.default_rng(0)
    below = mean + rng.normal(size=400)
    above = 1.5 * below + rng.normal(size=400)
    low, high = ratio_limits(above, below, 0.95)
    assert (below < 0).any() == (mean < 3)
    tried = np.linspace(low - 1, high + 1, 4001)
    counts = (above[None, :] <= tried[:, None] * below[None, :]).sum(axis=1)
    inside = tried[(counts >= 10) & (counts <= 390)]
    step = tried[1] - tried[0]
    assert inside.min() == pytest.approx(low, abs=2 * step)
    assert inside.max() == pytest.approx(high, abs=2 * step)


@pytest.mark.slow
def test_the_chart_holds_the_ratios(folder, table):
    """A line a condition where it is resolved, a cross where it is not, truncation at 1."""
    run = opened(folder, resamples=400)
    (drawn,) = by_id(run)["information"].charts
    *lines, cross = drawn.series
    assert [line.name for line in lines] == ["replace(source='document')", "shuffle"]
    for line in lines:
        own = table[(table["condition"] == line.name) & table["resolved"]]
        for values, column in ((line.y, "ratio"), (line.low, "low"), (line.high, "high")):
            np.testing.assert_array_equal(values, own[column])
    assert cross.role == "unresolved"
    assert len(cross.x) == (~table["resolved"]).sum()
    assert [(rule.at, rule.label) for rule in drawn.rules] == [(1.0, "truncate")]
    assert drawn.y.high <= 6  # one wide interval flattens no other
    assert chart(run, table).title == drawn.title


@pytest.mark.slow
def test_the_plot_has_what_is_there(folder, tmp_path):
    """Contrasts above ratios; of one condition its part; what lacks both is refused, and why."""
    ((_, both),) = plot([opened(folder)])
    assert [one.title for one in both] == [
        "Contrasts by distance",
        "Ablated information by distance",
    ]
    ((_, of_one),) = plot([opened(folder)], condition="truncate")
    assert of_one.title == "Contrasts by distance"  # truncation has no share of itself
    names = [line.name for line in of_one.series]
    assert names == ["truncate − intact", "replace(source='document') − truncate"]
    shuffled = opened(write_run(tmp_path / "run", Simulation({"shuffle": CURVES["shuffle"]})))
    with pytest.raises(EmptyChartError, match="to draw: no contrast truncate − intact"):
        list(plot([shuffled]))
    with pytest.raises(EmptyChartError, match="to draw: 'reverse' is in none"):
        list(plot([opened(folder)], condition="reverse"))
    lone = opened(write_run(tmp_path / "lone", Simulation({"truncate": CURVES["truncate"]})))
    ((_, one),) = plot([lone])
    assert one.title == "Contrasts by distance"
    assert "no contrast replace − truncate: not scored: 'replace'" in one.notes
