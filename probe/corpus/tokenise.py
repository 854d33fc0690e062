"""Records as documents of tokens, long texts tokenised in overlapping pieces that agree.

All at once takes too much memory. A piece may differ from the whole near its ends only: a word is
cut there, and some tokenizers put a space before a text. Two neighbours are joined inside their
overlap, at a place on both sides of which they have the same tokens, so that the result is that of
the whole text. What could make it another one, and why it does not:

- Byte pair encoding is right where every two neighbouring tokens are; two pieces that share a token
  can be joined there. Other models choose among all ways to divide a word, so that they are joined
  where both begin a word.
- In a long run (spaces, digits, a line of dashes) two pieces may agree by chance, each cut at the
  same place of a period: tokens on both sides of a seam must vary.
- Rules for words may look at the whole text (every second quotation mark, every n-th character):
  a tokenizer is first asked whether one character before or behind a text changes tokens far away.

Where neighbours do not agree, the first is taken longer, in the end as the rest of the text.
"""

import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.corpus.alignment import read_places, words_of
from probe.corpus.records import Record
from probe.corpus.sound import Hearing, read_seconds, to_frames
from probe.corpus.spans import pieces, to_tokens
from probe.corpus.windows import Document, Span
from probe.errors import ProbeError, UsageError
from probe.text import shown

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

PIECE = 1 << 18
"""Characters that are tokenised at once, where that will do."""
OVERLAP = 1 << 12
VARIED = 16
"""Different runs of four tokens that stand on either side of a seam."""
TOGETHER = 32
"""Texts that a tokenizer is handed at once, which it reads side by side."""
BYTES = 200
"""Memory that tokenising takes, a character: a text has about four in a token of 750 bytes."""

_NOWHERE = np.empty((0, 2), dtype=np.int32)
_MOST = 2**31  # ids and places in a text are kept, and written, as int32
_SIGNS = f"{string.punctuation}“”‘’«»¿"
_SAMPLE = "".join(
    f"{first} word{last}{number}\tof 'a' \"b\"{first}{last}\n"
    for number, (first, last) in enumerate(zip(_SIGNS * 2, _SIGNS[::-1] * 2, strict=True))
)


class Tokens(NamedTuple):
    """Tokens of a text, or of a piece of one.

    Args:
        ids: Token ids, shape ``(n,)``, int32.
        places: Characters of each, shape ``(n, 2)``, int32; ``(0, 2)`` where the tokenizer is slow.
        words: Number of the word that each belongs to, shape ``(n,)``; ``(0,)`` if not asked for.
    """

    ids: NDArray[np.int32]
    places: NDArray[np.int32]
    words: NDArray[np.int32]


@dataclass(frozen=True)
class Reader:
    """How a model reads what a record holds.

    Args:
        tokenizer: The model's tokenizer; ``None`` will do for token ids. A slow one knows no
            characters, and documents are then without text.
        vocabulary: Number of token ids that the model knows.
        source_vocabulary: Number of those that its encoder knows, if that is another.
        hearing: How the model reads sound, if it does.
    """

    tokenizer: "PreTrainedTokenizerBase | None"
    vocabulary: int
    source_vocabulary: int | None = None
    hearing: Hearing | None = None


def to_documents(records: Iterable[Record], reader: Reader) -> Iterator[Document]:
    """Tokenise one record after the other, plain texts several at once.

    Args:
        records: The documents; some are read before the first is there.
        reader: How the model reads them.

    Yields:
        What :func:`to_document` makes of each.

    Raises:
        UsageError: As there.
        ProbeError: What reading a record raises, behind the documents before it.
    """
    left, tokenizer = iter(records), reader.tokenizer
    while True:
        several, failed = _some(left)
        texts = {at: one.text for at, one in enumerate(several) if one.text}
        texts = {at: text for at, text in texts.items() if len(text) <= PIECE}
        read: dict[int, Tokens] = {}
        if tokenizer is not None and tokenizer.is_fast and len(texts) > 1:
            every = _encodings([*texts.values()], tokenizer, special=False)
            places = zip(every["input_ids"], every["offset_mapping"], strict=True)
            read = {at: _tokens(*one) for at, one in zip(texts, places, strict=True)}
        for at, record in enumerate(several):
            yield to_document(record, reader, read.get(at))
        if failed is not None:
            raise failed
        if not several:
            return


def _some(records: Iterator[Record]) -> tuple[list[Record], ProbeError | None]:
    """The next few records, of about ``PIECE`` characters, and what the one behind them raises."""
    found: list[Record] = []
    try:
        while len(found) < TOGETHER and sum(len(one.text or "") for one in found) < PIECE:
            found.append(next(records))
    except StopIteration:
        pass
    except ProbeError as error:
        return found, error
    return found, None


def to_document(record: Record, reader: Reader, tokens: "Tokens | None" = None) -> Document:
    """Tokenise a text, or take the token ids as they are.

    No special token is added, and text that looks like one is tokenised as text: a document
    must not be able to place an end of text or a chat turn.

    Args:
        record: The document, text or token ids.
        reader: How the model reads it.
        tokens: Those of its text, where that was read before.

    Returns:
        The document, possibly without any token; with a source where the record has one.

    Raises:
        UsageError: If a text comes without a tokenizer, or an id is outside the vocabulary.
    """
    ids: NDArray[np.integer[Any]]
    tokenizer = reader.tokenizer
    if record.prompt:
        text, ids, offsets, spans = _prompt(record, tokenizer)
    elif record.ids is not None:
        text, ids, offsets, spans = None, record.ids, _NOWHERE, ()
    else:
        text = record.text
        target = record.source is not None or record.sound is not None
        if tokens is None or target:
            ids, offsets = _encode(text, tokenizer, record.id, special=False, target=target)
        else:
            ids, offsets = tokens[:2]
        if not len(offsets):
            text = None
        spans = to_tokens(record.spans, offsets[:, 0], offsets[:, 1])
    known = min(reader.vocabulary, _MOST)
    if ids.size and not 0 <= ids.min() <= ids.max() < known:
        wrong = ids[(ids < 0) | (ids >= known)][0]
        raise UsageError(
            f"document {record.id!r} holds the token id {wrong}; allowed: 0 to"
            f" {known - 1}, the vocabulary of the model"
        )
    # A corpus of many tokens is held whole: what a byte is enough for takes a byte.
    start, count = offsets[:, 0].copy(), offsets[:, 1] - offsets[:, 0]
    count = count.astype(np.min_scalar_type(count.max(initial=0)))
    ids = ids.astype(np.int32)
    document = Document(record.id, ids, text, start, count, record.group, spans, record.metadata)
    if record.sound is not None and reader.hearing is not None:
        return _with_sound(document, record, reader.hearing)
    if record.source is None:
        return document
    read = Record(record.id)
    if isinstance(record.source, str):
        read = replace(read, text=record.source)
    else:
        read = replace(read, ids=record.source)
    size = reader.source_vocabulary or reader.vocabulary
    source = to_document(read, Reader(tokenizer, size))
    places, column = None, record.alignment_column
    if column is not None:
        is_text = read.text is not None
        places = read_places(record.alignment, document, source, is_text=is_text, column=column)
    return replace(document, source=source, places=places)


def _with_sound(document: Document, record: Record, hearing: Hearing) -> Document:
    """The document with what an encoder hears, and when each of its tokens is spoken."""
    assert record.sound is not None
    source, places, column = (
        to_frames(record.sound, hearing, record.id),
        None,
        record.alignment_column,
    )
    if column is not None:
        where = f"data.alignment_column: {shown(column)} of document {record.id!r}"
        if document.text is None and record.ids is None:
            raise UsageError(
                f"{where}: the tokenizer does not say which characters a token has; allowed: a "
                "fast tokenizer, data as token ids, or protocol.alignment: attention"
            )
        words = words_of(document)
        size, lasts = len(source.ids), hearing.seconds
        places = read_seconds(
            record.alignment, document, words, length=size, frame=lasts, where=where
        )
    return replace(document, source=source, places=places)


def _prompt(
    record: Record, tokenizer: "PreTrainedTokenizerBase | None"
) -> tuple[str | None, NDArray[np.int32], NDArray[np.int32], tuple[Span, ...]]:
    """Tokenise a prompt part by part: only what the template puts in may be a special token."""
    *_, answer = record.prompt
    parts = pieces(record.prompt, answer, tokenizer=tokenizer, document=record.id)
    ids, offsets, spans, tokens, characters = [], [], [], 0, 0
    for part in parts:
        encoded, places = _encode(part.text, tokenizer, record.id, special=part.name is None)
        ids.append(encoded)
        offsets.append(places + characters)
        if part.name is not None and len(encoded):
            spans.append(Span(part.name, tokens, tokens + len(encoded)))
        tokens, characters = tokens + len(encoded), characters + len(part.text)
    text = "".join(part.text for part in parts) if len(offsets[0]) else None
    return text, np.concatenate(ids), np.concatenate(offsets).astype(np.int32), tuple(spans)


def _encode(
    text: str | None,
    tokenizer: "PreTrainedTokenizerBase | None",
    document: str,
    *,
    special: bool,
    target: bool = False,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Token ids, and the characters of each, shape ``(n, 2)``; none where the tokenizer is slow."""
    if tokenizer is None or text is None:
        raise UsageError(f"document {document!r} is a text, and the model has no tokenizer")
    if len(text) >= _MOST:
        raise UsageError(
            f"document {document!r} has {len(text):,} characters; allowed: {_MOST - 1:,}"
        )
    try:
        if len(text) <= PIECE or not tokenizer.is_fast:
            return encode(text, tokenizer, special=special, target=target)[:2]
        return encode_long(text, tokenizer, special=special)
    except MemoryError as error:
        raise ProbeError(
            f"document {document!r}: tokenising its {len(text):,} characters takes more memory "
            "than there is"
        ) from error


def encode(
    text: str,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    special: bool,
    words: bool = False,
    target: bool = False,
) -> Tokens:
    """Tokenise a text in one call.

    Args:
        text: The text.
        tokenizer: The model's tokenizer.
        special: Whether text that looks like a special token is one.
        words: Whether the word of each token is wanted.
        target: Whether it is a target text, whose tokens may be others than those of a source.
    """
    encoding = _encodings(text, tokenizer, special=special, target=target)
    places = encoding["offset_mapping"] if tokenizer.is_fast else []
    numbers = [-1 if word is None else word for word in encoding.word_ids(0)] if words else []
    return _tokens(encoding["input_ids"], places, numbers)


def _encodings(
    text: str | list[str],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    special: bool,
    target: bool = False,
) -> "BatchEncoding":
    """What the tokenizer makes of a text, or of several."""
    encoding: BatchEncoding = tokenizer(
        **{"text_target" if target else "text": text},
        add_special_tokens=False,
        split_special_tokens=not special,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=tokenizer.is_fast,
        verbose=False,  # a document may be longer than the model's context
    )
    return encoding


def _tokens(ids: Any, places: Any, words: Any = ()) -> Tokens:
    places = np.asarray(places, dtype=np.int32).reshape(-1, 2)
    return Tokens(np.asarray(ids, dtype=np.int32), places, np.asarray(words, dtype=np.int32))


def encode_long(
    text: str, tokenizer: "PreTrainedTokenizerBase", *, special: bool
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Tokenise a text in pieces, with the result of one call.

    Args:
        text: The text.
        tokenizer: A fast tokenizer.
        special: See :func:`encode`.

    Returns:
        Token ids, shape ``(n,)``, and the characters of each, shape ``(n, 2)``.

    Raises:
        MemoryError: If there is too little memory for a piece.
    """
    size, overlap = PIECE, OVERLAP
    if not _looks_nearby(tokenizer):
        size = len(text)
    anywhere = type(tokenizer.backend_tokenizer.model).__name__ == "BPE"

    def piece(begin: int, end: int) -> Tokens:
        # The tokenizer ends the process where it gets no memory: it is asked for here first.
        np.empty(BYTES * (min(end, len(text)) - begin), dtype=np.uint8)
        tokens = encode(text[begin:end], tokenizer, special=special, words=True)
        return tokens._replace(places=tokens.places + begin)

    ids: list[NDArray[np.int32]] = []
    places: list[NDArray[np.int32]] = []
    begin, end, first, left = 0, size, 0, piece(0, size)
    while end < len(text):
        right = piece(end - overlap, end - overlap + size)
        middle = (end - overlap * 3 // 4, end - overlap // 4)
        seam = _seam(left, right, *middle, anywhere=anywhere)
        if seam is None:
            size, overlap = 2 * size, 2 * overlap
            end += size
            left = piece(begin, end)
            continue
        ids.append(left.ids[first : seam[0]].copy())
        places.append(left.places[first : seam[0]].copy())
        begin, end, first, left = end - overlap, end - overlap + size, seam[1], right
        size, overlap = PIECE, OVERLAP
    ids.append(left.ids[first:])
    places.append(left.places[first:])
    return np.concatenate(ids), np.concatenate(places)


def _seam(
    left: Tokens, right: Tokens, low: int, high: int, *, anywhere: bool
) -> tuple[int, int] | None:
    """Where two pieces can be joined, or ``None``.

    Args:
        left: Tokens of a piece; right up to near its end.
        right: Those of the next one; right from near its beginning on.
        low: First character of the part of the overlap in which all tokens must be the same.
        high: One past its last.
        anywhere: Whether a seam may lie inside a word.

    Returns:
        The first token behind the seam, as its number in either piece.
    """
    mine, theirs = (
        np.flatnonzero((tokens.places[:, 0] >= low) & (tokens.places[:, 1] <= high))
        for tokens in (left, right)
    )
    ids = left.ids[mine]
    if not np.array_equal(ids, right.ids[theirs]):
        return None
    if not np.array_equal(left.places[mine], right.places[theirs]):
        return None
    begins = np.arange(1, len(ids))
    if not anywhere:
        begins = begins[(np.diff(left.words[mine]) != 0) & (np.diff(right.words[theirs]) != 0)]
    if not len(begins):
        return None
    at = begins[len(begins) // 2]
    if not (_varied(ids[:at]) and _varied(ids[at:])):
        return None
    return int(mine[at]), int(theirs[at])


def _varied(ids: NDArray[np.int32]) -> bool:
    listed = ids.tolist()
    return len(set(zip(listed, listed[1:], listed[2:], listed[3:], strict=False))) >= VARIED


@lru_cache(maxsize=8)
def _looks_nearby(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether one character before or behind a text leaves the tokens far from it as they are."""
    ids, places, _ = encode(_SAMPLE, tokenizer, special=False)
    half = len(_SAMPLE) // 2
    for sign in [*_SIGNS, *"x0 \né"]:
        for text, moved in ((sign + _SAMPLE, 1), (_SAMPLE + sign, 0)):
            other, where, _ = encode(text, tokenizer, special=False)
            far = places[:, 0] >= half if moved else places[:, 1] <= half
            same = where[:, 0] >= half + moved if moved else where[:, 1] <= half
            if not np.array_equal(ids[far], other[same]):
                return False
            if not np.array_equal(places[far] + moved, where[same]):
                return False
    return True
