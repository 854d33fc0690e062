"""Masked language models: a target is predicted in the place of a mask, from both sides."""

import torch
from transformers.cache_utils import Cache

from probe.models.scorer import Scorer, has_gaps


class MaskedModel(Scorer):
    """A masked language model: every token sees all others, and no cache is gone on from."""

    family = "masked"

    def states(
        self,
        ids: torch.Tensor,
        cache: Cache | None = None,
        *,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        keep: bool = True,
    ) -> tuple[torch.Tensor, Cache | None]:
        """See :class:`probe.models.scorer.Scorer`."""
        given: dict[str, torch.Tensor] = {"input_ids": ids}
        if positions is not None:
            given["position_ids"] = positions + self.first_position
        if mask is None and has_gaps(positions):
            # Without a mask transformers takes a gap for the border between packed sequences.
            mask = torch.ones_like(ids)
        if mask is not None:
            given["attention_mask"] = mask
        return self.body(**given).last_hidden_state, None
