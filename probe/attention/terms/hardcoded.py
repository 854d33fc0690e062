"""Hard-coded heads: attention weights that go by position alone, whatever the text says.

What a head may not see stays hidden: the weights of such keys are taken out first.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from probe import checks
from probe.attention.term import LARGEST, Index, Term, Truth, register
from probe.text import shown

_NONE = -1e9
"""Log of a weight that is none, and still a number."""
_WIDTH = 6
"""Standard deviations beyond which a Gaussian's weights (below 2e-8) count as no keys."""


class Weights(Term):
    """What all hard-coded heads have.

    Their weights depend on indices only; queries and keys are never multiplied.
    """

    normalised: ClassVar[bool] = True
    """Whether the weights of what is seen are made to sum to 1."""
    attends: ClassVar[bool] = False
    """Whether the head attends as ever first, and the weights are put on what that gives."""

    @property
    def renormalised(self) -> bool:
        """Whether the weights of what is seen are made to sum to 1, with these parameters."""
        return self.normalised

    @abstractmethod
    def log_weights(self, query: Index, key: Index) -> Any:
        """The logs of the weights.

        Args:
            query: Indices of queries in the sequence, an int64 array or tensor.
            key: Indices of keys, to broadcast with *query*.

        Returns:
            Floats of the broadcast shape; −1e9 stands for a weight of 0.
        """

    def weights(self, query: Index, key: Index) -> Any:
        """The weights themselves, not renormalised; see `log_weights`."""
        logs = self.log_weights(query, key)
        return np.exp(logs) if isinstance(logs, np.ndarray | float) else logs.exp()

    def counted(self, query: Index, key: Index) -> Truth:
        """Which keys have a weight to speak of."""
        return self.log_weights(query, key) > _NONE

    def cached(self, key: Index, length: int) -> Truth:
        """Which keys a cache must hold after *length* tokens for what may come."""
        return key >= 0


@register("gaussian")
@dataclass(frozen=True)
class Gaussian(Weights):
    """Weights of a normal distribution around a fixed offset from the query.

    Args:
        offset: Where the middle lies, keys from the query: −1 is the one before it.
        sigma: Standard deviation, keys.
        renormalise: Whether the weights of the keys seen are made to sum to 1; without, they are
            the density, and what lies beyond the text or is hidden is lost.

    Source: You et al. 2020, section 3: σ = 1, offsets −1, 0 in decoders, −1, 1 in encoders.
    """

    offset: int = -1
    sigma: float = 1.0
    renormalise: bool = True

    def __post_init__(self) -> None:
        if type(self.offset) is not int or abs(self.offset) > LARGEST:
            raise ValueError(
                f"offset must be an integer within ±{LARGEST:,}; got {shown(self.offset)}"
            )
        if isinstance(self.sigma, bool) or not (
            isinstance(self.sigma, int | float) and 0.1 <= self.sigma <= LARGEST
        ):
            raise ValueError(
                f"sigma must be a number from 0.1 to {LARGEST:,}; got {shown(self.sigma)}"
            )
        object.__setattr__(self, "sigma", float(self.sigma))
        checks.flag("renormalise", self.renormalise)

    @property
    def renormalised(self) -> bool:
        """As the parameter says."""
        return self.renormalise

    def log_weights(self, query: Index, key: Index) -> Any:
        """The log density of the distance to the middle."""
        away = (key - query - self.offset) / self.sigma
        return -0.5 * away * away - math.log(self.sigma * math.sqrt(2 * math.pi))

    def counted(self, query: Index, key: Index) -> Truth:
        """Within six standard deviations; where the middle is out of sight, the nearest key."""
        return (
            (abs(key - query - self.offset) <= _WIDTH * self.sigma)
            | ((key == 0) & (query + self.offset < 0))
            | ((key == query) & (self.offset > 0))
        )

    def cached(self, key: Index, length: int) -> Truth:
        """The last keys, as far as the middle and six standard deviations reach."""
        reach = max(0, -self.offset) + math.floor(_WIDTH * self.sigma) + 1
        return key >= length - reach


@register("first_token")
@dataclass(frozen=True)
class FirstToken(Weights):
    """All weight on the first token of the sequence.

    Where it is out of sight, the head gives nothing.

    Source: You et al. 2020, section 3.
    """

    normalised = False
    goes_by_query = False

    def log_weights(self, query: Index, key: Index) -> Any:
        """1 at index 0."""
        return (key + 0 * query != 0) * _NONE

    def cached(self, key: Index, length: int) -> Truth:
        """The first token."""
        return key == 0


@register("last_token")
@dataclass(frozen=True)
class LastToken(Weights):
    """All weight on the last token of the sequence; in bidirectional models only.

    Source: You et al. 2020, section 3.
    """

    normalised = False
    bidirectional = True
    goes_by_query = False

    def log_weights(self, query: Index, key: Index) -> Any:
        """1 at the largest index among *key*."""
        return (key + 0 * query != key.max()) * _NONE


@register("zero")
@dataclass(frozen=True)
class Zero(Weights):
    """No weight anywhere: the head gives nothing, zero-ablation."""

    normalised = False
    goes_by_query = False

    def log_weights(self, query: Index, key: Index) -> Any:
        """0 everywhere."""
        return (key + 0 * query >= 0) * _NONE

    def cached(self, key: Index, length: int) -> Truth:
        """Nothing."""
        return key < 0


@register("uniform")
@dataclass(frozen=True)
class Uniform(Weights):
    """The same weight on every key that is seen: the head gives the mean of the values."""

    goes_by_query = False

    def log_weights(self, query: Index, key: Index) -> Any:
        """1 everywhere."""
        return (key + 0 * query) * 0.0


@register("mean")
@dataclass(frozen=True)
class Mean(Uniform):
    """The mean of what the head itself gives at the tokens so far: mean-ablation.

    The mean over a whole text would tell early queries of later tokens; this one becomes it.
    """

    attends = True
    goes_by_query = True
    crosses = False  # its mean is one over queries
