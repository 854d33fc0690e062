"""What an attack found: models of other shapes, embeddings that go by length, words in quotes."""

import numpy as np
import pytest
import torch
from models import plain_logp, random_ids
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM, LlamaConfig, LlamaForCausalLM

from probe.attention.apply import apply_pattern, check_support
from probe.attention.costs import Shape, cost, keys_per_query
from probe.attention.forward import Heads, Visible, attend
from probe.attention.parse import parse
from probe.attention.rotary import Rotary
from probe.attention.terms.random_links import is_grid
from probe.errors import UsageError
from probe.perturbations.condition import parse as parse_condition
from probe.runs.pattern_costs import first_changed

IDS = random_ids(120)
ROPES = {
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "longrope": {
        "rope_type": "longrope",
        "short_factor": [1.0] * 4,
        "long_factor": [3.0] * 4,
        "original_max_position_embeddings": 64,
        "factor": 2.0,
    },
    "yarn": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64},
}


@pytest.mark.parametrize("kind", ROPES)
def test_keys_are_turned_back_by_the_angles_of_the_whole_text(kind: str) -> None:
    """Some embeddings choose their angles by the length of the text: far keys are not alone."""
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rope_parameters={"rope_theta": 100.0, **ROPES[kind]},
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    true, cached = [], []
    attention = model.model.layers[0].self_attn
    attention.k_proj.register_forward_hook(lambda *given: true.append(given[2]))
    with torch.inference_mode():
        output = model(torch.from_numpy(IDS)[None], use_cache=True)
        cached.append(output.past_key_values.layers[0].keys)
        rotary, places = Rotary(model, "pool"), torch.arange(1, 60)
        back = rotary.turn(attention, 0, cached[0][:, :, 1:60], places, length=len(IDS), back=True)
    plain = true[0].unflatten(-1, (2, 8)).transpose(1, 2)
    assert (back - plain[:, :, 1:60]).abs().max() < 1e-5 * plain.abs().max()


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
    assert support.cached == (2, 16, 10)
    shape = Shape.of(model.config, number_bytes=4, cached=support.cached)
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
    shape = Shape(2, 2, 2, 8, 2, (None, None), chunks=(16, 16))
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


def test_words_in_quotes_are_left_alone() -> None:
    """Python keeps the word ``global`` for itself; a text that holds it is no pattern."""
    with pytest.raises(UsageError, match=r"source 'global\(1\)'"):
        parse_condition("replace(source='global(1)')")
    assert parse("global ([3])").text == "global(positions=[3], sinks=1)"


def test_segments_weigh_their_size_in_half_precision() -> None:
    """log(94) rounded to bfloat16 would weigh every segment 1.2 % too little."""
    far, near = 16 * 94, 16 * 94
    length = 1 + far + near
    zeros = torch.zeros((1, 1, length, 4), dtype=torch.bfloat16)
    value = zeros.clone()
    value[:, :, 1 : far + 1] = 1.0
    heads = Heads(zeros[:, :, -1:], zeros, value, 0, (0,), 1, None, None)
    own = torch.ones((1, 1, 1, length), dtype=torch.bool)
    visible = Visible(own, torch.tensor([length - 1]), torch.arange(length))
    rule = parse("pool(16)").rule(0, 0)
    found = attend(heads, rule, visible, boundary=far + 1)
    assert found.dtype == torch.bfloat16
    assert float(found[0, 0, 0, 0]) == pytest.approx(far / length, abs=1.5e-3)


def test_grids_are_told() -> None:
    """A column and a row of consecutive numbers, and nothing else."""
    index = torch.arange(5)
    assert is_grid(index[:, None], index[None] + 3)
    assert not is_grid(index[:, None], index[None].flip(1))
    assert not is_grid(index[:, None], index[:, None])
    assert not is_grid(3, index[None])
