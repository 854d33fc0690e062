"""The engine's place where a server holds the model: one request a branch, a few at once."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from probe.engine.branch import Branch, References
from probe.engine.engine import Costs
from probe.engine.losses import Losses
from probe.engine.selfcheck import Outcome, judged
from probe.errors import ProbeError, UsageError
from probe.served.api import Api
from probe.text import one_line, shown

NEXT, REUSE = "next token", "prefix reuse"
"""What is checked of a server: rows belong to the tokens they are taken for; so with a cache."""
MOST = 512  # tokens of a text that is scored in two ways
TEXTS = 8  # texts of which a token is generated, and scored as the last of a prompt
APART = 0.25
"""Nats that log-probabilities of the same tokens may lie apart on average: rows of other tokens lie
nats apart."""
Found = TypeVar("Found")


class ServedEngine:
    """Scores branches by requests; the server shares what it has cached of their prefixes.

    Args:
        api: The server.
        concurrency: Requests at once.
    """

    device: torch.device | None = None
    peak: float | None = None
    dtype = "served"

    def __init__(self, api: Api, concurrency: int) -> None:
        self.api, self.costs = api, Costs()
        self._checked: str | None = None  # the name of the model that was checked
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="probe-request")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let nobody try again, and close the connections."""
        self.api.client.stop()
        self._pool.shutdown(cancel_futures=True)
        self.api.client.close()

    def score(
        self, windows: Sequence[Sequence[Branch]], *, reference: References = None
    ) -> list[list[Losses]]:
        """Losses of every target of every branch, see :meth:`probe.engine.engine.Engine.score`.

        Branches of one text are one request, but for those that are to be scored again (``noise``).
        What stands behind the last target is left out: a causal model does not see it.
        """
        started = time.perf_counter()
        branches = [branch for window in windows for branch in window]
        texts: dict[bytes, tuple[Branch, int]] = {}
        for branch in branches:
            known = texts.setdefault(_key(branch), (branch, branch.first))
            texts[_key(branch)] = branch, min(known[1], branch.first)
        asked = list(texts.values())
        found = dict(zip(texts, self._pool.map(lambda one: self._losses(*one), asked), strict=True))
        self.costs.tokens += sum(branch.stop for branch, _ in asked)
        self.costs.forwards += len(asked)
        self.costs.targets += sum(branch.targets for branch in branches)
        self.costs.seconds += time.perf_counter() - started
        self.costs.body_seconds = self.costs.seconds
        self._refuse_another()
        return [
            [Losses(found[_key(branch)][-branch.targets :].copy()) for branch in window]
            for window in windows
        ]

    def _refuse_another(self) -> None:
        """Refuse what a server answers that has no model of the name that was checked."""
        if self._checked is not None and self._checked not in self._read(lambda: self.api.names):
            now = self._read(lambda: self.api.serves)
            raise ProbeError(
                f"{self.api.client.url} holds {shown(now)} now, and held {shown(self._checked)} "
                "when it was checked; allowed: the same. What was scored before is kept"
            )

    def _losses(self, branch: Branch, first: int) -> NDArray[np.float32]:
        # What shares nothing with the intact text on purpose is not to come out of its cache.
        own = bool((branch.keys[: branch.stop] == branch.ids[: branch.stop]).all())
        return self._of(branch.ids[: branch.stop].tolist(), first, reuse=own and self.api.reuse)

    def _of(self, ids: list[int], first: int, *, reuse: bool) -> NDArray[np.float32]:
        return self._read(lambda: self.api.losses(ids, first, reuse=reuse))

    def _read(self, ask: Callable[[], Found]) -> Found:
        """An answer; whatever it is that cannot be read of one is told in one line."""
        try:
            return ask()
        except ProbeError:
            raise
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise ProbeError(
                f"{self.api.client.url} answers with something else than log-probabilities: "
                f"{one_line(error)}"
            ) from error

    def check(self, ids: NDArray[np.int64], vocabulary: int) -> list[Outcome]:
        """Find out on a text whether rows belong to their tokens, and whether reuse changes any.

        Where reuse changes losses it is switched off.

        Args:
            ids: Token ids of a text, shape ``(n,)``, at least 4.
            vocabulary: Token ids that the model knows.

        Raises:
            ProbeError: If rows belong to other tokens than they are taken for, or are no
                log-probabilities.
        """
        # In an order of its own each time: no run before has left this text in the cache.
        text = np.random.default_rng().permutation(ids[: min(MOST, len(ids) - 1)]).tolist()
        # Odd, as no block of a cache is: what is cached of it ends before the first row.
        half = len(text) // 2 | 1
        self._of(text[:half], 1, reuse=False)
        reused = self._of(text, half, reuse=True) if self.api.reuse else None
        plain = self._of(text, half, reuse=False)
        apart = []
        for size in np.linspace(2, len(text), TEXTS).astype(int).tolist():
            token, told = self._read(lambda size=size: self.api.next_token(text[:size]))  # type: ignore[misc]
            if told < -math.log(vocabulary) - APART:
                raise ProbeError(
                    f"{self.api.client.url}: the most probable token has log-probability "
                    f"{told:.4f}; allowed: {-math.log(vocabulary):.4f} or more in a vocabulary of "
                    f"{vocabulary:,} (does it return logits?)"
                )
            apart.append(-float(self._of([*text[:size], token], 1, reuse=False)[-1]) - told)
        outcome = judged(NEXT, np.array(apart, dtype=np.float32), "generated or read, it differs")
        if abs(outcome.mean) > APART:
            raise ProbeError(
                f"{self.api.client.url}: tokens behind a text have other log-probabilities when "
                f"they are generated than as the last of a prompt, by {outcome.mean:+.2f} nats on "
                f"average; allowed: {APART:g}. Rows are shifted, or it returns something else"
            )
        outcomes = [outcome]
        if reused is not None:
            outcomes.append(judged(REUSE, reused - plain, "with it losses differ"))
            self.api.reuse = self.api.reuse and outcomes[-1].passed
        self._checked = next(iter(self._read(lambda: self.api.names)), None)
        return outcomes

    def refuse_long(self, longest: int) -> None:
        """Refuse sequences that the server does not take; it wants room for a token behind them."""
        most = self._read(lambda: self.api.longest)
        if most is not None and longest > most:
            raise UsageError(
                f"{self.api.client.url} takes prompts of up to {most:,} tokens; windows have "
                f"{longest:,} with what stands in front"
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
        found = self._read(lambda: self.api.tokens(text, special=special))
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
    return branch.ids[: branch.stop].tobytes() + branch.keys[: branch.stop].tobytes()
