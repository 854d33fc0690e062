"""Tiny random models of many families, with weights large enough that wrong attention shows."""

import torch
from transformers import (
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
    PreTrainedModel,
    Qwen3NextConfig,
)
from transformers import AutoModelForCausalLM

VOCABULARY = 96
_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
_NO_KV = {k: v for k, v in _SMALL.items() if k != "num_key_value_heads"}


def _configs():
    return {
        "llama": LlamaConfig(**_SMALL),
        "gpt2": GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=1024,
            initializer_range=0.2, bos_token_id=0, eos_token_id=1,
        ),
        "gpt_neox": GPTNeoXConfig(**_NO_KV),
        "opt": OPTConfig(
            vocab_size=VOCABULARY, hidden_size=32, ffn_dim=48, num_hidden_layers=3,
            num_attention_heads=4, max_position_embeddings=1024, word_embed_proj_dim=16,
            init_std=0.2, bos_token_id=0, eos_token_id=1, pad_token_id=2,
        ),
        "bloom": BloomConfig(
            vocab_size=VOCABULARY, hidden_size=32, n_layer=3, n_head=4, initializer_range=0.2,
            bos_token_id=0, eos_token_id=1, pad_token_id=2,
        ),
        "falcon": FalconConfig(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
            initializer_range=0.2, alibi=True, bos_token_id=0, eos_token_id=1,
        ),
        "mpt": MptConfig(vocab_size=VOCABULARY, d_model=32, n_heads=4, n_layers=3,
                         max_seq_len=1024, initializer_range=0.2),
        "cohere": CohereConfig(**_SMALL, logit_scale=0.5),
        "granite": GraniteConfig(**_SMALL, logits_scaling=3.0),
        "mistral": MistralConfig(**_SMALL, sliding_window=24),
        "gemma2": Gemma2Config(**_SMALL, head_dim=8, sliding_window=24,
                               final_logit_softcapping=5.0, attn_logit_softcapping=5.0),
        "gemma3": Gemma3TextConfig(**_SMALL, head_dim=8, sliding_window=24,
                                   final_logit_softcapping=5.0,
                                   layer_types=["sliding_attention", "full_attention",
                                                "sliding_attention"]),
        "mamba": MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3,
                             initializer_range=0.2, bos_token_id=0, eos_token_id=1,
                             pad_token_id=2),
        "mamba2": Mamba2Config(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3,
                               num_heads=8, head_dim=8, n_groups=2, state_size=16, chunk_size=16,
                               initializer_range=0.2, bos_token_id=0, eos_token_id=1,
                               pad_token_id=2),
        "qwen3_next": Qwen3NextConfig(
            **_SMALL, head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4,
            linear_key_head_dim=8, linear_value_head_dim=8, num_experts=4, num_experts_per_tok=2,
            moe_intermediate_size=16, shared_expert_intermediate_size=16,
            layer_types=["linear_attention", "full_attention", "linear_attention"],
        ),
    }


FAMILIES = tuple(_configs())
RECURRENT = ("mamba", "mamba2", "qwen3_next")
SLIDING = ("mistral", "gemma2", "gemma3")


def tiny(family: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes) -> PreTrainedModel:
    """A random model of *family* in evaluation mode."""
    config = _configs()[family]
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval()
