"""Where replaced text comes from: samplers for the source names, bound for one window."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.perturbations.samplers import Sampler, stretch, unigram, vocabulary
from probe.windows import Document, Window, token_counts


class Sources:
    """Samplers over the pool of documents that a run began with.

    The pool does not grow with the sample, so that a draw made early equals one made late.

    Args:
        pool: The documents that text is taken from.
        ordinary: Token ids that are no special tokens, shape ``(n,)``, int64.
        size: Number of token ids that the model knows.
        room: Longest far context that is ever replaced, tokens.
    """

    def __init__(
        self, pool: Sequence[Document], *, ordinary: NDArray[np.int64], size: int, room: int
    ) -> None:
        self.pool, self.ordinary, self.size, self.room = tuple(pool), ordinary, size, room
        self._documents: dict[str, Sampler] = {}

    def bind(
        self, names: frozenset[str], window: Window, document: Document
    ) -> Mapping[str, Sampler]:
        """Samplers for the source *names* of a condition.

        Args:
            names: Some of ``vocabulary``, ``unigram``, ``document`` and ``self``.
            window: The window whose far context is replaced.
            document: The document it was cut from.

        Raises:
            UsageError: If the data cannot provide such text for this window.
        """
        return {name: self._bind(name, window, document) for name in names}

    def _bind(self, name: str, window: Window, document: Document) -> Sampler:
        if name == "document":
            return self._document(window.document)
        if name == "self":
            return self._older(window, document)
        return self._unigram if name == "unigram" else self._vocabulary

    @cached_property
    def _vocabulary(self) -> Sampler:
        return vocabulary(self.ordinary)

    @cached_property
    def _unigram(self) -> Sampler:
        return unigram(token_counts(self.pool, self.size))

    def _document(self, own: str) -> Sampler:
        """Text of another document."""
        if own not in self._documents:
            others = [document.ids for document in self.pool if document.id != own]
            if not others:
                raise UsageError(
                    "condition \"replace(source='document')\" needs a second document to take "
                    f"text from; the data set gave only {own!r}"
                )
            self._documents[own] = stretch(others, room=self.room)
        return self._documents[own]

    def _older(self, window: Window, document: Document) -> Sampler:
        """Text of the same document before the window."""
        if window.start < self.room:
            raise UsageError(
                "condition \"replace(source='self')\" needs "
                f"{self.room} older tokens before a window; window {window.index} of "
                f"{window.document!r} starts at {window.start}: set windows.skip to {self.room}"
            )
        return stretch([document.ids[: window.start]], room=self.room)
