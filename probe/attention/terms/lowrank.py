"""Low-rank far context: near queries see a compressed form of the far keys and values.

Far queries, near keys and the first token are left exact. Keys are compressed as they are
cached, after rotary position embeddings, per layer and key-value head, unless told otherwise.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

from probe import checks
from probe.attention.term import Bounds, Natural, Positive, Term, register

if TYPE_CHECKING:  # parsing a pattern needs no torch
    from torch import Tensor

Turn = Callable[..., "Tensor"]
"""Turns keys to positions, as a model's rotary embedding does; see `LowRank.compress`."""
_MOST_ROWS = 1 << 16  # of a random matrix, which is made for every layer and head


class LowRank(Term):
    """What all low-rank patterns have.

    Args:
        k: How many keys, or which rank.
    """

    k: int
    needs_boundary = True

    @abstractmethod
    def compress(
        self, keys: "Tensor", values: "Tensor", *, layer: int = 0, turn: Turn | None = None
    ) -> "tuple[Tensor, Tensor, Tensor]":
        """Compress the far keys and values of one layer.

        Args:
            keys: Shape ``(batch, heads, n, d)``, of the key-value heads.
            values: Shape ``(batch, heads, n, e)``.
            layer: Number of the layer.
            turn: Turns keys to positions, ``turn(keys, positions)``, or from there to 0 with
                ``back=True``, as the model's rotary embedding does.

        Returns:
            Keys ``(batch, heads, m, d)`` and values ``(batch, heads, m, e)`` of the same dtype, and
            what is added to the logit of each, shape ``(m,)``, float32.
        """

    def seen(self, far: int) -> int:
        """How many keys stand in for *far* keys."""
        return min(self.k, far)

    def exact(self, far: int, dims: tuple[int, int]) -> bool:
        """Whether nothing is lost of *far* keys."""
        return False

    def numbers(self, far: int, dims: tuple[int, int]) -> int:
        """Numbers that a cache holds of the far keys and values, for one key-value head.

        Args:
            far: Number of far keys.
            dims: Dimensions of a key, and of a value.
        """
        return sum(dims) * self.seen(far)


@register("pool")
@dataclass(frozen=True)
class Pool(LowRank):
    """Far text in *k* contiguous segments: mean key, mean value, log(size) on the logit.

    Segments differ by at most one key in size. Exact where *k* reaches the far length.

    Args:
        k: Segments.
        before_rope: Whether the mean is that of the keys before their rotary position embedding,
            which is then given the mean position of the segment; without, that of the keys as
            cached, whose fast dimensions cancel out.

    Source: Wang et al. 2020 (Linformer), section 4, mean pooling; the logit term is ours.
    """

    k: Positive
    before_rope: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.flag("before_rope", self.before_rope)

    @property
    def turns_keys(self) -> bool:
        """As the parameter says."""
        return self.before_rope

    def exact(self, far: int, dims: tuple[int, int]) -> bool:
        """With a segment for each key."""
        return self.k >= far

    def compress(
        self, keys: "Tensor", values: "Tensor", *, layer: int = 0, turn: Turn | None = None
    ) -> "tuple[Tensor, Tensor, Tensor]":
        """Take the mean of each segment; see `LowRank.compress`."""
        import torch

        length = keys.shape[-2]
        parts = self.seen(length)
        part = torch.arange(length, device=keys.device) * parts // max(1, length)
        sizes = torch.bincount(part, minlength=parts).float()

        def pooled(numbers: "Tensor") -> "Tensor":
            sums = numbers.new_zeros(
                (*numbers.shape[:-2], parts, numbers.shape[-1]), dtype=torch.float32
            )
            sums.index_add_(-2, part, numbers.float())
            return sums / sizes[:, None]

        mixed = pooled(keys)
        if self.before_rope:
            assert turn is not None
            # The first token of the sequence is not among them.
            places = torch.arange(1, length + 1, device=keys.device)
            mixed = pooled(turn(keys, places, back=True))
            mixed = turn(mixed, pooled(places[:, None])[:, 0])
        return mixed.to(keys.dtype), pooled(values).to(values.dtype), sizes.log()


@register("project")
@dataclass(frozen=True)
class Project(LowRank):
    """Far keys and values multiplied with a random *k* × n matrix, Gaussian / √k.

    Untrained, so a lower baseline, never exact.

    Args:
        k: Rows of the matrix.
        seed: Of the matrix, which is another in every layer and key-value head.

    Source: Wang et al. 2020 (Linformer), section 4, whose matrices are trained.
    """

    k: Annotated[int, Bounds(1, _MOST_ROWS)]
    seed: Natural = 0

    def compress(
        self, keys: "Tensor", values: "Tensor", *, layer: int = 0, turn: Turn | None = None
    ) -> "tuple[Tensor, Tensor, Tensor]":
        """Multiply; see `LowRank.compress`."""
        import torch

        rng = np.random.default_rng([self.seed, layer])
        shape = (keys.shape[1], self.k, keys.shape[2])
        matrix = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32) / self.k**0.5)
        matrix = matrix.to(keys.device)
        mixed = [(matrix @ each.float()).to(each.dtype) for each in (keys, values)]
        return mixed[0], mixed[1], torch.zeros(self.k, device=keys.device)

    def seen(self, far: int) -> int:
        """As many as there are rows."""
        return self.k


@register("svd")
@dataclass(frozen=True)
class Svd(LowRank):
    """The best rank-*k* approximation of the far keys, and of the far values.

    Exact where *k* reaches the head's dimension. Its cost has an axis of its own: k · (n + d)
    numbers instead of n · d.

    Args:
        k: Rank.

    Source: Wang et al. 2020 (Linformer), section 3, whose spectra are those of the attention
    matrix; here keys and values are approximated, which no training is needed for.
    """

    k: Positive

    def compress(
        self, keys: "Tensor", values: "Tensor", *, layer: int = 0, turn: Turn | None = None
    ) -> "tuple[Tensor, Tensor, Tensor]":
        """Project on the leading right singular vectors; see `LowRank.compress`."""
        import torch

        def lowered(matrix: "Tensor") -> "Tensor":
            if self.k >= min(matrix.shape[-2:]):
                return matrix
            exact = matrix.double()
            # The right singular vectors, of a d × d matrix however long the text is.
            _, vectors = torch.linalg.eigh(exact.mT @ exact)
            leading = vectors[..., -self.k :]
            low: Tensor = (exact @ leading @ leading.mT).to(matrix.dtype)
            return low

        return lowered(keys), lowered(values), torch.zeros(keys.shape[-2], device=keys.device)

    def seen(self, far: int) -> int:
        """All of them, each of a lower rank."""
        return far

    def exact(self, far: int, dims: tuple[int, int]) -> bool:
        """At full rank."""
        return self.k >= min(far, max(dims))

    def numbers(self, far: int, dims: tuple[int, int]) -> int:
        """Both factors of keys and of values."""
        return sum(min(self.k * (far + dim), far * dim) for dim in dims)
