"""Segment-order discrimination: do two segments of a document stand in their own order?"""

from dataclasses import dataclass

import torch

from probe.training.auxiliary import Auxiliary
from probe.training.token_loss import mean_log_likelihoods


@dataclass(frozen=True)
class SegmentOrder(Auxiliary):
    """−log σ of how much likelier two adjacent segments are in their own order than swapped.

    Each order is scored by the mean log-likelihood of all tokens but the first.

    Args:
        weight: What it counts beside the loss of tokens.
        seed: Of the draws.
        segment: Tokens of a segment.
    """

    segment: int = 256

    @property
    def fewest(self) -> int:
        """Tokens of two segments."""
        return 2 * self.segment

    @property
    def forwarded(self) -> int:
        """Tokens of two segments in either order."""
        return 2 * self.fewest

    def of_document(
        self, model: torch.nn.Module, ids: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """See :class:`probe.training.auxiliary.Auxiliary`."""
        start = self._drawn(0, len(ids) - self.fewest + 1, generator)
        first, second = torch.split(ids[start : start + self.fewest], self.segment)
        rows = torch.stack([torch.cat([first, second]), torch.cat([second, first])])
        own, swapped = mean_log_likelihoods(model, rows, first=1)
        return -torch.nn.functional.logsigmoid(own - swapped)
