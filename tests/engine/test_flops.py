"""FLOPs by formula against those that torch counts, and the peaks that chips are known by."""

from dataclasses import replace

import pytest
import torch
from models import VOCABULARY, random_ids, tiny
from plans import sweep
from test_engine import window
from torch.utils.flop_counter import FlopCounterMode

from probe.engine.engine import Engine
from probe.engine.flops import CHIPS, Products, peak_here, peak_of, without_formula
from probe.models.causal import CausalModel
from probe.protocols.branches import FirstToken, intact

LENGTH = 64


def counted(model: torch.nn.Module, length: int) -> dict[str, int]:
    """What torch counts of a whole forward, by operation."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.from_numpy(random_ids(length))[None], use_cache=False)
    return {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_the_formula_counts_the_products_of_a_forward(family: str) -> None:
    model = tiny(family, attn_implementation="eager")
    products = Products.of(model, model.config, VOCABULARY)
    found = counted(model, LENGTH)
    pairs = found.pop("aten.bmm")
    weights = sum(found.values())
    biases = sum(p.numel() for name, p in model.named_parameters() if p.ndim < 2)
    said = products.body(LENGTH) - 2.0 * biases * LENGTH + products.logits(LENGTH)
    assert said == weights
    # torch counts every pair of a query and a key, the formula those that are no later.
    assert products.attention(LENGTH, LENGTH) == pairs * (LENGTH + 1) / (2 * LENGTH)


def test_layers_that_see_the_nearest_keys() -> None:
    model = tiny("llama")
    whole = Products.of(model, model.config, VOCABULARY)
    near = replace(whole, shape=replace(whole.shape, limits=(one := whole.shape.limits[0],) * 2))
    assert near.attention(1, 9) == whole.attention(1, 9) * 2 / 3
    limited = replace(whole, shape=replace(whole.shape, limits=(one._replace(window=3),)))
    seen = sum(min(at + 1, 3) for at in range(9)) / 9
    assert limited.attention(9, 9) == pytest.approx(2 * 2 * 8 * 4 * seen * 9)
    assert limited.cache(9) * 3 == whole.cache(3)


def test_an_engine_counts_what_it_forwards() -> None:
    model = CausalModel(tiny("llama"))
    engine, own = Engine(model), window(length=LENGTH)
    branch = intact(own, sweep(LENGTH, 28).targets, FirstToken("none", None)).branch
    engine.score([[branch]])
    products = Products.of(model.model, model.model.config, VOCABULARY)
    costs = engine.costs
    assert costs.flops == products.flops(costs.tokens, len(branch.ids), costs.targets) > 0
    assert engine.peak is None  # float32, on no GPU


def test_no_formula_no_flops() -> None:
    model = CausalModel(tiny("mamba2"))
    assert without_formula(model.model.config)
    engine, own = Engine(model), window(length=LENGTH)
    engine.score([[intact(own, sweep(LENGTH, 28).targets, FirstToken("none", None)).branch]])
    assert engine.costs.tokens > 0 == engine.costs.flops


@pytest.mark.parametrize(
    ("called", "chip"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("Tesla T4", "T4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("AMD Instinct MI300X", "MI300X"),
        ("NVIDIA GeForce RTX 3090", None),
    ],
)
def test_chips_by_what_their_driver_calls_them(
    called: str, chip: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    peak = None if chip is None else CHIPS[chip] * 1e12
    assert peak_of(called) == peak
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: called)
    two = {torch.device("cuda", 0), torch.device("cuda", 1)}
    assert peak_here(two) == (None if peak is None else 2 * peak)
    assert peak_here(two | {torch.device("cpu")}) is None
    assert peak_here(set()) is None
