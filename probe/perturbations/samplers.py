"""Where replaced tokens come from: functions of a number of tokens and a generator.

Every sampler here draws the same first tokens however many it is asked for; `Sources` binds one
for each source name of a condition, for one window.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from probe import checks
from probe.corpus.windows import Document, Window, token_counts
from probe.errors import UsageError
from probe.perturbations.ids import AnyIds, Ids, to_array
from probe.text import shown

Sampler: TypeAlias = Callable[[int, Generator], Ids]
"""``sampler(n, rng)`` draws ``n`` token ids, shape ``(n,)``, int64."""

SOURCES = {
    "vocabulary": "ordinary tokens, each as likely",
    "unigram": "ordinary tokens, each as often as in the data",
    "document": "consecutive tokens of another document",
    "self": "consecutive older tokens of the same document",
    "passage": "the passage of the same name of another document",
    "newline": "the token of a line break, everywhere",
    "pad": "the tokenizer's padding token, everywhere",
    "mask": "the tokenizer's mask token, everywhere",
}
"""The names that a condition may give as source, and what the run binds to each."""
FIXED = ("newline", "pad", "mask")
"""Those of a single token, which draw nothing."""
_NONE = range(0)


def vocabulary(ids: AnyIds | Sequence[int]) -> Sampler:
    """Draw token ids uniformly, with replacement.

    Args:
        ids: The token ids to draw from, shape ``(v,)``; one that is given twice is twice as likely.

    Returns:
        A sampler.

    Raises:
        ValueError: If *ids* is empty or holds anything but integers.
    """
    choices = to_array(list(ids) if isinstance(ids, range | tuple) else ids, what="source")  # type: ignore[arg-type]
    if not len(choices):
        raise ValueError("source must hold at least one token id; got none")
    return partial(_uniform, choices)


def unigram(counts: ArrayLike) -> Sampler:
    """Draw token ids as often as they were counted.

    Args:
        counts: How often each token id occurs, shape ``(v,)``, indexed by token id; counts or
            shares, in any unit. An id with count 0 is never drawn.

    Returns:
        A sampler.

    Raises:
        ValueError: If *counts* has not one dimension, or holds a negative or no positive number.
    """
    weights = np.asarray(counts, dtype=np.float64)
    if weights.ndim != 1:
        raise ValueError(f"counts must have one dimension; got shape {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("counts must be finite, at least 0, and not all 0")
    return partial(_proportional, np.cumsum(weights))


def stretch(documents: Sequence[AnyIds], *, room: int) -> Sampler:
    """Draw consecutive token ids from one of several documents.

    Where they start does not depend on how many are asked for: any start from which *room* tokens
    fit is as likely. A document shorter than *room* may start anywhere and goes round.

    Args:
        documents: Token ids of each document, shape ``(n_i,)``; each document is as likely.
        room: The most tokens that are ever asked for at once.

    Returns:
        A sampler for up to *room* tokens; it raises ValueError for more. With ``without``, a range
        of places in *documents*, it draws as if those were not among them. It keeps arrays, and
        copies none.

    Raises:
        ValueError: If there is no document, one is empty, or *room* is below 1.
    """
    texts = [_as_array(document, what="a document") for document in documents]
    if not texts or not all(map(len, texts)):
        sizes = [len(text) for text in texts]
        raise ValueError(f"documents must be at least one, none of them empty; got sizes {sizes}")
    return partial(_consecutive, texts, checks.count("room", room, least=1))


def passages(texts: Sequence[AnyIds]) -> Sampler:
    """Draw one of several passages, from its beginning, going round where more is asked for.

    Args:
        texts: Token ids of each passage, shape ``(n_i,)``, none of them empty; each is as likely.

    Returns:
        A sampler; it takes ``without`` and keeps arrays like that of `stretch`.
    """
    return partial(_round, [_as_array(text, what="a passage") for text in texts])


def _as_array(value: AnyIds, *, what: str) -> NDArray[Any]:
    """Token ids as an array, the same one where they are one already."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype in (np.int32, np.int64):
        return value
    return to_array(value, what)


# The draws are functions of this module, not closures: a sampler can be sent to another process.


def _uniform(choices: Ids, n: int, rng: Generator) -> Ids:
    # rng.random(n) is n draws one after another, the first ones equal for every n.
    drawn: Ids = choices[(rng.random(n) * len(choices)).astype(np.int64)]
    return drawn


def _proportional(cumulative: NDArray[np.float64], n: int, rng: Generator) -> Ids:
    drawn: Ids = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
    return drawn


def _round(texts: Sequence[NDArray[Any]], n: int, rng: Generator, without: range = _NONE) -> Ids:
    return np.resize(_any_of(texts, without, rng), n).astype(np.int64)


def _consecutive(
    texts: Sequence[NDArray[Any]], room: int, n: int, rng: Generator, without: range = _NONE
) -> Ids:
    if n > room:
        raise ValueError(f"n must be at most room, {room}; got {n}")
    text = _any_of(texts, without, rng)
    starts = len(text) - room + 1 if len(text) >= room else len(text)
    first = rng.integers(starts)
    return np.take(text, np.arange(first, first + n), mode="wrap").astype(np.int64)


def _any_of(texts: Sequence[NDArray[Any]], without: range, rng: Generator) -> NDArray[Any]:
    # The draw from a list without those, which is never made: one a document would be too many.
    place = int(rng.integers(len(texts) - len(without)))
    return texts[place if place < without.start else place + len(without)]


def sampler_of(source: AnyIds | Sequence[int] | Sampler | str | int) -> Sampler:
    """Make a sampler of what a perturbation takes as ``source``.

    Args:
        source: A sampler; token ids to draw from uniformly; or the id of a single token.

    Returns:
        *source* itself where it can be called.

    Raises:
        ValueError: If *source* is a name that nothing was bound to, or holds no token id.
    """
    if isinstance(source, str):
        raise ValueError(
            f"source {shown(source)} is a name without a sampler; bind one: "
            f"parse(\"replace(source='document')\").apply(far, rng=rng, "
            f"sources={{'document': sampler}}), or pass a sampler or token ids as source "
            f"(names in conditions: {', '.join(SOURCES)})"
        )
    if callable(source):
        return source
    if isinstance(source, int | np.integer):
        return vocabulary([checks.count("source", source, least=0)])
    return vocabulary(source)


def is_varied(source: Sequence[int] | str | int) -> bool:
    """Whether two draws from what a condition gives as ``source`` can differ."""
    if isinstance(source, str):
        return source not in FIXED
    return not isinstance(source, int) and len(set(source)) > 1


def draw(sampler: Sampler, n: int, rng: Generator) -> Ids:
    """Draw token ids.

    Args:
        sampler: Where they come from.
        n: How many.
        rng: Source of the draw.

    Returns:
        Shape ``(n,)``.

    Raises:
        ValueError: If the sampler gives another number of ids.
    """
    drawn = to_array(sampler(n, rng), what="the ids drawn from source")
    if len(drawn) != n:
        raise ValueError(f"source must give {n} ids, as asked for; got {len(drawn)}")
    return drawn


def any_sources() -> Mapping[str, Sampler]:
    """A sampler of made-up ids for every name, for a perturbation that is only tried."""
    fixed = {name: vocabulary([2**53 + place]) for place, name in enumerate(FIXED)}
    return dict.fromkeys(SOURCES, _any_ids) | fixed


def _any_ids(n: int, rng: Generator) -> Ids:
    # So many values that two results agree only where they come from the same draw.
    return (rng.random(n) * 2**53).astype(np.int64)


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
