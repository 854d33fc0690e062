"""FLOPs of a causal model by formula, and the peak of the GPUs that it is on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from probe.attention.costs import Shape

CHIPS = {
    "T4": 65,
    "L4": 121,
    "A100": 312,
    "L40S": 362,
    "H100": 989,
    "H200": 989,
    "MI300X": 1307,
    "B200": 2250,
}
"""TFLOP/s of products in 16 bits without sparsity, as their makers' data sheets have them."""
_OTHER_FORMS = {"PCIE", "NVL", "MIG"}
"""Words in the names of chips that have fewer, and of parts of a chip."""
_KINDS = {"full_attention", "sliding_attention", "chunked_attention"}
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True)
class FlopsFormula:
    """FLOPs of a causal model: products with its weights, of queries with keys, with values.

    A forwarded token is 2 FLOPs a weight of the body, and 4 a layer, dimension of its queries and
    key that it sees. Norms, biases, softmax and what is looked up are not counted, every expert of
    a mixture is.

    Args:
        weights: Numbers in the matrices of the body, without embeddings and head.
        head: Multiplications of a target by the head.
        shape: What attention depends on.
    """

    weights: int
    head: int
    shape: Shape

    @staticmethod
    def of(model: Any, config: Any, vocabulary: int, *, number_bytes: int = 2) -> "FlopsFormula":
        """Read it off a model, which may be without weights.

        Args:
            model: The model of transformers.
            config: Its configuration, for which there is a formula: see :func:`without_formula`.
            vocabulary: Token ids that it knows.
            number_bytes: Bytes of a number in its dtype.
        """
        ends = (*_tables(model), model.get_output_embeddings())
        outside = {id(end.weight) for end in ends if end is not None}
        weights = sum(
            weight.numel()
            for weight in model.parameters()
            if weight.ndim > 1 and id(weight) not in outside
        )
        shape = Shape.of(config, number_bytes=number_bytes)
        return FlopsFormula(weights, config.get_text_config().hidden_size * vocabulary, shape)

    def body(self, tokens: int) -> float:
        """FLOPs of forwarded tokens with the weights of the body."""
        return 2.0 * self.weights * tokens

    def attention(self, start: int, stop: int) -> float:
        """FLOPs of attention, of the tokens ``start … stop`` of a sequence."""
        keys = sum(_keys(stop, one.reach) - _keys(start, one.reach) for one in self.shape.limits)
        return 2.0 * sum(self.shape.dims) * self.shape.heads * keys

    def logits(self, targets: int) -> float:
        """FLOPs of the head."""
        return 2.0 * self.head * targets

    def forwarded(self, pieces: Mapping[tuple[int, int], int]) -> float:
        """FLOPs of the body.

        Args:
            pieces: How often the tokens ``start … stop`` of a sequence were forwarded.
        """
        return sum(
            count * (self.body(stop - start) + self.attention(start, stop))
            for (start, stop), count in pieces.items()
        )

    def cache(self, length: int) -> float:
        """Bytes of keys and values of a window of *length* tokens."""
        held = sum(min(length, limit.reach or length) for limit in self.shape.limits)
        return float(held * self.shape.kv_heads * sum(self.shape.dims) * self.shape.number_bytes)


def without_formula(config: Any) -> str | None:
    """What layers a model has for which there is no formula; ``None`` where there is one.

    Args:
        config: The configuration of a model of transformers.
    """
    text = config.get_text_config()
    if kinds := set(getattr(text, "layer_types", None) or ()) - _KINDS:
        return ", ".join(sorted(kinds))
    if getattr(text, "kv_lora_rank", None):
        return "keys and values of low rank"
    return None if getattr(text, "num_attention_heads", None) else "no attention"


def formula_of(model: Any, body: nn.Module, vocabulary: int) -> FlopsFormula | None:
    """The formula of a loaded model; ``None`` where there is none, or none that is no upper bound.

    Args:
        model: The model of transformers.
        body: Its part that makes hidden states of tokens: images are none of its tokens.
        vocabulary: Token ids that it knows.
    """
    try:
        config = model.config
        # Quantised weights hold several numbers in one.
        plain = all(weight.is_floating_point() for weight in body.parameters())
        experts = any(getattr(config.get_text_config(), name, None) for name in _EXPERTS)
        if not plain or experts or without_formula(config):
            return None
        return FlopsFormula.of(body, config, vocabulary)
    except Exception:  # whatever a family's configuration lacks: nothing measured rests on it
        return None


def peak_of(chip: str) -> float | None:
    """FLOP/s of a chip in 16 bits, by what its driver calls it; ``None`` of one that is not known.

    Args:
        chip: Such as ``NVIDIA A100-SXM4-80GB``.
    """
    words = chip.upper().replace("-", " ").split()
    if not _OTHER_FORMS.isdisjoint(words):
        return None
    return next((peak * 1e12 for name, peak in CHIPS.items() if name.upper() in words), None)


def peak_here(devices: set[torch.device]) -> float | None:
    """FLOP/s in 16 bits of the GPUs of this machine together, where all of them are known.

    Args:
        devices: The devices of a model.
    """
    if not devices or any(device.type != "cuda" for device in devices):
        return None
    peaks = [peak_of(torch.cuda.get_device_name(device)) for device in devices]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) if len(known) == len(peaks) else None


def _tables(model: nn.Module) -> list[nn.Embedding]:
    """What is looked up: embeddings of tokens and positions."""
    return [module for module in model.modules() if isinstance(module, nn.Embedding)]


def _keys(stop: int, reach: int | None) -> float:
    """Keys that the first *stop* tokens of a sequence see, together."""
    near = stop if reach is None else min(stop, reach)
    return near * (near + 1) / 2 + (stop - near) * near
