"""Next-segment choice: which of several segments of a document follows its beginning."""

from dataclasses import dataclass

import torch

from probe.training.auxiliary import Auxiliary
from probe.training.token_loss import mean_log_likelihoods


@dataclass(frozen=True)
class NextSegment(Auxiliary):
    """−log softmax of the true next segment's mean log-likelihood among those of distractors.

    The distractors are other segments of the same document, as long as the true one and drawn from
    what stands before and behind it; all are scored behind the same context, so that only a model
    that reads the context can tell them apart.

    Args:
        weight: What it counts beside the loss of tokens.
        seed: Of the draws.
        context: Tokens before the segments.
        segment: Tokens of a segment.
        distractors: How many a document, as far as it has others.

    Source: protocol ``suffix`` as a loss.
    """

    context: int = 512
    segment: int = 64
    distractors: int = 3

    @property
    def fewest(self) -> int:
        """Tokens of a document with a context, a segment and another one behind it."""
        return self.context + 2 * self.segment

    @property
    def forwarded(self) -> int:
        """Tokens of every candidate behind its context."""
        return (self.context + self.segment) * (1 + self.distractors)

    def of_document(
        self, model: torch.nn.Module, ids: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """See :class:`probe.training.auxiliary.Auxiliary`."""
        size, length = len(ids), self.segment
        last = size - length
        start = self._drawn(self.context, last + 1, generator)
        others = [at for at in range(0, last + 1, length) if abs(at - start) >= length]
        order = torch.randperm(len(others), generator=generator)[: self.distractors].tolist()
        starts = [start, *(others[number] for number in order)]
        context = ids[start - self.context : start]
        rows = torch.stack([torch.cat([context, ids[at : at + length]]) for at in starts])
        scores = mean_log_likelihoods(model, rows, first=self.context)
        return -torch.log_softmax(scores, 0)[0]
