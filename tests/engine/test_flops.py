"""FLOPs by formula against those that torch counts, and the peaks that GPUs are known by."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from models import VOCABULARY, random_ids, tiny
from plain_forwards import branches_of, window
from torch.utils.flop_counter import FlopCounterMode

from probe.engine.engine import Engine
from probe.engine.flops import (
    CHIPS,
    FlopsFormula,
    formula_of,
    peak_here,
    peak_of,
    without_formula,
)
from probe.models.causal import CausalModel
from probe.results.record import GPU_FLOPS, GPU_PEAK, MFU, add_costs
from probe.runs.begun import recorded

LENGTH = 64


def counted(model: torch.nn.Module, length: int) -> dict[str, int]:
    """What torch counts of a whole forward, by operation."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.from_numpy(random_ids(length))[None], use_cache=False)
    return {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_the_formula_counts_the_products_of_a_forward(family: str) -> None:
    model = tiny(family, attn_implementation="eager")
    formula = FlopsFormula.of(model, model.config, VOCABULARY)
    found = counted(model, LENGTH)
    pairs = found.pop("aten.bmm")
    assert formula.body(LENGTH) + formula.logits(LENGTH) == sum(found.values())
    # torch counts every pair of a query and a key, the formula those that are no later.
    assert formula.attention(0, LENGTH) == pairs * (LENGTH + 1) / (2 * LENGTH)
    whole = formula.forwarded({(0, LENGTH): 1})
    pieces = formula.forwarded({(0, 20): 1, (20, 21): 1, (21, LENGTH): 1})
    assert whole == pieces == formula.body(LENGTH) + formula.attention(0, LENGTH)


def test_layers_that_see_the_nearest_keys() -> None:
    model = tiny("llama")
    whole = FlopsFormula.of(model, model.config, VOCABULARY)
    limit = whole.shape.limits[0]._replace(window=3)
    near = replace(whole, shape=replace(whole.shape, limits=(limit,)))
    for start, stop in ((0, 9), (0, 2), (2, 9), (5, 9)):
        keys = sum(min(at + 1, 3) for at in range(start, stop))
        assert near.attention(start, stop) == 2 * (8 + 8) * 4 * keys
    assert near.cache(9) * 3 == whole.cache(3)


@pytest.mark.slow
def test_an_engine_counts_what_it_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Branches off one prefix: every forward is counted with the keys that its tokens saw."""
    model = CausalModel(tiny("llama", attn_implementation="eager"))
    engine = Engine(model)
    with FlopCounterMode(display=False) as counter:
        engine.score([branches_of(window()), branches_of(window(1))])
    found = Counter(counter.get_flop_counts()["Global"])
    pairs = found.pop(torch.ops.aten.bmm)
    formula = FlopsFormula.of(model.model, model.model.config, VOCABULARY)
    costs = engine.costs
    weights = formula.body(costs.tokens)
    # The head sees a state that predicts several targets once.
    assert weights < sum(found.values()) <= weights + formula.logits(costs.targets)
    attention = costs.flops - weights - formula.logits(costs.targets)
    assert 0.5 * pairs < attention < pairs  # torch counts pairs that a mask hides, too


@pytest.mark.parametrize("family", ["mamba2", "qwen2_moe", "deepseek_v3"])
def test_no_formula_no_flops(family: str) -> None:
    model = CausalModel(tiny(family))
    engine = Engine(model)
    engine.score([branches_of(window(), conditions=["truncate"])])
    assert engine.costs.tokens > 0 == engine.costs.flops
    assert "flops" not in recorded({"tokens": 3, "flops": 0.0}, engine)


def test_a_configuration_that_lacks_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A statistic that cannot be had is no reason not to score."""
    model = CausalModel(tiny("llama"))

    def heterogeneous(*_: object) -> str | None:
        raise RuntimeError("head_dim differs from layer to layer")

    monkeypatch.setattr("probe.engine.flops.without_formula", heterogeneous)
    assert formula_of(model.model, model.body, VOCABULARY) is None
    assert len(Engine(model).score([branches_of(window(), conditions=["truncate"])])) == 1


def test_what_has_no_formula_is_named() -> None:
    assert without_formula(tiny("llama").config) is None
    assert without_formula(tiny("mamba2").config) == "linear_attention"


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
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
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


def test_the_share_of_the_peak_is_that_of_calls_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls elsewhere, of other GPUs and of a part of one leave it what it is."""
    engine = Engine(CausalModel(tiny("llama")))
    assert engine.peak is None  # float32, on no GPU
    elsewhere = recorded({"flops": 5e9, "seconds": 1e4}, engine)
    monkeypatch.setattr(Engine, "peak", 1e12)
    fast = recorded({"flops": 4e12, "seconds": 10.0}, engine)
    monkeypatch.setattr(Engine, "peak", 2e12)
    half = recorded({"flops": 1e12, "seconds": 10.0}, engine, share=0.5)
    total = add_costs(add_costs(add_costs({}, elsewhere), fast), half)
    assert total[GPU_FLOPS] == 5e12
    assert total[GPU_PEAK] == 2e13
    assert total[MFU] == np.float64(0.25)
    assert MFU not in add_costs({}, elsewhere)
    assert add_costs(total, {"tokens": 1})[MFU] == total[MFU]
