"""Planted truth: models that read exactly so far are measured to read exactly so far."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from plans import Plan, grid, sweep
from planted import FREE, CopyRule, NGramRule, Rule, planted, sliding, written_by
from transformers import PreTrainedModel

from probe.corpus.windows import Window
from probe.engine.engine import Engine
from probe.engine.selfcheck import check
from probe.models.causal import CausalModel
from probe.perturbations.condition import parse
from probe.perturbations.samplers import vocabulary
from probe.protocols.branches import Draw, FirstToken, intact, perturbed

VOCABULARY, LENGTH, WINDOWS = 64, 96, 24
CONDITIONS = ("truncate", "shuffle", "replace(source='vocabulary')")
FIRST = FirstToken("keep", 0)
RULES: dict[str, Rule] = {
    **{f"copy {k}": CopyRule(k, VOCABULARY) for k in (1, 5, 17)},
    **{f"{n}-gram": NGramRule(n, VOCABULARY) for n in (2, 3, 6)},
}


def windows_of(rule: Rule) -> list[Window]:
    nothing = np.empty(0, dtype=np.int32)
    return [
        Window("a", seed, 0, written_by(rule, LENGTH, seed=seed), None, nothing, nothing)
        for seed in range(WINDOWS)
    ]


def deltas(
    model: PreTrainedModel,
    windows: list[Window],
    condition: str,
    plan: Plan,
    *,
    whole: bool = False,
) -> dict[int, NDArray[np.float64]]:
    """Delta of every target of a condition, by distance."""
    causal = CausalModel(model)
    sources = {"vocabulary": vocabulary(range(FREE, VOCABULARY))}
    scored = [
        [
            intact(window, plan.targets, FIRST),
            *(
                perturbed(window, run, Draw(parse(condition)), FIRST, sources=sources)
                for run in plan.runs(True)
            ),
        ]
        for window in windows
    ]
    engine = Engine(causal, check(causal, windows[0].ids).techniques)
    engine = engine.whole() if whole else engine
    found: dict[int, list[float]] = {}
    branches = [[one.branch for one in own] for own in scored]
    for own, losses in zip(scored, engine.score(branches, reference=0), strict=True):
        for one, its in zip(own[1:], losses[1:], strict=True):
            at = one.branch.origin - own[0].branch.origin
            difference = its.nll.astype(float) - losses[0].nll[at : at + len(its.nll)]
            for step, delta in enumerate(difference.tolist()):
                found.setdefault(one.position + step - one.boundary, []).append(delta)
    return {distance: np.array(values) for distance, values in sorted(found.items())}


@pytest.mark.parametrize("name", RULES)
def test_planted_text(name: str) -> None:
    """The text is what its model expects: its loss is far below that of random text."""
    rule = RULES[name]
    with torch.inference_mode():
        for length in (LENGTH, 1, rule.reads):
            ids = torch.from_numpy(written_by(rule, length))[None]
            logp = torch.log_softmax(planted(rule)(input_ids=ids).logits[0], dim=-1)
            assert logp.shape == (length, VOCABULARY)
            assert int(ids.min()) >= FREE
            if length == LENGTH:
                nll = -logp[:-1].gather(1, ids[0, 1:, None])[rule.reads :]
                assert nll.mean() < np.log(VOCABULARY) / 2


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", RULES)
def test_sweep_finds_it(name: str, condition: str) -> None:
    """Delta is positive at every distance that the rule reads, and exactly 0 from there on."""
    rule = RULES[name]
    found = deltas(planted(rule), windows_of(rule), condition, sweep(LENGTH, 40))
    assert list(found) == list(range(40))
    for distance, delta in found.items():
        if distance < rule.reads:
            assert delta.mean() > 0.5
        else:
            assert (delta == 0).all()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_grid_finds_it(condition: str) -> None:
    """A grid tells the same, target by target."""
    rule = CopyRule(17, VOCABULARY)
    plan = grid(LENGTH, [0, 8, 15, 16, 17, 30], count=3, end_offset=2)
    found = deltas(planted(rule), windows_of(rule), condition, plan)
    for distance, delta in found.items():
        if distance < 17:
            assert delta.mean() > 0.5
        else:
            assert (delta == 0).all()


@pytest.mark.parametrize("whole", [False, True], ids=["shared", "whole"])
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize(("window", "layers"), [(4, 1), (5, 3), (9, 2)])
def test_sliding_window(window: int, layers: int, condition: str, whole: bool) -> None:
    """Layers that each see w tokens see L(w − 1) + 1 before a target, and nothing further."""
    model = sliding(window, layers, VOCABULARY)
    text = windows_of(CopyRule(3, VOCABULARY))[:6]
    found = deltas(model, text, condition, sweep(LENGTH, 40), whole=whole)
    reads = layers * (window - 1) + 1
    for distance, delta in found.items():
        if distance >= reads:
            assert np.abs(delta).max() <= 1e-5
    last = max(distance for distance, delta in found.items() if np.abs(delta).max() > 1e-5)
    assert reads - window < last < reads
