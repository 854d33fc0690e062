"""Far text that windows have in common: a few texts, drawn once for a run."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from probe.corpus.windows import Document
from probe.errors import UsageError
from probe.perturbations.condition import Condition, draw_rng
from probe.perturbations.ids import Ids
from probe.perturbations.samplers import stretch


@dataclass(frozen=True, eq=False)
class SharedText:
    """A sampler that draws nothing: it gives the beginning of one text.

    Args:
        ids: Token ids of the text, shape ``(n,)``, int64.
    """

    ids: NDArray[np.int64]

    def __call__(self, n: int, rng: Generator) -> Ids:
        """The first *n* token ids; *rng* is not drawn from."""
        return self.ids[:n]


@dataclass(eq=False)
class SharedTexts:
    """The texts that windows have in common, under any condition of a run that shares some.

    The windows of a document all begin with one text, so that documents of different texts have
    nothing in common, and those of one text are a unit of the statistics.

    Args:
        pool: The documents that text is taken from.
        room: Tokens of a text: the longest far context that is ever replaced.
    """

    pool: Sequence[Document]
    room: int
    _drawn: dict[tuple[str, int, int], SharedText] = field(default_factory=dict, init=False)

    def of(self, condition: Condition, document: str, repeat: int, seed: int) -> SharedText:
        """The text that the windows of a document begin with.

        Text *k* is taken from a document of those that begin with text *k* + 1: never from the
        window's own, and no two texts from one.

        Args:
            condition: A condition that shares texts.
            document: Id of the document.
            repeat: Number of the repeat, which has texts of its own.
            seed: Seed of the run.

        Raises:
            UsageError: If there are fewer documents than texts.
        """
        shared, count = condition.shared, len(self.pool)
        assert shared is not None
        if count < shared:
            raise UsageError(
                f"condition {condition.text!r} takes each text from another document, and the run "
                f"began with {count}; allowed: shared of 2 to {count}, or more documents"
            )
        (number,) = text_numbers([document], [one.id for one in self.pool], shared)
        key = condition.text, int(number), repeat
        if key not in self._drawn:
            owners = self.pool[(number + 1) % shared :: shared]
            rng = draw_rng(seed, "", int(number), condition.text, repeat)
            sampler = stretch([owner.ids for owner in owners], room=self.room)
            self._drawn[key] = SharedText(sampler(self.room, rng))
        return self._drawn[key]


def text_numbers(documents: Iterable[str], pool: Sequence[str], shared: int) -> NDArray[np.int64]:
    """Which of the shared texts the windows of each document begin with.

    Those of the pool take turns; of others, which came later, a hash of their id decides.

    Args:
        documents: Ids of the documents in question.
        pool: Ids of the documents that text is taken from, as the run began with them.
        shared: Number of texts.

    Returns:
        Numbers from 0, shape ``(documents,)``.
    """
    places = {document: place for place, document in enumerate(pool)}
    return np.array(
        [places.get(document, _hash(document)) % shared for document in documents], dtype=np.int64
    )


def _hash(document: str) -> int:
    digest = hashlib.blake2b(document.encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest, "little")
