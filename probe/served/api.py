"""What a server must be able to do, whatever its routes are called."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import ProbeError
from probe.served.client import Client, RefusedError

LEAST = -9998.0
"""What vLLM says in place of −∞, rounded up."""
ABOVE = 1e-3
"""How far above 0 a log-probability may be by rounding (nats)."""


class Api(ABC):
    """The routes of one kind of server.

    Args:
        client: The server.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.reuse = True
        """Whether prefixes that the server has cached are reused."""

    @abstractmethod
    def losses(self, ids: Sequence[int], first: int, *, reuse: bool) -> NDArray[np.float32]:
        """Losses of the tokens from *first* on, shape ``(len(ids) − first,)``, nats.

        Args:
            ids: Token ids.
            first: Index of the first token that counts, at least 1.
            reuse: Whether a cached prefix may be reused.

        Raises:
            ProbeError: If the server gives something else.
        """

    @abstractmethod
    def next_token(self, ids: Sequence[int]) -> tuple[int, float]:
        """The most probable next token, and its log-probability."""

    def tokens(self, text: str, *, special: bool) -> list[int] | None:
        """The server's token ids of a text; ``None`` where it has no route that says them."""
        content = {"prompt": text, "add_special_tokens": special}
        try:
            found = self.client.post("/tokenize", content)
        except RefusedError as error:
            if error.status in (404, 405):
                return None
            raise
        return [int(token) for token in field(found, "tokens", self.client)]

    @property
    def longest(self) -> int | None:
        """Tokens of the longest prompt that the server takes, ``None`` where it does not say."""
        known = [one.get("max_model_len") for one in self._models()]
        return min((int(length) - 1 for length in known if length), default=None)

    @property
    def serves(self) -> str:
        """What the server says that it holds."""
        return ", ".join(self.names)

    @property
    def names(self) -> list[str]:
        """The models that the server has, the one that is scored first."""
        return [str(one.get("root") or one.get("id")) for one in self._models()]

    def _models(self) -> list[dict[str, Any]]:
        models = field(self.client.get("/v1/models"), "data", self.client)
        return [one for one in models if isinstance(one, dict)]


def field(answer: Any, name: str, client: Client) -> Any:
    """A field of an answer; ProbeError where it is missing."""
    if not isinstance(answer, dict) or answer.get(name) is None:
        raise ProbeError(f"{client.url}: the answer has no {name!r}")
    return answer[name]


def as_losses(found: Sequence[float | None], count: int, client: Client) -> NDArray[np.float32]:
    """Log-probabilities as losses; ProbeError where they are too few, too many or none.

    Args:
        found: Log-probabilities.
        count: How many there must be.
        client: The server, for the message.
    """
    if len(found) != count:
        raise ProbeError(f"{client.url} gives {len(found)} log-probabilities; allowed: {count}")
    values = np.array([np.nan if one is None else one for one in found], dtype=np.float64)
    if not (np.isfinite(values) & (values > LEAST)).all():
        raise ProbeError(f"{client.url} gives log-probabilities that are not finite")
    if (values > ABOVE).any():
        raise ProbeError(
            f"{client.url} gives log-probabilities up to {values.max():.3g}; allowed: up to 0 "
            "(does it return logits?)"
        )
    return (-values).astype(np.float32)
