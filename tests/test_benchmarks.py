"""The scripts behind the figures that are told: what they write, and what they count."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from open_runs import opened

from benchmarks import cluster, coverage, mfu, rows
from probe.analysis.effective import EffectiveContext
from probe.findings.positions import losses
from probe.results.folder import read_folder

ANSWER = EffectiveContext(
    *("truncate", "1%", 0.01, "length", 64, 64, 60, 72, 1024),
    reasons=(),
    flags=(),
    documents=20,
    targets=1000,
)


@pytest.mark.slow
def test_rows_are_a_run_as_the_store_writes_it(tmp_path):
    """Every part is whole, rows are as many as said, and the planted curves come back."""
    written = rows.write_run(tmp_path / "run", 200_000, batch=8)
    assert read_folder(tmp_path / "run").warnings == ()
    found = opened(tmp_path / "run")
    assert found.once(losses).by_condition["targets"].sum() == written
    assert (len(found.documents), found.windows, found.targets) == (4, 16, 16 * 2048)
    near = found.curve[(found.curve["condition"] == "replace(source='document')")].iloc[0]
    assert near["delta"] == pytest.approx(1.6, rel=0.5)


def test_the_share_of_the_peak_is_told_where_it_is_known(capsys, monkeypatch):
    """A run as `probe run` scores it; its record says FLOPs, and their share of a chip's."""
    sizes = ["--layers", "1", "--hidden", "128", "--vocabulary", "64", "--windows", "3"]
    monkeypatch.setattr("sys.argv", ["mfu.py", "--length", "128", "--device", "cpu", *sizes])
    monkeypatch.setattr("probe.engine.engine.peak_here", lambda devices: 1e12)
    mfu.main()
    length, tokens, _, teraflops, share, *_ = capsys.readouterr().out.splitlines()[-1].split()
    assert (length, int(tokens.replace(",", "")) > 3 * 128) == ("128", True)
    assert float(share) == pytest.approx(100 * float(teraflops), abs=0.06)


@pytest.mark.slow
def test_a_part_is_measured_in_a_process_of_its_own(tmp_path, capsys):
    """What it prints comes back, what it took is said."""
    rows.write_run(tmp_path / "run", 200_000, batch=8)
    assert rows.measure("answer", tmp_path / "run").startswith("unresolved; unresolved")
    assert re.fullmatch(
        r"answer: .* s, of processors .* s and .* s of the system; \d+ MiB .*\n",
        capsys.readouterr().out,
    )


@pytest.mark.parametrize(
    ("changed", "length", "true"),
    [
        ({}, 60, True),
        ({}, 72, True),
        ({}, 59, False),
        ({}, math.inf, False),
        ({"kind": "greater", "upper": None}, 60, True),
        ({"kind": "greater", "upper": None}, math.inf, True),
        ({"kind": "greater", "upper": None}, 59, False),
        ({"kind": "greater", "lower": None, "upper": None}, math.inf, True),
        ({"kind": "greater", "lower": None, "upper": None}, 800, True),
        ({"kind": "greater", "lower": None, "upper": None}, 700, False),
        ({"kind": "unresolved"}, 5, True),
    ],
)
def test_what_contains_the_truth(changed, length, true):
    """A bound is true from its lower limit on, and beyond reach; unresolved claims nothing."""
    assert coverage.contains(replace(ANSWER, **changed), length) is true


def test_the_truth_of_a_curve_is_that_of_a_loop():
    """Length token by token; the expected delta of a bin weighs distances by their targets."""
    for name, curve in coverage.CURVES.items():
        above = [d for d in range(coverage.REACH) if curve(np.array(float(d))) >= coverage.EPSILON]
        last = max(above, default=-1) + 1
        known = coverage.truth(curve)
        assert known.length == (last if last < coverage.REACH else math.inf), name
    assert known.targets.sum() == coverage.REACH * 2
    smooth = coverage.truth(coverage.CURVES["smooth, 1/(1+d)"])
    assert smooth.delta[:8] == pytest.approx(1 / np.arange(1, 9))


def test_simulated_sums_have_the_expected_mean():
    """Over many documents the factors and shifts average out."""
    known = coverage.truth(coverage.CURVES["step at 150"])
    sums, _ = coverage.simulate(known, 4000, np.random.default_rng(0))
    mean = sums.sums.sum(axis=0) / sums.targets.sum(axis=0)
    assert np.abs(mean - known.delta).max() < 0.01


def test_a_cluster_does_every_unit_and_little_else():
    """Without deaths and dawdling all is work; with them each unit is done all the same."""
    calm = cluster.simulate(cluster.Cluster(8, 800, fails=math.inf, driver=0.0))
    assert (calm.deaths, calm.given_up) == (0, 0)
    assert 0.9 < calm.efficiency < 1
    wild = cluster.simulate(cluster.Cluster(16, 1_000, fails=300.0, back=60.0))
    assert wild.deaths > 50
    assert 0.5 < wild.efficiency < calm.efficiency
    slow = cluster.simulate(cluster.Cluster(16, 1_000, fails=math.inf, driver=10.0))
    assert slow.seconds >= 10 * 1_000
