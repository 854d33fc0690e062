"""FLOPs of a causal model by formula, and the peak of the chips that it is on."""

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
_KINDS = {"full_attention", "sliding_attention", "chunked_attention"}


@dataclass(frozen=True)
class Products:
    """The products of a causal model: with its weights, and of queries with keys and values.

    A forwarded token is 2 FLOPs a parameter of the body, and 4 a layer, dimension of its queries
    and key that it sees: of its window those before it, on average, and of layers that see the
    nearest keys alone no more than these. Weights of a mixture of experts are all counted.

    Args:
        parameters: Of the body, without embeddings and head.
        head: Multiplications of a target by the head.
        shape: What attention depends on.
    """

    parameters: int
    head: int
    shape: Shape

    @staticmethod
    def of(model: nn.Module, config: Any, vocabulary: int, *, number_bytes: int = 2) -> "Products":
        """Read them off a model, which may be without weights.

        Args:
            model: The model of transformers.
            config: Its configuration, for which there is a formula: see :func:`without_formula`.
            vocabulary: Token ids that it knows.
            number_bytes: Bytes of a number in its dtype.
        """
        ends = (model.get_input_embeddings(), model.get_output_embeddings())  # type: ignore[operator]
        outside = {id(end.weight): end.weight.numel() for end in ends if end is not None}
        parameters = sum(weight.numel() for weight in model.parameters()) - sum(outside.values())
        text = config.get_text_config()
        shape = Shape.of(config, number_bytes=number_bytes)
        return Products(parameters, text.hidden_size * vocabulary, shape)

    def body(self, tokens: int) -> float:
        """FLOPs of forwarded tokens with the weights of the body."""
        return 2.0 * self.parameters * tokens

    def attention(self, tokens: int, length: int) -> float:
        """FLOPs of attention.

        Args:
            tokens: Forwarded tokens.
            length: Tokens of the windows that they are of.
        """
        seen = sum(_seen(length, limit.reach) for limit in self.shape.limits)
        return 2.0 * sum(self.shape.dims) * self.shape.heads * seen * tokens

    def logits(self, targets: int) -> float:
        """FLOPs of the head."""
        return 2.0 * self.head * targets

    def flops(self, tokens: int, length: int, targets: int) -> float:
        """All of them: of tokens that are forwarded in windows, and of targets."""
        return self.body(tokens) + self.attention(tokens, length) + self.logits(targets)

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


def peak_of(chip: str) -> float | None:
    """FLOP/s of a chip in 16 bits, by what its driver calls it; ``None`` of one that is not known.

    Args:
        chip: Such as ``NVIDIA A100-SXM4-80GB``.
    """
    words = chip.upper().replace("-", " ").split()
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


def _seen(length: int, reach: int | None) -> float:
    """Keys that a token sees, the mean over a window."""
    if reach is None or reach >= length:
        return (length + 1) / 2
    return reach - reach * (reach - 1) / (2 * length)
