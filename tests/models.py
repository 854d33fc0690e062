"""Tiny random models of many families, with weights large enough that wrong attention shows."""

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    MistralConfig,
    MptConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3NextConfig,
)

from probe.models.causal import CausalModel
from probe.selfcheck import Report, check

VOCABULARY = 96
BOS = 0
_SPECIAL = {"bos_token_id": BOS, "eos_token_id": 1}
_PADDED = {**_SPECIAL, "pad_token_id": 2}
_SMALL = {
    **_PADDED,
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
}
_STATE_SPACE = {
    **_PADDED,
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "initializer_range": 0.2,
}
_CAPPED = {"head_dim": 8, "sliding_window": 24, "final_logit_softcapping": 5.0}


def _configs() -> dict[str, PretrainedConfig]:
    return {
        "llama": LlamaConfig(**_SMALL),
        "gpt2": GPT2Config(
            **_SPECIAL,
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=3,
            n_head=4,
            n_positions=1024,
            initializer_range=0.2,
        ),
        "gpt_neox": GPTNeoXConfig(
            **{name: value for name, value in _SMALL.items() if name != "num_key_value_heads"}
        ),
        "opt": OPTConfig(
            **_PADDED,
            vocab_size=VOCABULARY,
            hidden_size=32,
            ffn_dim=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=1024,
            word_embed_proj_dim=16,
            init_std=0.2,
        ),
        "bloom": BloomConfig(
            **_PADDED,
            vocab_size=VOCABULARY,
            hidden_size=32,
            n_layer=3,
            n_head=4,
            initializer_range=0.2,
        ),
        "falcon": FalconConfig(
            **_SPECIAL,
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            initializer_range=0.2,
            alibi=True,
        ),
        "mpt": MptConfig(
            vocab_size=VOCABULARY,
            d_model=32,
            n_heads=4,
            n_layers=3,
            max_seq_len=1024,
            initializer_range=0.2,
        ),
        "cohere": CohereConfig(**_SMALL, logit_scale=0.5),
        "granite": GraniteConfig(**_SMALL, logits_scaling=3.0),
        "mistral": MistralConfig(**_SMALL, sliding_window=24),
        "gemma2": Gemma2Config(**_SMALL, **_CAPPED, attn_logit_softcapping=5.0),
        "gemma3": Gemma3TextConfig(
            **_SMALL,
            **_CAPPED,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
        "mamba": MambaConfig(**_STATE_SPACE),
        "mamba2": Mamba2Config(
            **_STATE_SPACE, num_heads=8, head_dim=8, n_groups=2, state_size=16, chunk_size=16
        ),
        "qwen3_next": Qwen3NextConfig(
            **_SMALL,
            head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
            layer_types=["linear_attention", "full_attention", "linear_attention"],
        ),
    }


FAMILIES = tuple(_configs())
RECURRENT = ("mamba", "mamba2", "qwen3_next")
SLIDING = ("mistral", "gemma2", "gemma3")


def tiny(
    family: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any
) -> PreTrainedModel:
    """A random model of *family* in evaluation mode.

    Args:
        family: One of ``FAMILIES``.
        seed: Seed of its weights.
        dtype: Of its weights.
        changes: Fields of the configuration that differ from ours.
    """
    config = _configs()[family]
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval()


@cache
def tiny_model(family: str) -> CausalModel:
    """``tiny(family)`` as the engine sees it, made once: tests only read it."""
    return CausalModel(tiny(family))


@cache
def tiny_report(family: str) -> Report:
    """The self-check of ``tiny_model(family)`` on 97 random tokens, made once."""
    return check(tiny_model(family), random_ids(97))


def random_ids(count: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Ordinary token ids, shape ``(count,)``."""
    return np.random.default_rng(seed).integers(3, VOCABULARY, size=count)


@torch.inference_mode()
def plain_logp(model: PreTrainedModel, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log-probabilities of plain whole forwards: what all is compared with.

    Args:
        model: Any causal LM.
        ids: Token ids, shape ``(n,)`` or ``(batch, n)``.

    Returns:
        Shape ``(n, V)`` or ``(batch, n, V)``, float64.
    """
    logits = model(input_ids=torch.from_numpy(np.atleast_2d(ids))).logits
    return torch.log_softmax(logits.double(), dim=-1).numpy().reshape(*ids.shape, -1)
