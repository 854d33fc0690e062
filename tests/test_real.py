"""The real model: branched losses are whole forwards' losses, and the demo's path works."""

import numpy as np
import pytest
import torch
from real_model import MODEL, REAL, converted_weights  # noqa: F401 (fixture)

from probe.config import check
from probe.engine.engine import Engine
from probe.models.load import load_model
from probe.runs.experiment import prepare
from probe.runs.loaded import check_model
from probe.runs.run import run

pytestmark = REAL


def config(**changes):
    return check(
        {
            "name": "real",
            "model": {"path": MODEL},
            "data": {"path": "stdlib", "max_documents": 6},
            "windows": {"length": 128, "per_document": 1},
            "protocol": {"kind": "sweep", "runs": {1: 1, 8: 2}},
            "conditions": ["noise", "truncate", "shuffle", "replace(source='document')"],
        }
        | changes
    )


@pytest.fixture(scope="module")
def experiment():
    """Converted weights stay in the user's cache: converting them takes half a minute."""
    return prepare(config())


def test_the_model_goes_by_its_true_name(experiment):
    """What ran is said: an instruction-tuned model whose weights had 4 bits."""
    assert experiment.source.location.name == ("SmolLM2-135M-Instruct (4-bit weights dequantised)")


@pytest.mark.parametrize(("dtype", "windows"), [("float32", 2), ("bfloat16", 1)])
def test_branched_losses_are_those_of_whole_forwards(experiment, dtype, windows):
    """Float32: to rounding. Bfloat16: the mean difference lies within the noise floor."""
    model = load_model(experiment.source, dtype=dtype)
    report = check_model(model, experiment)
    assert report.techniques.branching
    assert report.techniques.packing
    engine = Engine(model, report.techniques)
    scored = [
        [one.branch for one in experiment.branches(window, experiment.draws_of(window))]
        for window in experiment.windows[:windows]
    ]
    ours, whole = engine.score(scored), engine.whole().score(scored)
    difference = np.concatenate(
        [
            a.nll - b.nll
            for mine, plain in zip(ours, whole, strict=True)
            for a, b in zip(mine, plain, strict=True)
        ]
    )
    if dtype == "float32":
        assert np.abs(difference).max() <= 1e-4
        return
    runs = len(experiment.plan.runs(True))
    noise = np.concatenate(
        [
            loss.nll - mine[0].nll[branch.origin - branches[0].origin :][: branch.targets]
            for branches, mine in zip(scored, ours, strict=True)
            for branch, loss in list(zip(branches, mine, strict=True))[1 : 1 + runs]
        ]
    )
    floor = abs(noise.mean()) + 2 * noise.std() / np.sqrt(len(noise))
    assert floor > 0
    assert abs(difference.mean()) <= floor


def test_a_small_run_ends_with_an_answer(tmp_path):
    """From the package's weights and Python's sources to rows, in one call."""
    folder = run(config(data={"path": "stdlib", "max_documents": 2}), tmp_path)
    assert list((folder / "scores").glob("*.parquet"))
    assert torch.get_num_threads() >= 1
