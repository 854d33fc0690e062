"""The engine's place where a server holds the model: one request a branch, a few at once."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from probe.engine.branch import Branch, References
from probe.engine.engine import Costs
from probe.engine.losses import Losses
from probe.engine.selfcheck import Outcome, judged
from probe.errors import ProbeError, UsageError
from probe.served.api import Api
from probe.text import shown

NEXT, REUSE = "next token", "prefix reuse"
"""What is checked of a server: rows belong to the tokens they are taken for; so with a cache."""
MOST = 512  # tokens of a text that is scored in two ways
APART = 0.1
"""Nats that the log-probability of one token may lie apart in two requests, by rounding."""


class ServedEngine:
    """Scores branches by requests; the server shares what it has cached of their prefixes.

    Args:
        api: The server.
        concurrency: Requests at once.
    """

    device: torch.device | None = None
    dtype = "served"

    def __init__(self, api: Api, concurrency: int) -> None:
        self.api, self.costs = api, Costs()
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="probe-request")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the requests that are out, and close the connections."""
        self._pool.shutdown(cancel_futures=True)
        self.api.client.close()

    def score(
        self, windows: Sequence[Sequence[Branch]], *, reference: References = None
    ) -> list[list[Losses]]:
        """Losses of every target of every branch, see :meth:`probe.engine.engine.Engine.score`.

        Branches of one text are one request. What stands behind the last target is left out: a
        causal model does not see it.
        """
        started = time.perf_counter()
        branches = [branch for window in windows for branch in window]
        texts: dict[bytes, tuple[list[int], int]] = {}
        for branch in branches:
            ids = branch.ids[: branch.stop].tolist()
            known = texts.setdefault(_key(branch), (ids, branch.first))
            texts[_key(branch)] = ids, min(known[1], branch.first)
        asked = list(texts.values())
        found = dict(zip(texts, self._pool.map(lambda one: self._losses(*one), asked), strict=True))
        self.costs.tokens += sum(len(ids) for ids, _ in asked)
        self.costs.forwards += len(asked)
        self.costs.targets += sum(branch.targets for branch in branches)
        self.costs.seconds += time.perf_counter() - started
        self.costs.body_seconds = self.costs.seconds
        return [
            [Losses(found[_key(branch)][-branch.targets :].copy()) for branch in window]
            for window in windows
        ]

    def _losses(self, ids: list[int], first: int) -> NDArray[np.float32]:
        return self.api.losses(ids, first, reuse=self.api.reuse)

    def check(self, ids: NDArray[np.int64]) -> list[Outcome]:
        """Find out on a text whether rows belong to their tokens, and whether reuse changes any.

        Where reuse changes losses it is switched off.

        Args:
            ids: Token ids of a text, shape ``(n,)``, at least 4.

        Raises:
            ProbeError: If rows belong to other tokens than they are taken for.
        """
        # In an order of its own each time: no run before has left this text in the cache.
        text = np.random.default_rng().permutation(ids[:MOST]).tolist()
        # Odd, as no block of a cache is: what is cached of it ends before the first row.
        half = len(text) // 2 | 1
        self.api.losses(text[:half], 1, reuse=False)
        reused = self.api.losses(text, half, reuse=True) if self.api.reuse else None
        plain = self.api.losses(text, half, reuse=False)
        token, told = self.api.next_token(text)
        found = -float(self.api.losses([*text, token], len(text), reuse=False)[-1])
        if abs(found - told) > APART:
            raise ProbeError(
                f"{self.api.client.url}: the token behind a text has log-probability {told:.4f} "
                f"when it is generated, and {found:.4f} as the last of a prompt; allowed: up to "
                f"{APART:g} apart. Rows are shifted, or it returns something else"
            )
        outcomes = [judged(NEXT, np.array([found - told], dtype=np.float32), "")]
        if reused is not None:
            outcomes.append(judged(REUSE, reused - plain, "with it losses differ"))
            self.api.reuse = self.api.reuse and outcomes[-1].passed
        return outcomes

    def refuse_long(self, longest: int) -> None:
        """Refuse sequences that the server does not take; it wants room for a token behind them."""
        most = self.api.longest
        if most is not None and longest >= most:
            raise UsageError(
                f"{self.api.client.url} takes sequences of up to {most:,} tokens; windows have "
                f"{longest:,} with what stands in front; allowed: {most - 1:,}"
            )

    def refuse_other_tokens(self, text: str, ids: Sequence[int], *, special: bool) -> bool:
        """Refuse a server whose tokenizer makes other ids of a text.

        Args:
            text: The text.
            ids: What our tokenizer makes of it.
            special: Whether with what it puts in front by itself.

        Returns:
            Whether the server could be asked.

        Raises:
            UsageError: If they differ.
        """
        found = self.api.tokens(text, special=special)
        if found is not None and found != list(ids):
            at = next(
                (n for n, pair in enumerate(zip(found, ids, strict=False)) if pair[0] != pair[1]),
                min(len(found), len(ids)),
            )
            raise UsageError(
                f"{self.api.client.url} makes other tokens of a text than model.path: from number "
                f"{at} on {shown(found[at : at + 5])} and not {shown(list(ids[at : at + 5]))}; "
                "allowed: the model that it serves"
            )
        return found is not None


def _key(branch: Branch) -> bytes:
    return branch.ids[: branch.stop].tobytes()
