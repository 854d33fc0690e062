"""Tiny random models of many families, with weights large enough that wrong attention shows."""

from functools import cache
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    PretrainedConfig,
    PreTrainedModel,
)

from probe.engine.selfcheck import Report, check
from probe.models.causal import CausalModel

VOCABULARY = 96
BOS = 0
_SPECIAL = {"bos_token_id": BOS, "eos_token_id": 1, "vocab_size": VOCABULARY}
_PADDED = {**_SPECIAL, "pad_token_id": 2}
_STATE_SPACE = {**_PADDED, "hidden_size": 32, "num_hidden_layers": 3, "initializer_range": 0.2}
_HEADS = {**_STATE_SPACE, "intermediate_size": 48, "num_attention_heads": 4}
_SMALL = {**_HEADS, "num_key_value_heads": 2, "max_position_embeddings": 1024}
_CAPPED = {"head_dim": 8, "sliding_window": 24, "final_logit_softcapping": 5.0}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 16, "mamba_chunk_size": 16}
_OPT = {"num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 48, "init_std": 0.2}
_YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 48}

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "pad_token_id": 2,
    "initializer_range": 0.2,
}
"""The configuration of a family that is not listed below."""
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
}
"""Rotary embeddings whose angles go by the length of a sequence."""


def _alternating(first: str, second: str = "full_attention") -> dict[str, list[str]]:
    return {"layer_types": [first, second, first]}


CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _SMALL),
    "gpt2": (
        "GPT2",
        {**_SPECIAL, "n_embd": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.2},
    ),
    "gpt_neox": ("GPTNeoX", {**_HEADS, "max_position_embeddings": 1024}),
    "opt": (
        "OPT",
        {
            **_PADDED,
            **_OPT,
            "hidden_size": 32,
            "max_position_embeddings": 1024,
            "word_embed_proj_dim": 16,
        },
    ),
    "bloom": (
        "Bloom",
        {**_PADDED, "hidden_size": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.2},
    ),
    "falcon": (
        "Falcon",
        {
            **_SPECIAL,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "initializer_range": 0.2,
            "alibi": True,
        },
    ),
    "mpt": (
        "Mpt",
        {
            "vocab_size": VOCABULARY,
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 3,
            "max_seq_len": 1024,
            "initializer_range": 0.2,
        },
    ),
    "cohere": ("Cohere", {**_SMALL, "logit_scale": 0.5}),
    "granite": ("Granite", {**_SMALL, "logits_scaling": 3.0}),
    "mistral": ("Mistral", {**_SMALL, "sliding_window": 24}),
    "gemma2": ("Gemma2", {**_SMALL, **_CAPPED, "attn_logit_softcapping": 5.0}),
    "gemma3": ("Gemma3Text", {**_SMALL, **_CAPPED, **_alternating("sliding_attention")}),
    "mamba": ("Mamba", _STATE_SPACE),
    "mamba2": (
        "Mamba2",
        {
            **_STATE_SPACE,
            "num_heads": 8,
            "head_dim": 8,
            "n_groups": 2,
            "state_size": 16,
            "chunk_size": 16,
        },
    ),
    "qwen3_next": (
        "Qwen3Next",
        {
            **_SMALL,
            **_EXPERTS,
            **_alternating("linear_attention"),
            "head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "num_experts": 4,
            "shared_expert_intermediate_size": 16,
        },
    ),
}
"""Those that every test of the engine goes through: transformers' name, and small sizes."""
FAMILIES = tuple(CONFIGS)
RECURRENT = ("mamba", "mamba2", "qwen3_next")
SLIDING = ("mistral", "gemma2", "gemma3")

CONFIGS |= {
    "falcon_mamba": ("FalconMamba", _STATE_SPACE),
    "jamba": (
        "Jamba",
        {
            **_SMALL,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "num_experts": 4,
        },
    ),
    "bamba": ("Bamba", {**_SMALL, **_MAMBA, "attn_layer_indices": [1]}),
    "zamba2": (
        "Zamba2",
        {
            **_SMALL,
            "layers_block_type": ["mamba", "hybrid", "mamba"],
            "n_mamba_heads": 8,
            "mamba_d_state": 16,
            "chunk_size": 16,
            "num_key_value_heads": 4,
        },
    ),
    "nemotron_h": (
        "NemotronH",
        {
            **{k: v for k, v in _SMALL.items() if k != "num_hidden_layers"},
            "layers_block_type": ["mamba", "attention", "mlp", "mamba"],
            "head_dim": 8,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 16,
            "n_groups": 2,
            "chunk_size": 16,
        },
    ),
    "granite_hybrid": (
        "GraniteMoeHybrid",
        {
            **_SMALL,
            **_MAMBA,
            "layer_types": ["mamba", "attention", "mamba"],
            "shared_intermediate_size": 48,
            "num_local_experts": 4,
        },
    ),
    "lfm2": ("Lfm2", {**_SMALL, **_alternating("conv")}),
    "rwkv": ("Rwkv", {**_SPECIAL, "hidden_size": 32, "num_hidden_layers": 3}),
    "recurrent_gemma": (
        "RecurrentGemma",
        {
            **_HEADS,
            "attention_window_size": 24,
            "num_key_value_heads": 1,
            "w_init_variance_scale": 1.0,
        },
    ),
    "falcon_h1": ("FalconH1", {**_SMALL, **_MAMBA, "mamba_d_ssm": 64}),
    "minimax": (
        "MiniMax",
        {
            **_SMALL,
            **_alternating("linear_attention"),
            "block_size": 16,
            "num_local_experts": 4,
            "head_dim": 8,
        },
    ),
    "gemma3n": (
        "Gemma3nText",
        {
            **_SMALL,
            **_CAPPED,
            **_alternating("sliding_attention"),
            "vocab_size_per_layer_input": VOCABULARY,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 1,
            "laurel_rank": 4,
            "altup_num_inputs": 2,
            "activation_sparsity_pattern": None,
        },
    ),
    "gpt_oss": (
        "GptOss",
        {
            **_SMALL,
            **_alternating("sliding_attention"),
            "head_dim": 8,
            "sliding_window": 24,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    "deepseek_v3": (
        "DeepseekV3",
        {
            **_SMALL,
            **_EXPERTS,
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "n_group": 2,
            "topk_group": 1,
            "q_lora_rank": 16,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "first_k_dense_replace": 1,
        },
    ),
    "llama4": (
        "Llama4Text",
        {
            **_SMALL,
            "layer_types": ["chunked_attention", "full_attention", "chunked_attention"],
            "head_dim": 8,
            "attention_chunk_size": 24,
            "num_local_experts": 4,
            "intermediate_size_mlp": 48,
        },
    ),
    "llama_dynamic": (
        "Llama",
        {
            **_SMALL,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0},
        },
    ),
    "llama_yarn": (
        "Llama",
        {
            **_SMALL,
            "rope_parameters": {**_YARN, "rope_theta": 100.0},
            "max_position_embeddings": 96,
        },
    ),
    "cohere2": (
        "Cohere2",
        {**_SMALL, **_alternating("sliding_attention"), "sliding_window": 24, "logit_scale": 0.5},
    ),
    "smollm3": ("SmolLM3", {**_SMALL, "no_rope_layer_interval": 2}),
    "olmo3": ("Olmo3", {**_SMALL, **_alternating("sliding_attention"), "sliding_window": 24}),
    "ernie4_5": ("Ernie4_5", {**_SMALL, "head_dim": 8}),
    "mixtral": ("Mixtral", {**_SMALL, "num_local_experts": 4}),
    "qwen2_moe": (
        "Qwen2Moe",
        {**_SMALL, **_EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 16},
    ),
    "glm4_moe": ("Glm4Moe", {**_SMALL, **_EXPERTS, "n_routed_experts": 4}),
    "diffllama": ("DiffLlama", _SMALL),
    "gpt_neo": (
        "GPTNeo",
        {
            **_SPECIAL,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 24,
            "max_position_embeddings": 1024,
            "initializer_range": 0.2,
        },
    ),
    "xglm": (
        "XGLM",
        {
            **_PADDED,
            "d_model": 32,
            "ffn_dim": 48,
            "num_layers": 3,
            "attention_heads": 4,
            "max_position_embeddings": 1024,
            "init_std": 0.2,
        },
    ),
    "bart_decoder": (
        "Bart",
        {
            **_PADDED,
            "d_model": 32,
            "decoder_layers": 3,
            "decoder_ffn_dim": 48,
            "decoder_attention_heads": 4,
            "max_position_embeddings": 1024,
            "init_std": 0.2,
            "is_decoder": True,
            "is_encoder_decoder": False,
        },
    ),
}
"""Further ones, for `test_families.py` alone."""


def tiny(
    family: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any
) -> PreTrainedModel:
    """A random model of *family* in evaluation mode.

    Args:
        family: One of ``CONFIGS``.
        seed: Seed of its weights.
        dtype: Of its weights.
        changes: Fields of the configuration that differ from ours.
    """
    name, sizes = CONFIGS[family]
    config: PretrainedConfig = getattr(transformers, f"{name}Config")(**(sizes | changes))
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


MASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", SMALL),
    "roberta": ("Roberta", {**SMALL, "max_position_embeddings": 515}),
    "albert": ("Albert", {**SMALL, "embedding_size": 16}),
    "deberta": (
        "DebertaV2",
        {
            **SMALL,
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["c2p", "p2c"],
        },
    ),
    "modernbert": (
        "ModernBert",
        {**SMALL, "local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 0},
    ),
    "distilbert": (
        "DistilBert",
        {"vocab_size": VOCABULARY, "dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4}
        | {"pad_token_id": 2, "initializer_range": 0.2},
    ),
    "electra": ("Electra", {**SMALL, "embedding_size": 16}),
}
"""Masked language models."""


def tiny_masked(family: str, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random masked model of a family of ``MASKED`` in evaluation mode."""
    name, sizes = MASKED[family]
    config: PretrainedConfig = getattr(transformers, f"{name}Config")(**(sizes | changes))
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
    return model.eval()


_BART = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 256,
    "init_std": 0.2,
    "bos_token_id": BOS,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
}
SEQ2SEQ: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": (
        "T5",
        {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4}
        | {"num_layers": 2, "initializer_factor": 2.0, "decoder_start_token_id": 2}
        | {"pad_token_id": 2, "eos_token_id": 1},
    ),
    "bart": ("Bart", _BART),
    "marian": ("Marian", {**_BART, "decoder_start_token_id": 2}),
    "mbart": ("MBart", _BART),
    "pegasus": ("Pegasus", {**_BART, "decoder_start_token_id": 2}),
}
"""Encoder–decoders."""


def tiny_seq2seq(family: str, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random encoder–decoder of a family of ``SEQ2SEQ`` in evaluation mode."""
    name, sizes = SEQ2SEQ[family]
    config: PretrainedConfig = getattr(transformers, f"{name}Config")(**(sizes | changes))
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32)
    return model.eval()


_SPEECH = {
    **{key: value for key, value in _BART.items() if key != "max_position_embeddings"},
    "max_target_positions": 128,
    "decoder_start_token_id": 0,
}
SPEECH: dict[str, tuple[str, dict[str, Any]]] = {
    "whisper": ("Whisper", {**_SPEECH, "num_mel_bins": 16, "max_source_positions": 100}),
    "speech_to_text": (
        "Speech2Text",
        {**_SPEECH, "input_feat_per_channel": 16, "conv_channels": 32, "max_source_positions": 256},
    ),
    "moonshine": (
        "Moonshine",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48}
        | {"encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2}
        | {"encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4}
        | {"encoder_num_key_value_heads": 4, "decoder_num_key_value_heads": 4}
        | {"initializer_range": 0.2, "decoder_start_token_id": 0, "bos_token_id": 0}
        | {"eos_token_id": 1, "pad_token_id": 2, "max_position_embeddings": 128},
    ),
}
"""Speech models; of Whisper one that hears 2 s."""


def tiny_speech(family: str, *, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random speech model of a family of ``SPEECH`` in evaluation mode."""
    name, sizes = SPEECH[family]
    config: PretrainedConfig = getattr(transformers, f"{name}Config")(**(sizes | changes))
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForSpeechSeq2Seq.from_config(config, dtype=torch.float32)
    if family == "whisper":
        heads = [[0, 1], [1, 0], [1, 3]]
        model.generation_config = transformers.GenerationConfig(alignment_heads=heads)
    return model.eval()


def extractor_of(family: str) -> Any:
    """The feature extractor of a model of `tiny_speech`."""
    if family == "whisper":
        return transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=2)
    if family == "speech_to_text":
        return transformers.Speech2TextFeatureExtractor(feature_size=16, num_mel_bins=16)
    return transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
