"""Whether a model supports patterns: several accept them and go on attending as before."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from probe.errors import UsageError
from probe.text import shown

TOKENS = 8  # of a probe forward


@dataclass(frozen=True)
class Support:
    """What probe forwards showed of a model that supports patterns.

    Args:
        layers: Number of its layers.
        heads: Query heads of a layer, the most.
        symmetric: Whether queries see later keys, as in encoders.
        cached: Key-value heads, and dimensions of keys and values, as attention is handed them.
    """

    layers: int
    heads: int
    symmetric: bool
    cached: tuple[int, int, int]


class LayerCalls:
    """Which layers called the attention function of a hook, and with how many heads."""

    def __init__(self) -> None:
        self.heads = 0
        self.cached = (0, 0, 0)
        self._layers: dict[nn.Module, int] = {}

    @property
    def layers(self) -> frozenset[int]:
        """Numbers of the layers."""
        return frozenset(self._layers.values())

    def layer(self, module: nn.Module, heads: int) -> int:
        """Note a call, and give back the number of its layer.

        Args:
            module: The attention module that calls, which mostly knows its number; of the others
                the first is 0.
            heads: Number of its query heads.
        """
        self.heads = max(self.heads, heads)
        if module not in self._layers:
            number = getattr(module, "layer_idx", None)
            self._layers[module] = number if isinstance(number, int) else len(self._layers)
        return self._layers[module]


def refuse_unsupported(model: PreTrainedModel, calls: LayerCalls, pattern: str) -> int:
    """Forward a few tokens and refuse a model of which a layer did not call the hook.

    Such a layer sees what the pattern hides: no attention function reaches Bloom, MPT, Falcon and
    Mamba, which would all show that hiding costs nothing.

    Args:
        model: The model, with a hook attached.
        calls: Where the hook notes its calls.
        pattern: The pattern's text.

    Returns:
        Number of the model's layers.

    Raises:
        UsageError: Naming the model.
    """
    family = type(model).__name__
    try:
        probe_forward(model)
    except UsageError:
        raise
    except Exception as error:  # whatever a family does with a mask that it did not expect
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(f"pattern {shown(pattern)} cannot be put on {family}: {reason}") from error
    layers = int(getattr(model.config.get_text_config(), "num_hidden_layers", 1))
    missing = [str(layer) for layer in range(layers) if layer not in calls.layers]
    if missing:
        which = "none" if len(missing) == layers else f"all but {', '.join(missing)}"
        raise UsageError(
            f"pattern {shown(pattern)} cannot be put on {family}: {which} of its {layers} layers "
            "uses transformers' attention interface; allowed: models of which every layer does, "
            "such as Llama or GPT-2"
        )
    return layers


def refuse_leaks(model: PreTrainedModel, pattern: str) -> None:
    """Refuse a model in which text reaches a token though attention shows it nothing.

    To be called while every layer sees a query's own key alone. Recurrent parts beside attention
    (Falcon-H1) go on remembering what a pattern hides, and delta would say that hiding is free.

    Args:
        model: The model, under ``local(1, sinks=0)``.
        pattern: Text of the pattern that it is asked for.

    Raises:
        UsageError: Naming the model.
    """
    ids = torch.zeros((2, TOKENS), dtype=torch.long, device=model.device)
    ids[1, 0] = 1  # another first token must not move what is said behind the last
    last = probe_forward(model, ids)[:, -1].float()
    scale = max(1e-6, float(last.abs().max()))
    if float((last[0] - last[1]).abs().max()) > 1e-4 * scale:
        raise UsageError(
            f"pattern {shown(pattern)} cannot be put on {type(model).__name__}: text reaches a "
            "token although attention hides it, as through recurrent layers; allowed: models that "
            "read by attention alone, such as Llama or GPT-2"
        )


def attention_settings(model: PreTrainedModel) -> list[tuple[PretrainedConfig, str | None]]:
    """Every configuration of a model and its parts, outer ones first, with its attention."""
    by_id: dict[int, PretrainedConfig] = {}
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            for config in _nested(module.config):
                by_id.setdefault(id(config), config)
    return [(config, config._attn_implementation) for config in by_id.values()]


def _nested(config: PretrainedConfig) -> Iterator[PretrainedConfig]:
    yield config
    for name in config.sub_configs:
        if (part := getattr(config, name, None)) is not None:
            yield from _nested(part)


@torch.inference_mode()
def probe_forward(model: PreTrainedModel, ids: torch.Tensor | None = None) -> torch.Tensor:
    """The first output of a forward, by default of eight equal tokens, ``(batch, tokens, n)``."""
    if ids is None:
        ids = torch.zeros((1, TOKENS), dtype=torch.long, device=model.device)
    caches = "use_cache" in inspect.signature(model.forward).parameters
    output = model(input_ids=ids, **({"use_cache": False} if caches else {}))
    first: torch.Tensor = output[0]
    return first
