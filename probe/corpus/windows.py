"""Documents, and the windows of consecutive tokens that are cut from them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST_DOCUMENTS = 6
"""Below this many documents the spread between them is too poorly known for an answer."""


class Span(NamedTuple):
    """Tokens ``start … stop`` of a document under a name: a passage of it."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, eq=False, slots=True)
class Document:
    """One text of the data set, tokenised whole.

    Args:
        id: Name of the document, unique in its data set.
        ids: Token ids, shape ``(n,)``, whole numbers of any width, without special tokens.
        text: The text, or ``None`` for data that came as token ids.
        char_start: First character of each token in ``text``, shape ``(n,)``, int32; empty
            where there is no text.
        char_count: Characters of each token, shape ``(n,)``, whole numbers of any width.
        group: Value of the metadata column that groups documents, where one was asked for.
        spans: Its named passages in order, where the data has such.
        metadata: What describes it, by column; a missing value has no entry.
        source: What an encoder reads of it, where the data has that; the document itself is then
            the target.
        places: The token of the source that each token belongs to, −1 for none, shape ``(n,)``;
            ``None`` where the data does not say.
        frames: Of sound the samples of the frames that *ids* number, shape ``(frames, samples)``,
            float32; those of other documents may be among them.
    """

    id: str
    ids: NDArray[np.integer[Any]]
    text: str | None
    char_start: NDArray[np.int32]
    char_count: NDArray[np.integer[Any]]
    group: str | None = None
    spans: tuple[Span, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: "Document | None" = None
    places: NDArray[np.int64] | None = None
    frames: NDArray[np.float32] | None = None

    @property
    def char_end(self) -> NDArray[np.int32]:
        """One past the last character of each token, shape ``(n,)``, int32."""
        return self.char_start + self.char_count.astype(np.int32)

    def size(self, unit: str) -> int:
        """How long it is, in ``tokens`` or ``characters``; without text it has none of these."""
        return len(self.ids) if unit == "tokens" else len(self.text or "")

    def first_from(self, characters: ArrayLike) -> NDArray[np.int64]:
        """The first token that begins at or behind each of some characters, same shape."""
        return np.searchsorted(self.char_start, characters)


@dataclass(frozen=True, eq=False)
class Window:
    """``length`` consecutive tokens of one document.

    Args:
        document: Id of the document.
        index: Number of the window in its document, from 0 in order of position.
        start: Index of the window's first token in its document.
        ids: Token ids, shape ``(length,)``, int64.
        text: The document's text under the window, ``None`` for data without text.
        char_start: First character of each token in ``text``, shape ``(length,)``, int32.
        char_end: One past the last character of each token in ``text``.
    """

    document: str
    index: int
    start: int
    ids: NDArray[np.int64]
    text: str | None
    char_start: NDArray[np.int32]
    char_end: NDArray[np.int32]


class Place(NamedTuple):
    """Where a window lies: what a `Window` says, without its tokens and its text."""

    document: str
    window: int
    start: int
    length: int


class Windows(Sequence[Window]):
    """Windows of documents, each made when it is asked for: kept, they would be a second corpus.

    Args:
        documents: The documents by their ids.
        places: Where each window lies.
    """

    def __init__(self, documents: Mapping[str, Document], places: Iterable[Place]) -> None:
        self._documents, self.places = documents, tuple(places)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, at: int) -> Window: ...
    @overload
    def __getitem__(self, at: slice) -> "Windows": ...
    def __getitem__(self, at: int | slice) -> "Window | Windows":
        if isinstance(at, slice):
            return Windows(self._documents, self.places[at])
        document, index, start, length = self.places[at]
        return window_at(self._documents[document], index=index, start=start, length=length)

    def ids(self, place: Place) -> NDArray[np.integer[Any]]:
        """The tokens at a place alone, shape ``(length,)``: a window takes far longer to make."""
        return self._documents[place.document].ids[place.start : place.start + place.length]


def cut(
    document: Document, *, length: int, per_document: int | None, skip: int = 0, seed: int
) -> list[Window]:
    """Cut windows that do not overlap out of a document.

    The tokens behind ``skip`` are divided into as many slots as fit; the tokens left over are
    the range of a random offset before the first slot. The windows of a document depend on the
    seed and its own id and tokens, on no other document.

    Args:
        document: Where to cut.
        length: Tokens of a window.
        per_document: Slots drawn; ``None`` takes all, and a short document gives what it has.
        skip: Tokens at the document's start that no window touches (a title page, a licence).
        seed: Seed of the offset and of the draw.

    Returns:
        Windows in order of position, numbered from 0.

    Raises:
        ValueError: If *length* or *per_document* is below 1, or *skip* below 0.
    """
    size = len(document.ids)
    starts = slots(
        document.id, size, length=length, per_document=per_document, skip=skip, seed=seed
    )
    return [
        window_at(document, index=index, start=start, length=length)
        for index, start in enumerate(starts)
    ]


def slots(
    document: str, size: int, *, length: int, per_document: int | None, skip: int, seed: int
) -> list[int]:
    """Where the windows of a document begin, counted in tokens or in characters.

    Args:
        document: Its id.
        size: Tokens, or characters, that it has.
        length: Those of a window; *skip* is counted alike.
        per_document: See :func:`cut`.
        skip: See :func:`cut`.
        seed: See :func:`cut`.

    Raises:
        ValueError: See :func:`cut`.
    """
    if length < 1 or skip < 0 or (per_document is not None and per_document < 1):
        raise ValueError(f"{length=} and {per_document=} must be at least 1, {skip=} at least 0")
    usable = size - skip
    count = usable // length
    if count < 1:
        return []
    digest = hashlib.sha256(f"windows {seed} {document}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest))
    offset = skip + int(rng.integers(usable - count * length, endpoint=True))
    drawn = np.arange(count)
    if per_document is not None and per_document < count:
        drawn = np.sort(rng.choice(count, size=per_document, replace=False))
    return [offset + slot * length for slot in drawn.tolist()]


def whole(document: Document, *, length: int | None = None) -> Window:
    """The whole document as one window, from its first token on.

    Args:
        document: The document.
        length: Where it is cut off, tokens; ``None`` leaves it whole.
    """
    tokens = len(document.ids) if length is None else min(length, len(document.ids))
    return window_at(document, index=0, start=0, length=tokens)


def window_at(document: Document, *, index: int, start: int, length: int) -> Window:
    """Tokens ``start … start + length`` of a document as its window number *index*."""
    tokens = slice(start, start + length)
    char_start = document.char_start[tokens]
    char_end = char_start + document.char_count[tokens].astype(np.int32)
    text = None
    if document.text is not None:
        first = char_start[0]
        text = document.text[first : char_end[-1]]
        char_start, char_end = char_start - first, char_end - first
    return Window(
        document=document.id,
        index=index,
        start=start,
        ids=document.ids[tokens].astype(np.int64),
        text=text,
        char_start=char_start,
        char_end=char_end,
    )


def token_counts(documents: Iterable[Document], vocabulary_size: int) -> NDArray[np.int64]:
    """Count how often each token occurs.

    Args:
        documents: What to count in.
        vocabulary_size: Number of token ids that the model knows.

    Returns:
        Occurrences of each token id, shape ``(vocabulary_size,)``, int64.

    Raises:
        ValueError: If an id is outside the vocabulary.
    """
    counts = np.zeros(vocabulary_size, dtype=np.int64)
    for document in documents:
        if len(document.ids) and (most := int(document.ids.max())) >= vocabulary_size:
            raise ValueError(
                f"document {document.id!r} holds the token id {most};"
                f" allowed: 0 to {vocabulary_size - 1}"
            )
        np.add.at(counts, document.ids, 1)
    return counts
