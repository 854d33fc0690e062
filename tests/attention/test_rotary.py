"""Keys pooled before their rotary embedding: by complex numbers, and refused where that fails."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from models import plain_logp, random_ids, tiny
from plain_attention import compressed_head, plain_heads
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from probe.attention.apply import apply_pattern
from probe.attention.parse import parse
from probe.attention.rotary import Rotary
from probe.errors import UsageError

IDS, BOUNDARY = random_ids(44), 30
LONG = random_ids(120)
ROTATED = ("llama", "gpt_neox", "cohere", "granite")


def turned(keys: torch.Tensor, places: torch.Tensor, base: float) -> torch.Tensor:
    """Rotary embedding written with complex numbers; dimension i is paired with i + d/2."""
    half = keys.shape[-1] // 2
    speed = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.polar(
        torch.ones(len(places), half, dtype=torch.float64), places[:, None] * speed
    )
    numbers = torch.complex(keys[:, :half].double(), keys[:, half:].double()) * angles
    return torch.cat([numbers.real, numbers.imag], dim=-1).to(keys.dtype)


def pooled_before(k: int, base: float) -> Callable[..., Any]:
    def compress(key: torch.Tensor, value: torch.Tensor, _layer: int, _shared: int) -> Any:
        n = len(key)
        places = torch.arange(1, n + 1, dtype=torch.float64)
        groups = [[t for t in range(n) if t * k // n == s] for s in range(k)]
        plain = turned(key, -places, base)
        keys = torch.stack([plain[group].mean(dim=0) for group in groups])
        means = torch.stack([places[group].mean() for group in groups])
        values = torch.stack([value[group].mean(dim=0) for group in groups])
        return turned(keys, means, base), values, [float(np.log(len(g))) for g in groups]

    return compress


@pytest.mark.parametrize("k", [1, 4, 11])
def test_against_complex_numbers(k: int) -> None:
    """The mean is that of keys turned back, at the mean position of its segment."""
    model = tiny("llama")
    head = compressed_head(pooled_before(k, base=10_000.0), BOUNDARY)
    expected = plain_heads(model, IDS, head, layers=(0, 1, 2), heads=(0, 1, 2, 3))
    with apply_pattern(model, parse(f"pool({k}, before_rope=True)"), boundary=BOUNDARY):
        found = plain_logp(model, IDS)
    assert np.abs(found - expected).max() < 1e-4
    with apply_pattern(model, parse(f"pool({k})"), boundary=BOUNDARY):
        assert np.abs(plain_logp(model, IDS) - found)[BOUNDARY:].max() > 1e-3


@pytest.mark.parametrize("family", ROTATED)
def test_at_full_size_it_is_exact(family: str) -> None:
    """Whatever pairs of dimensions a family turns, and however many of them."""
    model = tiny(family)
    intact = plain_logp(model, IDS)
    with apply_pattern(model, parse("pool(29, before_rope=True)"), boundary=BOUNDARY):
        assert np.abs(plain_logp(model, IDS) - intact).max() < 1e-4
    with apply_pattern(model, parse("pool(3, before_rope=True)"), boundary=BOUNDARY):
        assert np.abs(plain_logp(model, IDS) - intact)[BOUNDARY:].max() > 0.01


@pytest.mark.parametrize(
    ("family", "told"), [("gpt2", "0 rotary embeddings"), ("opt", "0 rotary embeddings")]
)
def test_without_rotation_it_is_refused(family: str, told: str) -> None:
    """A model that learned its positions has none to take keys out of."""
    with (
        pytest.raises(UsageError, match=rf"cannot be put on \w+, which has {told}; allowed: "),
        apply_pattern(tiny(family), parse("pool(3, before_rope=True)"), boundary=BOUNDARY),
    ):
        pytest.fail("it was let through")


def unrotated(_: Any, given: Any, named: dict[str, Any]) -> Any:
    cos, sin = named["position_embeddings"]
    return given, {**named, "position_embeddings": (torch.ones_like(cos), torch.zeros_like(sin))}


def elsewhere(_: Any, given: Any, named: dict[str, Any]) -> Any:
    cos, sin = named["position_embeddings"]
    return given, {**named, "position_embeddings": (cos.flip(1), sin.flip(1))}


@pytest.mark.parametrize("hook", [unrotated, elsewhere])
def test_a_layer_of_another_rotation_is_refused(hook: Callable[..., Any]) -> None:
    """As some models have layers without positions: the trial finds the layer."""
    model: PreTrainedModel = tiny("llama")
    attention = model.model.layers[1].self_attn
    handle = attention.register_forward_pre_hook(hook, with_kwargs=True)
    with (
        pytest.raises(UsageError, match="keys in layer 1 that are not those of its rotary"),
        apply_pattern(model, parse("pool(3, before_rope=True)"), boundary=BOUNDARY),
    ):
        pytest.fail("it was let through")
    handle.remove()
    with apply_pattern(model, parse("pool(3, before_rope=True)"), boundary=BOUNDARY):
        pass


def test_its_text() -> None:
    """The parameter is told in the name where it is not the default."""
    assert parse("pool(3, before_rope=True)").text == "pool(k=3, before_rope=True)"
    assert parse("pool(3, before_rope=False)").text == "pool(k=3)"
    with pytest.raises(UsageError, match="before_rope"):
        parse("pool(3, before_rope=2)")


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
        output = model(torch.from_numpy(LONG)[None], use_cache=True)
        cached.append(output.past_key_values.layers[0].keys)
        rotary, places = Rotary(model, "pool"), torch.arange(1, 60)
        back = rotary.turn(attention, 0, cached[0][:, :, 1:60], places, length=len(LONG), back=True)
    plain = true[0].unflatten(-1, (2, 8)).transpose(1, 2)
    assert (back - plain[:, :, 1:60]).abs().max() < 1e-5 * plain.abs().max()
