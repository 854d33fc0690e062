"""Whole run folders: reading, aggregating, answering."""

import json
import math

import duckdb
import numpy as np
import pytest
from open_runs import answer, opened
from simulated import Simulation, write_run

from probe.errors import UsageError
from probe.findings.answer import sentence, warnings_of
from probe.findings.positions import losses

CURVES = {
    "truncate": lambda d: np.where(d < 32, 0.3, 0.0),
    "replace(source='document')": lambda d: np.where(d < 64, 0.5, 0.0),
    "shuffle": lambda d: np.where(d < 64, 0.6, 0.0),
}


@pytest.mark.slow
def test_the_planted_lengths_come_back(tmp_path):
    """Steps at 32 and 64 are answered, and named as what they are."""
    simulation = Simulation(CURVES, boundaries=(100, 256), reach=256)
    found = opened(write_run(tmp_path / "run", simulation))
    assert found.context("truncate", "1%").text() == "32 (30–36)"
    assert found.context("shuffle", "10%").value == 64


@pytest.mark.slow
def test_grey_rows_never_answer(tmp_path):
    """With a boundary at 64 nothing beyond 64 counts, although the curve falls only there."""
    curve = {"truncate": lambda d: np.where(d <= 64, 0.3, 0.0)}
    run = write_run(tmp_path / "run", Simulation(curve, boundaries=(64,), reach=256))
    found = opened(run)
    context = found.context("truncate", "1%")
    assert (context.kind, context.value) == ("greater", 72)  # the bin 64–71 holds distance 64
    assert found.curve.query("grey and condition == 'truncate'")["distance_from"].min() == 64
    assert any("greyed out and excluded" in line for line in warnings_of(found))


@pytest.mark.slow
def test_a_late_start_is_respected(tmp_path):
    """A curve that may be shown from 64 on has no bin before it, and says so."""
    run = write_run(tmp_path / "run", Simulation(CURVES, curve_starts={"shuffle": 64}))
    found = opened(run)
    assert found.context("shuffle", "1%").text() == "≤ 64 (≤ 64–72)"
    assert found.curve.query("condition == 'shuffle'")["distance_from"].min() == 64


@pytest.mark.slow
def test_a_grid_has_only_its_bins(tmp_path):
    """Distances 8, 32 and 128 with ten targets each: the answer is the first measured below."""
    curves = {"truncate": CURVES["truncate"]}
    simulation = Simulation(curves, distances=(8, 16, 64, 128), length=1024)
    found = opened(write_run(tmp_path / "run", simulation))
    context = found.context("truncate", "2%")
    assert (context.kind, context.value, context.reach) == ("length", 64, 138)


@pytest.mark.slow
def test_repeats_are_averaged_before_anything_is_counted(tmp_path):
    """Three draws of a condition are one target, with a smaller spread."""
    simulation = Simulation({"shuffle": CURVES["shuffle"]}, repeats=3, documents=6)
    found = opened(write_run(tmp_path / "run", simulation))
    row = found.curve.query("condition == 'shuffle' and distance_from == 128").iloc[0]
    assert row["targets"] == 6 * 2 * 16
    assert "no contrast" not in answer(found)  # of one condition nobody asks for it


@pytest.mark.slow
def test_without_noise_no_floor_is_above_an_answer(tmp_path):
    """Exempt from the floor, and flagged."""
    run = write_run(tmp_path / "run", Simulation(CURVES, noise_spread=None))
    found = opened(run)
    assert found.floor is None
    assert "no noise floor" in found.context("truncate", "1%").flags
    assert "no noise floor" in answer(found)


@pytest.mark.slow
def test_bits_per_byte_come_from_the_text(tmp_path):
    """Four bytes a token ("abé"); without text the tolerance is refused."""
    simulation = Simulation({"truncate": CURVES["truncate"]})
    run = write_run(tmp_path / "a", simulation)
    _ask(run, ["0.02 bpb"])
    epsilon = opened(run).contexts[0].epsilon
    assert epsilon == pytest.approx(0.02 * math.log(2) * 4)
    bare = write_run(tmp_path / "b", Simulation(simulation.curves, text=False))
    _ask(bare, ["0.02 bpb"])
    with pytest.raises(UsageError, match="only token ids"):
        answer(opened(bare))


def _ask(run, tolerances):
    record = json.loads((run / "run.json").read_text())
    record["config"]["analysis"]["tolerances"] = tolerances
    (run / "run.json").write_text(json.dumps(record))


@pytest.mark.slow
def test_a_run_without_curves_still_reports_its_losses(tmp_path):
    """Only intact scores so far: losses and counts, and a sentence that says so."""
    run = write_run(tmp_path / "run", Simulation({}, noise_spread=None))
    found = opened(run)
    assert found.once(losses).by_condition["condition"].tolist() == ["intact"]
    assert (found.contexts, found.reach, len(found.curve)) == ((), 0, 0)
    assert sentence(found).endswith("no condition with a curve was scored.")
    assert "no contrast" not in answer(found)


def test_what_is_worked_out_once(tmp_path):
    """What a function says of a run is worked out when it is first asked for, and then kept."""
    run = opened(write_run(tmp_path / "run", Simulation({}, documents=1)))
    calls = []

    def work(asked):
        calls.append(asked)
        return len(calls)

    assert (run.once(work), run.once(work), calls) == (1, 1, [run])


@pytest.mark.slow
def test_closed_runs_keep_what_they_said(tmp_path):
    """The rows are let go of; what was read before is still there."""
    with opened(write_run(tmp_path / "run", Simulation(CURVES))) as run:
        contexts = run.contexts
    assert run.contexts is contexts
    with pytest.raises(duckdb.Error):
        run.connection.execute("SELECT 1")
