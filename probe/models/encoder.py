"""Encoders without a head: what is measured is the last hidden state of each token."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from probe.errors import ProbeError
from probe.models.masked import MaskedModel


class EncoderModel(MaskedModel):
    """An encoder: every token sees all others, and nothing is predicted.

    Of a model with a head the encoder alone is taken; a pooler is forwarded and not read.
    """

    family = "encoder"
    has_head = False
    unread = ("pooler.",)

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(getattr(model, "base_model", model))

    def _find_body(self) -> tuple[nn.Module, Any]:
        """The model itself, and its output for four tokens."""
        ids = torch.zeros((1, 4), dtype=torch.long, device=self.model.device)
        with torch.inference_mode():
            output = self.model(input_ids=ids)
        if getattr(output, "last_hidden_state", None) is None:
            raise ProbeError(
                f"{type(self.model).__name__} is no encoder of transformers: it returns no "
                "last_hidden_state"
            )
        return self.model, output

    def difference(
        self, states: torch.Tensor, others: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """How far states are from others, both at length 1, float32.

        Args:
            states: Hidden states, shape ``(m, d)``.
            others: Those of the same tokens, same shape.
            labels: Not needed: nothing is predicted.

        Returns:
            Shape ``(m,)``; *x* is the square root of 2 (1 − cosine).
        """
        return torch.sqrt((unit(states) - unit(others)).square().sum(dim=-1))


def unit(states: torch.Tensor) -> torch.Tensor:
    """Hidden states at length 1, float32; one without any direction is NaN."""
    wide = states.float()
    return wide / torch.sqrt(wide.square().sum(dim=-1, keepdim=True))
