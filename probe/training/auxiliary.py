"""Losses of whole sequences, to be added to that of tokens."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch

from probe.errors import UsageError
from probe.training.collate import IGNORED


@dataclass(frozen=True)
class Auxiliary(ABC):
    """A loss of documents that is added to the loss of their tokens.

    Args:
        weight: What it counts beside the loss of tokens, above 0.
        seed: Of the draws.
    """

    weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name == "seed" else 1
            if name == "weight":
                if not 0 < value < float("inf"):
                    raise UsageError(f"weight is {value}; allowed: above 0")
            elif type(value) is not int or value < least:
                raise UsageError(f"{name} is {value!r}; allowed: whole numbers from {least} on")

    @property
    @abstractmethod
    def fewest(self) -> int:
        """Fewest tokens of a document; shorter ones are left out."""

    @property
    @abstractmethod
    def forwarded(self) -> int:
        """Tokens that are forwarded for a document."""

    @abstractmethod
    def of_document(
        self, model: torch.nn.Module, ids: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """The loss of one document, nats, with a gradient.

        Args:
            model: A causal language model.
            ids: Token ids, shape ``(n,)``, at least `fewest`.
            generator: What draws, on the CPU.
        """

    def __call__(
        self, model: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor, step: int
    ) -> torch.Tensor:
        """The mean over the documents of a batch that are long enough, 0 where none is.

        Args:
            model: A causal language model.
            ids: Token ids, a document a row, padded behind, shape ``(batch, n)``.
            labels: Their labels; what is ignored at the end of a row is padding.
            step: What the draws depend on beside the seed.
        """
        losses = []
        for number, (row, own) in enumerate(zip(ids, labels, strict=True)):
            counted = (own != IGNORED).nonzero()
            size = int(counted.max()) + 1 if len(counted) else 0
            if size >= self.fewest:
                draw = np.random.SeedSequence([self.seed, step, number]).generate_state(1)
                generator = torch.Generator().manual_seed(int(draw[0]))
                losses.append(self.of_document(model, row[:size], generator))
        return torch.stack(losses).mean() if losses else torch.zeros((), device=ids.device)

    def _drawn(self, first: int, stop: int, generator: torch.Generator) -> int:
        return int(torch.randint(first, stop, (), generator=generator))
