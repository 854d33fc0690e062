"""Where replaced text comes from: samplers for the source names, bound for one window."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.corpus.windows import Document, Window, token_counts
from probe.errors import UsageError
from probe.perturbations.condition import Condition
from probe.perturbations.ids import Ids
from probe.perturbations.samplers import FIXED, Sampler, passages, stretch, unigram, vocabulary
from probe.perturbations.units import TokenText


@dataclass(eq=False)
class Sources:
    """Samplers over the pool of documents that a run began with.

    The pool does not grow with the sample, so that a draw made early equals one made late.

    Args:
        pool: The documents that text is taken from.
        ordinary: Token ids that are no special tokens, shape ``(n,)``, int64.
        size: Number of token ids that the model knows.
        room: Longest far context that is ever replaced, tokens.
        tokenizer: Of transformers, tells the ids of single tokens; ``None`` where there is none.
    """

    pool: Sequence[Document]
    ordinary: NDArray[np.int64]
    size: int
    room: int
    tokenizer: Any = None

    def bind(
        self,
        names: frozenset[str],
        window: Window,
        document: Document,
        passage: str | None = None,
    ) -> Mapping[str, Sampler]:
        """Samplers for the source *names* of a condition.

        Args:
            names: Some of `probe.perturbations.samplers.SOURCES`.
            window: The window whose far context is replaced.
            document: The document it was cut from.
            passage: Name of the passage that is perturbed, with protocol passages.

        Raises:
            UsageError: If the data cannot provide such text for this window, or the tokenizer has
                no such token.
        """
        return {name: self._bind(name, window, document, passage) for name in names}

    def _bind(self, name: str, window: Window, document: Document, passage: str | None) -> Sampler:
        owner = window.document
        if name == "passage":
            wanted = f"with a passage called {passage!r}; {owner!r} is the only one"
            return self._passages.get(passage, _Others(name)).than(owner, wanted)
        if name == "document":
            wanted = f"to take text from; the data set gave only {owner!r}"
            return self._documents.than(owner, wanted)
        if name == "self":
            return self._older(window, document)
        if name in FIXED:
            return vocabulary([token_of(name, self.tokenizer, self.size)])
        return self._unigram if name == "unigram" else self._vocabulary

    @cached_property
    def _vocabulary(self) -> Sampler:
        return vocabulary(self.ordinary)

    @cached_property
    def _unigram(self) -> Sampler:
        return unigram(token_counts(self.pool, self.size))

    @cached_property
    def _documents(self) -> "_Others":
        sampler = stretch([document.ids for document in self.pool], room=self.room)
        return _Others("document", sampler, [document.id for document in self.pool])

    @cached_property
    def _passages(self) -> Mapping[str | None, "_Others"]:
        """The passages of the pool by their name."""
        texts: dict[str | None, list[NDArray[Any]]] = {}
        owners: dict[str | None, list[str]] = {}
        for document in self.pool:
            for name, start, stop in document.spans:
                texts.setdefault(name, []).append(document.ids[start:stop])
                owners.setdefault(name, []).append(document.id)
        return {name: _Others("passage", passages(texts[name]), owners[name]) for name in texts}

    def _older(self, window: Window, document: Document) -> Sampler:
        """Text of the same document before the window."""
        if window.start < self.room:
            raise UsageError(
                "condition \"replace(source='self')\" needs "
                f"{self.room} older tokens before a window; window {window.index} of "
                f"{window.document!r} starts at {window.start}: set windows.skip to {self.room}"
            )
        return stretch([document.ids[: window.start]], room=self.room)


class _Others:
    """A sampler of texts that can leave out those of one document.

    Args:
        source: What conditions call it.
        sampler: Takes ``without``, as that of `stretch` does.
        owners: Id of each text's document; the texts of one stand together.
    """

    def __init__(
        self, source: str, sampler: Callable[..., Ids] | None = None, owners: Sequence[str] = ()
    ) -> None:
        self._source, self._sampler, self._count = source, sampler, len(owners)
        self._places: dict[str, range] = {}
        for place, owner in enumerate(owners):
            first = self._places.get(owner, range(place, place)).start
            self._places[owner] = range(first, place + 1)

    def than(self, document: str, wanted: str) -> Sampler:
        """A sampler of the other documents' texts; *wanted* says what is missing without one."""
        places = self._places.get(document, range(0))
        if self._sampler is None or len(places) == self._count:
            raise UsageError(
                f'condition "replace(source={self._source!r})" needs a second document {wanted}'
            )
        return partial(self._sampler, without=places)


def ordinary_ids(tokenizer: Any, size: int) -> NDArray[np.int64]:
    """Ids that stand for text: every id of the tokenizer but the special ones.

    Args:
        tokenizer: Of transformers, or ``None``: then every id stands for text.
        size: Number of token ids that the model knows.

    Returns:
        Token ids, shape ``(n,)``, int64, rising.
    """
    if tokenizer is None:
        return np.arange(size)
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    special = {i for i, token in added.items() if token.special} | set(tokenizer.all_special_ids)
    ids = np.arange(min(size, len(tokenizer)))
    return ids[~np.isin(ids, sorted(special))]


def token_of(name: str, tokenizer: Any, size: int) -> int:
    """The one token that a source of single tokens stands for.

    Args:
        name: ``newline``, ``pad`` or ``mask``.
        tokenizer: Of transformers, or ``None``.
        size: Number of token ids that the model knows.

    Raises:
        UsageError: If there is no tokenizer, it has no such token, or the model does not know it.
    """
    if tokenizer is None:
        raise UsageError(
            f"source {name!r} is a token of the tokenizer, and the model comes without one; "
            "allowed: a token id, as in replace(source=220)"
        )
    if name == "newline":
        last = tokenizer("\n", add_special_tokens=False)["input_ids"][-1:]
        token = next((last_id for last_id in last if tokenizer.decode([last_id]) == "\n"), None)
    else:
        token = getattr(tokenizer, f"{name}_token_id", None)
    if token is None or not 0 <= token < size:
        said = "has no such token" if token is None else f"gives it the id {token}"
        raise UsageError(
            f"source {name!r}: the tokenizer {said}; allowed: a token id from 0 to {size - 1}, as "
            "in replace(source=220)"
        )
    return int(token)


def check_texts(conditions: Iterable[Condition], texts: Iterable[TokenText | None]) -> None:
    """Find out before anything is scored whether conditions have the text that they read.

    Args:
        conditions: The conditions.
        texts: The text of each window, ``None`` for data that came as token ids; asked for one by
            one, and for none where no condition reads text.

    Raises:
        UsageError: If there is no text, or a condition moves sentences or tokens inside them and
            no window has two.
    """
    reading = [condition for condition in conditions if condition.needs_text]
    if not reading:
        return
    sentences = [
        condition
        for condition in reading
        if any("sentence" in step.parameters.values() for step in condition.steps)
    ]
    for text in texts:
        if text is None:
            raise UsageError(
                f"condition {reading[0].text!r} reads words or sentences, and the data is token "
                "ids without text; allowed: data.text_column, or conditions on tokens"
            )
        if sentences and text.count("sentence") > 1:
            sentences = []
    if sentences:
        raise UsageError(
            f"condition {sentences[0].text!r} needs sentences, and no window of the data has two; "
            "allowed: longer windows (windows.length), or conditions on words or tokens"
        )
