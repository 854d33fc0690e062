"""Costs: keys, operations and bytes by formula are those that a count finds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from models import plain_logp, random_ids, tiny
from plain_attention import SEES, double_loop
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM

from probe.attention.apply import apply_pattern, check_support
from probe.attention.costs import LayerLimits, Shape, cost, keys_per_query
from probe.attention.parse import parse
from probe.errors import UsageError
from probe.runs.pattern_costs import first_changed

LENGTH = 40
IDS = random_ids(120)
SHAPE = Shape((LayerLimits(),) * 3, 4, 2, (8, 8), 2)
FULL = LENGTH * (LENGTH + 1) // 2


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("text", SEES)
def test_keys_are_counted(text: str, symmetric: bool, window: int | None) -> None:
    """The keys of a query are the marks in its row, within the model's own window."""
    mask = double_loop(SEES[text], LENGTH, symmetric=symmetric)
    if window is not None:
        index = np.arange(LENGTH)
        mask &= np.abs(index[:, None] - index[None]) < window
    found = keys_per_query(
        parse(text).rule(0, 0), LENGTH, symmetric=symmetric, limits=LayerLimits(window)
    )
    assert np.array_equal(found, mask.sum(axis=1))


def test_long_windows_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pairs are looked at together, the counts are the same."""
    part = parse("local(5) + strided(3)").rule(0, 0)
    whole = keys_per_query(part, LENGTH)
    monkeypatch.setattr("probe.attention.costs._PAIRS", 100)
    assert np.array_equal(keys_per_query(part, LENGTH), whole)


def test_local_by_hand() -> None:
    """A window of 8 with 4 sinks: 12 keys per query once it is full, 12 in the cache."""
    found = cost(parse("local(8, sinks=4)"), LENGTH, SHAPE)
    pairs = sum(min(i + 1, 12) for i in range(LENGTH))
    assert found.keys_per_query == pytest.approx(pairs / LENGTH)
    assert found.flops == 3 * 4 * pairs * 4 * 8  # layers, heads, a product and a sum of 8, twice
    assert found.kv_bytes == 3 * 2 * 12 * 2 * 8 * 2  # layers, kv heads, keys, K and V, dims, bytes


@pytest.mark.parametrize("text", ["local(40)", "blocks(40)", "strided(1)", "svd(8)", "pool(29)"])
def test_full_patterns_cost_what_the_model_costs(text: str) -> None:
    """What hides nothing saves nothing."""
    assert cost(parse(text), LENGTH, SHAPE, boundary=30) == cost(None, LENGTH, SHAPE)
    assert cost(None, LENGTH, SHAPE).flops == 3 * 4 * FULL * 4 * 8
    assert cost(None, LENGTH, SHAPE).kv_bytes == 3 * 2 * LENGTH * 2 * 8 * 2


@pytest.mark.parametrize(
    "text", [text for text in SEES if "global" not in text] + ["random(links=2)"]
)
def test_a_cache_keeps_what_later_queries_see(text: str) -> None:
    """No later query misses a key that the formula lets go."""
    masks = parse(text).rule(0, 0).masks
    for length in (9, 17, 31):
        key = np.arange(length)
        kept = np.any([one.cached(key, length) for one in masks], axis=0)
        later = np.arange(length, length + 60)[:, None]
        seen = parse(text).rule(0, 0).allowed(later, key[None]).any(axis=0)
        assert not (seen & ~kept).any()


def test_low_rank_by_hand() -> None:
    """Near queries see the first token, what stands in for far, and near; far ones are exact."""
    boundary, near = 30, 10
    part = parse("pool(5)").rule(0, 0)
    found = keys_per_query(part, LENGTH, boundary=boundary)
    expected = [*range(1, 31), *(1 + 5 + i for i in range(1, near + 1))]
    assert list(found) == expected
    pooled = cost(parse("pool(5)"), LENGTH, SHAPE, boundary=boundary)
    assert pooled.flops == 3 * 4 * sum(expected) * 4 * 8
    assert pooled.kv_bytes == 3 * 2 * (1 + 5 + near) * 2 * 8 * 2
    low = cost(parse("svd(2)"), LENGTH, SHAPE, boundary=boundary)
    exact = cost(None, LENGTH, SHAPE)
    assert low.keys_per_query == exact.keys_per_query
    assert low.kv_bytes == 3 * 2 * (11 * 2 * 8 + 2 * 2 * (29 + 8)) * 2
    spared = near * (29 * 4 * 8 - 2 * 2 * 2 * (29 + 8))
    assert exact.flops - low.flops == 3 * 4 * spared
    for boundary in (0, 1):
        assert cost(parse("pool(5)"), LENGTH, SHAPE, boundary=boundary) == exact
    with pytest.raises(UsageError, match="no cost without a boundary"):
        cost(parse("pool(5)"), LENGTH, SHAPE)


def test_heads_that_share_keys_keep_what_any_needs() -> None:
    """Two of four heads share keys: they are let go when both of them need none."""
    full = cost(None, LENGTH, SHAPE)
    one = cost(parse("heads(zero, layers=[0], heads=[0])"), LENGTH, SHAPE)
    assert one.kv_bytes == full.kv_bytes
    assert one.flops == full.flops - FULL * 4 * 8
    both = cost(parse("heads(zero, layers=[0], heads=[0, 1])"), LENGTH, SHAPE)
    assert both.kv_bytes == full.kv_bytes * 5 / 6
    mixed = cost(
        parse("heads(local(3), heads=[0]) + heads(pool(2), heads=[1])"), 40, SHAPE, boundary=9
    )
    assert mixed.kv_bytes <= full.kv_bytes


def test_hard_coded_heads() -> None:
    """Fixed weights need no queries: half the operations for the keys with a weight to speak of."""
    first = cost(parse("first_token"), LENGTH, SHAPE)
    assert first.keys_per_query == 1
    assert first.flops == 3 * 4 * LENGTH * 2 * 8
    assert first.kv_bytes == 3 * 2 * 2 * 8 * 2
    zero = cost(parse("zero"), LENGTH, SHAPE)
    assert (zero.keys_per_query, zero.flops, zero.kv_bytes) == (0, 0, 0)
    full = cost(None, LENGTH, SHAPE).flops
    assert cost(parse("uniform"), LENGTH, SHAPE).flops == full / 2
    assert cost(parse("mean"), LENGTH, SHAPE).flops == full  # it attends, and then forgets
    gaussian = cost(parse("gaussian(offset=-1)"), LENGTH, SHAPE)
    assert gaussian.keys_per_query <= 8  # the middle, six before it and one behind
    assert gaussian.kv_bytes == 3 * 2 * 8 * 2 * 8 * 2
    away = keys_per_query(parse("gaussian(offset=-20)").rule(0, 0), LENGTH)
    assert away.min() == 1, "early queries look at the first key"


def test_the_models_own_windows_count() -> None:
    """A sliding layer sees and keeps no more than its window, with a pattern or without."""
    shape = Shape.of(tiny("gemma3").config, number_bytes=4)
    assert shape == replace(SHAPE, limits=tuple(map(LayerLimits, (24, None, 24))), number_bytes=4)
    slid = sum(min(i + 1, 24) for i in range(LENGTH))
    full = cost(None, LENGTH, shape)
    assert full.keys_per_query == pytest.approx((2 * slid + FULL) / 3 / LENGTH)
    assert full.kv_bytes == 2 * (24 + 40 + 24) * 2 * 8 * 4
    assert cost(parse("local(30)"), LENGTH, shape).kv_bytes == 2 * (24 + 31 + 24) * 2 * 8 * 4
    assert [limits.window for limits in Shape.of(tiny("mistral").config).limits] == [24, 24, 24]
    assert Shape.of(tiny("gpt2").config) == replace(SHAPE, kv_heads=4)
    assert Shape.of(tiny("llama").config) == SHAPE


def latent() -> DeepseekV2ForCausalLM:
    """A model with keys and values of other dimensions than its configuration calls a head's."""
    torch.manual_seed(0)
    config = DeepseekV2Config(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        kv_lora_rank=8,
        q_lora_rank=None,
        qk_rope_head_dim=4,
        qk_nope_head_dim=12,
        v_head_dim=10,
        head_dim=4,
        first_k_dense_replace=2,
        initializer_range=0.3,
    )
    return DeepseekV2ForCausalLM(config).eval()


def test_costs_go_by_what_attention_is_handed() -> None:
    """Dimensions of keys and values, not what the configuration names a head's dimension."""
    model = latent()
    support = check_support(model, parse("svd(4)"))
    assert support[""].cached == (2, 16, 10)
    shape = Shape.of(model.config, number_bytes=4, cached=support[""].cached)
    assert shape.dims == (16, 10)
    assert cost(None, 40, shape).kv_bytes == 2 * 2 * 40 * (16 + 10) * 4
    intact = plain_logp(model, IDS)
    for k, changed in ((4, True), (16, False)):
        with apply_pattern(model, parse(f"svd({k})"), boundary=60):
            apart = np.abs(plain_logp(model, IDS) - intact).max()
        assert bool(apart > 1e-3) is changed
        assert first_changed(parse(f"svd({k})"), 120, shape, 60) == (60 if changed else None)


def test_chunks_of_a_model_are_its_own() -> None:
    """A window as wide as a layer's own chunk hides nothing from it, and spares nothing."""
    shape = Shape((LayerLimits(chunk=16),) * 2, 2, 2, (8, 8), 2)
    mask = np.tri(40, dtype=bool) & (np.arange(40)[:, None] // 16 == np.arange(40)[None] // 16)
    part = parse("local(16)").rule(0, 0)
    assert np.array_equal(keys_per_query(part, 40, limits=shape.limits[0]), mask.sum(axis=1))
    assert first_changed(parse("local(16)"), 40, shape, 1) is None
    assert first_changed(parse("local(15)"), 40, shape, 1) == 31  # the last of a chunk, no sink
    assert cost(parse("local(16)"), 40, shape).flops == cost(None, 40, shape).flops
    assert cost(None, 40, shape).kv_bytes == 2 * 2 * 8 * 2 * 8 * 2  # eight keys of the last chunk


def test_a_gaussian_beyond_sight_counts_the_nearest_key() -> None:
    """In a decoder all its weight falls on the query's own key, which is read."""
    part = parse("gaussian(offset=10)").rule(0, 0)
    assert (keys_per_query(part, 30) >= 1).all()
