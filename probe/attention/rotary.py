"""Keys turned out of their rotary positions and into others, by the model's own functions.

transformers hands an attention function keys that are rotated already, and no angles. A model's
rotary module gives the angles of any positions, and the function beside its attention class turns
by them; turning by the negative angle undoes it.
"""

import inspect
import sys
from collections.abc import Collection
from typing import Any, NoReturn

import torch
from torch import nn
from transformers import PreTrainedModel

from probe.attention.forward import Heads, Visible
from probe.attention.hook import PatternHook, attached, probe_forward
from probe.attention.pattern import HeadRule, Pattern
from probe.errors import UsageError
from probe.text import shown

_TOLERANCE = {torch.float32: 1e-3}  # of the largest number; rounded dtypes below
_ROUNDED = 0.05


class Rotary:
    """The rotary position embedding of a model.

    Args:
        model: The model.
        pattern: What it is needed for, for errors.

    Raises:
        UsageError: If the model has none, or several.
    """

    def __init__(self, model: PreTrainedModel, pattern: str) -> None:
        embeddings = [
            module
            for module in model.modules()
            if "Rotary" in type(module).__name__ and "position_ids" in _parameters(module)
        ]
        self.pattern, self.family = pattern, type(model).__name__
        if len(embeddings) != 1:
            self.refuse(f"{len(embeddings)} rotary embeddings")
        self._module, self._config = embeddings[0], model.config.get_text_config()

    def turn(
        self,
        attention: nn.Module,
        layer: int,
        keys: torch.Tensor,
        positions: torch.Tensor,
        *,
        length: int,
        back: bool = False,
    ) -> torch.Tensor:
        """Turn keys as the model turns those at some positions.

        Args:
            attention: The attention module of their layer.
            layer: Its number.
            keys: Shape ``(batch, heads, n, d)``.
            positions: Shape ``(n,)``, whole or not.
            length: Tokens of the sequence, which some embeddings choose their angles by.
            back: Turn keys at these positions back to 0.

        Returns:
            Shape ``(batch, heads, n, d)``, float32.
        """
        given: dict[str, Any] = {}
        if "layer_type" in _parameters(self._module):
            given["layer_type"] = self._config.layer_types[layer]
        keys = keys.float()
        places = torch.cat([positions, positions.new_tensor([length - 1])])
        angles = self._module(keys, position_ids=places[None], **given)
        cos, sin = (angle[:, :-1] for angle in angles)
        size = (cos * cos + sin * sin).mean()  # some embeddings scale keys by its root
        if back:
            cos, sin = cos / size, -sin / size
        turn = getattr(sys.modules[type(attention).__module__], "apply_rotary_pos_emb", None)
        turned = keys[..., : cos.shape[-1]]
        if turn is None:
            self.refuse("no apply_rotary_pos_emb beside its attention")
        _, turned = turn(turned, turned, cos, sin)
        return torch.cat([turned, keys[..., cos.shape[-1] :]], dim=-1)

    def refuse(self, what: str) -> NoReturn:
        """Say that the model cannot take this pattern.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            f"pattern {shown(self.pattern)} cannot be put on {self.family}, which has {what}; "
            "allowed: before_rope=False, or models that rotate the keys of every layer, such as "
            "Llama"
        )


def refuse_other_rotation(model: PreTrainedModel, rotary: Rotary) -> None:
    """Refuse a model whose keys are not rotated by its rotary embedding, or not by it alone.

    Tried on a text of one token repeated, whose keys differ by their rotation alone: every token of
    it is the same in every layer, so that keys turned back must be, too.

    Args:
        model: The model.
        rotary: Its rotary embedding.

    Raises:
        UsageError: Naming the first layer whose keys differ.
    """
    recorder = _KeyRecorder(Pattern(rotary.pattern, ()), rotary.family)
    with attached(model, recorder):
        probe_forward(model)
    for layer, (module, keys) in recorder.keys.items():
        positions = torch.arange(keys.shape[2], device=keys.device)
        turned = rotary.turn(module, layer, keys, positions, length=len(positions), back=True)
        apart = float((turned - turned[:, :, :1]).abs().max())
        if apart > _TOLERANCE.get(keys.dtype, _ROUNDED) * float(turned.abs().max()):
            rotary.refuse(f"keys in layer {layer} that are not those of its rotary embedding")


class _KeyRecorder(PatternHook):
    """Full attention that records the keys of every layer."""

    def __init__(self, pattern: Pattern, family: str) -> None:
        super().__init__(pattern, family)
        self.keys: dict[int, tuple[nn.Module, torch.Tensor]] = {}

    def _attend(
        self, module: nn.Module, heads: Heads, rule: HeadRule, visible: Visible
    ) -> torch.Tensor:
        self.keys[heads.layer] = module, heads.key
        return super()._attend(module, heads, rule, visible)


def _parameters(module: nn.Module) -> Collection[str]:
    return inspect.signature(module.forward).parameters
