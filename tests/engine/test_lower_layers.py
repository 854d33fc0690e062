"""Layers beneath a pattern are forwarded once for all patterns, and nothing of a loss changes."""

import json

import numpy as np
import pytest
import torch
from models import plain_logp, random_ids, tiny
from tiny_run import (  # noqa: F401 (fixtures)
    base_configuration,
    configured,
    model_folders,
    no_network,
    score,
    scores,
    text_folder,
)

from probe.attention.apply import apply_pattern
from probe.attention.parse import parse
from probe.engine.branch import Attention, Branch, by_attention
from probe.engine.engine import Engine
from probe.engine.lower_layers import Layers, computed_share, shared_lower_layers
from probe.engine.selfcheck import check
from probe.engine.walk import Techniques
from probe.models.causal import CausalModel
from probe.runs.experiment import prepare
from probe.runs.plan import costs, planned_batch

FAMILIES = ("llama", "gpt2", "gpt_neox", "mistral", "gemma2", "gemma3", "opt", "cohere", "granite")
IDS = random_ids(60)
TEXTS = (
    "local(3)",
    *(f"heads({term}, layers=[{layer}])" for term in ("zero", "local(2)") for layer in (0, 1, 2)),
    "heads(gaussian, layers=[1, 2], heads=[1, 3])",
)


def recorded(folder):
    """The record of a run."""
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def branch(text: str | None, ids: np.ndarray = IDS) -> Branch:
    """All but the first token as targets, attended to by a pattern."""
    attention = None if text is None else Attention(parse(text))
    return Branch(ids, ids, 1, len(ids), 1, attention=attention)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_those_of_whole_forwards(family: str) -> None:
    """Of two windows at once, whatever layer a pattern begins with."""
    model = CausalModel(tiny(family))
    others = random_ids(len(IDS), seed=5)
    windows = [[branch(text, ids) for text in (None, *TEXTS)] for ids in (IDS, others)]
    engine = Engine(model)
    found = engine.score(windows)
    plain = Engine(model, Techniques(lower=False))
    expected = plain.score(windows)
    assert engine.costs.tokens < plain.costs.tokens
    for ids, own, whole in zip((IDS, others), found, expected, strict=True):
        for text, losses, other in zip((None, *TEXTS), own, whole, strict=True):
            np.testing.assert_array_equal(losses.nll, other.nll)
            if text is not None:
                with apply_pattern(model.model, parse(text)):
                    logp = plain_logp(model.model, ids)
                    targets = logp[np.arange(len(ids) - 1), ids[1:]]
                    np.testing.assert_allclose(losses.nll, -targets, atol=1e-4)


def test_layers_left_out_are_not_computed() -> None:
    """Under a pattern of the last layer nothing of the others runs, and afterwards all do."""
    model = CausalModel(tiny("llama"))
    ran: list[int] = []
    handles = [
        layer.mlp.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, layer in enumerate(model.model.model.layers)
    ]
    Engine(model).score([[branch(f"heads(zero, layers=[2], heads=[{head}])") for head in range(4)]])
    assert [number for number in ran if number < 2].count(0) == 1 + 2  # and the trial's two
    ran.clear()
    plain_logp(model.model, IDS)
    assert ran == [0, 1, 2]
    for handle in handles:
        handle.remove()


def test_a_model_that_reads_past_its_layers_is_found_out() -> None:
    """Where the last layer reads what the first one was given, the self-check switches it off."""
    model = CausalModel(tiny("llama"))
    first, _, last = model.model.model.layers
    seen = [torch.zeros(1, 1, 32)]  # by the first layer, in this forward

    def see(states: torch.Tensor) -> None:
        seen[:] = [states[:, :1]]

    handles = [
        model.body.register_forward_pre_hook(lambda *_: see(torch.zeros(1, 1, 32))),
        first.mlp.register_forward_hook(lambda _, given, output: see(given[0])),
        last.register_forward_hook(lambda _, given, output: output + seen[0]),
    ]
    outcome = next(o for o in check(model, IDS, lower=True).outcomes if o.technique == "lower")
    for handle in handles:
        handle.remove()
    assert not outcome.passed
    assert outcome.reason
    assert all(o.technique != "lower" for o in check(model, IDS).outcomes)


def test_what_is_done_in_place_spoils_nothing() -> None:
    """A layer that writes into what it is given leaves what was kept as it was."""
    model = CausalModel(tiny("llama"))
    layers = Layers(model)
    last = model.model.model.layers[2]
    ids = torch.from_numpy(IDS)[None]
    handle = last.register_forward_pre_hook(lambda _, given: given[0].add_(1.0))
    with torch.inference_mode():
        expected, _ = model.states(ids, keep=False)
        with layers.recorded([1]) as outputs:
            model.states(ids, keep=False)
        for _ in range(2):
            with layers.skipped(2, outputs):
                found, _ = model.states(ids, keep=False)
            assert torch.equal(found, expected)
    handle.remove()


def test_whether_it_is_worth_a_forward() -> None:
    """Texts are told apart, and left alone where keeping costs more than it saves."""
    one, two = "heads(zero, layers=[1])", "heads(zero, layers=[2])"
    batch = [[branch(None), branch(one), branch(two), branch("zero"), branch(one, IDS[::-1])]]
    groups = by_attention(batch[0])
    assert shared_lower_layers(batch, groups, 3) == []  # the text read backwards shares its pattern
    batch[0].pop()
    groups = by_attention(batch[0])
    assert (
        shared_lower_layers(batch, groups, 3) == []
    )  # three layers are saved, three are forwarded
    (found,) = shared_lower_layers(batch, groups, 2)
    assert found.outputs == {0, 1}
    assert {a.pattern.text: first for a, first in found.first.items()} == {one: 1, two: 2}
    assert computed_share(1, 3) == pytest.approx(2 / 3)
    assert computed_share(1, 0) == 1.0


@pytest.mark.slow
def test_a_run_and_its_plan(base, tmp_path, monkeypatch) -> None:
    """A ranking of heads forwards what its plan says, and has the rows of whole forwards."""
    content = {"conditions": ["attend(heads(zero, layers=each(2), heads=each(4)))"]}
    experiment = prepare(configured(base, **content))
    folder = score(base, tmp_path / "shared", **content)
    counted = costs(experiment, planned_batch(experiment.config), set())
    record = recorded(folder)
    assert counted.tokens == record["costs"]["tokens"] < counted.plain_tokens
    assert [o["technique"] for o in record["check"] if o["passed"]][-1] == "lower"
    monkeypatch.setattr("probe.engine.engine.shared_lower_layers", lambda *_: [])
    plain = score(base, tmp_path / "plain", **content)
    assert recorded(plain)["costs"]["tokens"] > record["costs"]["tokens"]
    assert scores(folder).equals(scores(plain))
