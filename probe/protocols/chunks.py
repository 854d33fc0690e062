"""`chunks`: windows cut into chunks, each read without the rest, and what becomes of embeddings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from probe.corpus.windows import Window
from probe.errors import UsageError
from probe.protocols.base import (
    ANY_MODEL,
    Inputs,
    ModelFacts,
    Plan,
    Protocol,
    WindowsConfig,
    with_windows,
)
from probe.protocols.branches import FAR_LANE, Draw, Scored, TargetRun
from probe.protocols.registry import register
from probe.protocols.surrounded import BothSides
from probe.results.record import Reading
from probe.text import shown

_LENGTH = 510  # tokens of a window: 512 positions less those of two special tokens
_MEASURE = "embedding"


@register
class ChunksProtocol(Protocol):
    """Windows are cut into chunks, and an encoder reads each without the rest (embeddings)."""

    order = 85
    finding = "edges"
    family = "encoder"
    has_length = False
    few_documents = "no interval will be given"

    kind: Literal["chunks"] = "chunks"
    chunk: list[Annotated[int, Field(ge=1)]] | None = None
    """tokens of a chunk; null: an eighth, a quarter and a half of the window"""

    @classmethod
    def defaults(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Embeddings are measured, in windows as long as most encoders allow."""
        return {"measures": [_MEASURE], **with_windows(content, length=_LENGTH)}

    @classmethod
    def reading(cls, options: Mapping[str, Any]) -> Reading:
        """What stands in the place of a loss."""
        return Reading(measure=_MEASURE)

    def check_measures(self, measures: Sequence[str]) -> None:
        """An encoder predicts nothing.

        Raises:
            ValueError: If anything else than its embeddings is to be measured.
        """
        if any(measure != _MEASURE for measure in measures):
            raise ValueError(
                f"allowed with protocol {self.kind}, whose models predict nothing: {_MEASURE}"
            )

    def plan(self, windows: WindowsConfig, model: ModelFacts = ANY_MODEL) -> "ChunksPlan":
        """What is measured of such windows.

        Raises:
            UsageError: If a chunk is no part of them.
        """
        length = windows.fixed
        sizes = [length // part for part in (8, 4, 2)] if self.chunk is None else self.chunk
        if not sizes or max(sizes) >= length:
            raise UsageError(
                f"protocol.chunk is {shown(self.chunk)}; allowed: one or more from 1 to "
                f"{length - 1}, so that windows of {length} tokens are cut"
            )
        return ChunksPlan(windows, model, tuple(sorted(set(sizes))))


@dataclass(frozen=True)
class ChunksPlan(Plan):
    """Every token of a window, in the whole of it and in its chunk.

    The distance of a token is that from the nearest place where its chunk is cut: how many tokens
    stand between. The window's own ends are no cuts, as the whole window ends there too.

    Source: chunks that are embedded one by one against the same tokens of a whole text, both pooled
    by their mean, Günther et al. 2024; the change of each token by its distance from a cut is ours.

    Args:
        sizes: Tokens of a chunk, rising; the last of a window may have fewer.
    """

    sizes: tuple[int, ...]

    def runs(self, shared: bool) -> tuple[TargetRun, ...]:
        """The chunks of every size: no branch is made of these, see `branches`."""
        return tuple(
            TargetRun(chunk.start, chunk.start, chunk.stop)
            for size in self.sizes
            for chunk in self._chunks(size)
        )

    @property
    def reach(self) -> int:
        """Longest distance plus one: a chunk at the window's end is cut on one side alone."""
        return max(self.sizes)

    @property
    def longest_far(self) -> int:
        """Most tokens of a far text, on one side."""
        shortest = min(self.sizes)
        first, *_, last = self._chunks(shortest)
        return int(max(self.length - first.stop, last.start))

    def _chunks(self, size: int) -> list[slice]:
        starts = range(0, self.length, size)
        return [slice(start, min(start + size, self.length)) for start in starts]

    def branches(self, window: Window, draws: Iterable[Draw], inputs: Inputs) -> list[Scored]:
        """The whole window, then of each draw and size every chunk."""
        tokens = slice(0, self.length)
        intact = BothSides(window, window.ids, self.model).whole(tokens)
        first = Scored(intact, "intact", 0, window.start, -1, -1, boundary_right=-1, chunk=-1)
        return [first] + [
            self._chunk(window, number, chunk, size, draw, inputs)
            for draw in draws
            for size in self.sizes
            for number, chunk in enumerate(self._chunks(size))
        ]

    def _chunk(
        self, window: Window, number: int, chunk: slice, size: int, draw: Draw, inputs: Inputs
    ) -> Scored:
        """A chunk whose surroundings are changed by a draw."""
        read = BothSides(window, window.ids, self.model)
        branch, before = read.surrounded(chunk, chunk, draw, inputs)
        if draw.condition.is_noise:  # a forward of its own for each, as other conditions have it
            branch = replace(branch, keys=branch.keys + number * FAR_LANE)
        origin, is_last = window.start, chunk.stop == self.length
        boundary = origin + (chunk.start or chunk.stop)
        return Scored(
            branch,
            draw.condition.text,
            draw.repeat,
            origin + chunk.start,
            origin if before else boundary,
            boundary,
            from_cuts(chunk, self.length),
            -1 if is_last else origin + chunk.stop,
            chunk=size,
        )


def from_cuts(chunk: slice, length: int) -> NDArray[np.int64]:
    """Tokens between each token of a chunk and the nearest place where the chunk is cut.

    Args:
        chunk: Places of the chunk in its window, which is longer.
        length: Tokens of the window.

    Returns:
        Shape ``(chunk,)``, int64; the window's ends are no cuts.
    """
    places = np.arange(chunk.start, chunk.stop)
    left = places - chunk.start if chunk.start > 0 else np.full(len(places), length)
    right = chunk.stop - 1 - places if chunk.stop < length else np.full(len(places), length)
    nearest: NDArray[np.int64] = np.minimum(left, right)
    return nearest
