"""Sequence copying: a copy before the boundary lowers the loss, and the answer says so."""

import re

import numpy as np
import pytest
from open_runs import answer, opened
from plans import grid
from planted import FREE, CopyRule, planted
from simulated import Simulation, write_run

from probe.corpus.windows import Window
from probe.engine.branch import build, columns, tokens
from probe.findings.answer import sentence, warnings_of
from probe.perturbations.condition import parse
from probe.protocols.branches import Draw, intact, perturbed
from runs.test_planted import FIRST, LENGTH, VOCABULARY, deltas

COUNT = 5


def random_windows(count=6, length=LENGTH):
    rng, nothing = np.random.default_rng(0), np.empty(0, dtype=np.int32)
    texts = rng.integers(FREE, VOCABULARY, size=(count, length))
    return [Window("a", n, 0, ids, None, nothing, nothing) for n, ids in enumerate(texts)]


@pytest.mark.parametrize("distance", [0, 7, 30])
def test_a_copy_lowers_the_loss(distance):
    """A model that expects what stood k tokens ago finds the copy that was pasted there."""
    rule = CopyRule(distance + COUNT, VOCABULARY)
    plan = grid(LENGTH, [distance, distance + 20], count=COUNT, end_offset=2)
    found = deltas(planted(rule), random_windows(), "paste", plan)
    for at in range(distance, distance + COUNT):
        assert found[at].max() < -5
    assert all((found[at + 20] == 0).all() for at in range(distance, distance + COUNT))


def test_copies_share_the_text_before_them():
    """The prefix up to the copy is forwarded once: each branch costs what stands behind."""
    window, plan = random_windows(1, 1024)[0], grid(1024, [32, 128, 512], count=64, end_offset=0)
    runs = plan.runs(True)
    branches = [intact(window, plan.targets, FIRST)]
    branches += [perturbed(window, run, Draw(parse("paste")), FIRST) for run in runs]
    forwarded = tokens(build([columns([one.branch]) for one in branches]))
    assert forwarded <= 1 + 1024 + sum(64 + d + 64 for d in (32, 128, 512))
    assert forwarded > 1 + 1024 + sum(d + 64 for d in (32, 128, 512))


def grid_run(folder, **curves):
    simulated = Simulation(
        curves,
        distances=(0, 16, 64),
        documents=8,
        document_spread=0.05,
        window_spread=0.05,
        token_spread=0.01,
    )
    return opened(write_run(folder / "run", simulated))


@pytest.mark.slow
@pytest.mark.parametrize("distances", [(0, 16, 64), (16, 64)])
def test_no_length_is_read_off_a_copy(distances, tmp_path):
    """What lowers the loss from the start has no length: by how much stands instead."""
    simulated = Simulation({"paste": lambda d: -2 / (2 + d)}, distances=distances, documents=8)
    found = opened(write_run(tmp_path / "run", simulated))
    lowest = found.curve[found.curve.condition == "paste"].nsmallest(1, "delta").iloc[0]
    said = sentence(found)
    assert said.startswith("tiny-model on made-up: paste lowers the loss by ")
    assert f"by {-lowest['delta']:.3f} nats per token at distance" in said
    assert f"interval {-lowest['high']:.3f} to {-lowest['low']:.3f}" in said
    assert said.endswith("no length can be read off it.")
    table = answer(found).split("\n\n")[1].splitlines()
    assert re.split("  +", table[2]) == ["paste", *["lowers the loss"] * 4]
    assert all("lowers the loss" in context.flags for context in found.contexts)


@pytest.mark.slow
def test_a_condition_of_both_signs_keeps_its_length(tmp_path):
    """It raises the loss nearby and lowers it further away: the length stays, with a warning."""
    found = grid_run(tmp_path, shuffle=lambda d: np.where(d < 10, 0.5, -0.1))
    assert found.contexts[0].kind == "length"
    assert any(line.startswith("shuffle also lowers the loss") for line in warnings_of(found))


@pytest.mark.slow
@pytest.mark.parametrize("height", [0.5, -0.002])
def test_others_are_not_flagged(height, tmp_path):
    """Nor is a condition that raises the loss, nor one that lowers it by less than a tolerance."""
    found = grid_run(tmp_path, truncate=lambda d: height / (1 + d))
    assert not any("lowers the loss" in context.flags for context in found.contexts)
    assert "lowers" not in answer(found)
