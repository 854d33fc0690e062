"""Records to documents: a text is tokenised whole, and keeps the characters of every token."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.corpus.records import Record
from probe.corpus.spans import pieces, to_tokens
from probe.corpus.tokenise import PIECE, encode, encode_long
from probe.errors import ProbeError, UsageError
from probe.windows import Document, Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NOWHERE = np.empty((0, 2), dtype=np.int32)
_NOTHING = np.empty(0, dtype=np.int32)
_MOST = 2**31  # ids and places in a text are kept, and written, as int32


def to_document(
    record: Record, *, tokenizer: "PreTrainedTokenizerBase | None", vocabulary_size: int
) -> Document:
    """Tokenise a text, or take the token ids as they are.

    No special token is added, and text that looks like one is tokenised as text: a document
    must not be able to place an end of text or a chat turn.

    Args:
        record: The document, text or token ids.
        tokenizer: The model's tokenizer; ``None`` will do for token ids. A slow one knows no
            characters, and the document is then without text.
        vocabulary_size: Number of token ids that the model knows.

    Returns:
        The document, possibly without any token.

    Raises:
        UsageError: If a text comes without a tokenizer, or an id is outside the vocabulary.
    """
    ids: NDArray[np.integer[Any]]
    if record.prompt:
        text, ids, offsets, spans = _prompt(record, tokenizer)
    elif record.ids is not None:
        text, ids, offsets, spans = None, record.ids, _NOWHERE, ()
    else:
        text = record.text
        ids, offsets = _encode(text, tokenizer, record.id, special=False)
        if not len(offsets):
            text = None
        spans = to_tokens(record.spans, offsets[:, 0], offsets[:, 1])
    known = min(vocabulary_size, _MOST)
    if ids.size and not 0 <= ids.min() <= ids.max() < known:
        wrong = ids[(ids < 0) | (ids >= known)][0]
        raise UsageError(
            f"document {record.id!r} holds the token id {wrong}; allowed: 0 to"
            f" {known - 1}, the vocabulary of the model"
        )
    # A corpus of many tokens is held whole: what a byte is enough for takes a byte.
    start, count = _NOTHING, _NOTHING
    if len(offsets):
        start, count = offsets[:, 0].copy(), offsets[:, 1] - offsets[:, 0]
        count = count.astype(np.min_scalar_type(count.max()))
    return Document(record.id, ids.astype(np.int32), text, start, count, record.group, spans)


def _prompt(
    record: Record, tokenizer: "PreTrainedTokenizerBase | None"
) -> tuple[str | None, NDArray[np.int32], NDArray[np.int32], tuple[Span, ...]]:
    """Tokenise a prompt part by part: only what the template puts in may be a special token."""
    *_, answer = record.prompt
    found = pieces(record.prompt, answer, tokenizer=tokenizer, document=record.id)
    ids, offsets, spans, tokens, characters = [], [], [], 0, 0
    for piece in found:
        own, places = _encode(piece.text, tokenizer, record.id, special=piece.name is None)
        ids.append(own)
        offsets.append(places + characters)
        if piece.name is not None and len(own):
            spans.append(Span(piece.name, tokens, tokens + len(own)))
        tokens, characters = tokens + len(own), characters + len(piece.text)
    text = "".join(piece.text for piece in found) if len(offsets[0]) else None
    return text, np.concatenate(ids), np.concatenate(offsets).astype(np.int32), tuple(spans)


def _encode(
    text: str | None, tokenizer: "PreTrainedTokenizerBase | None", document: str, *, special: bool
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
            return encode(text, tokenizer, special=special)[:2]
        return encode_long(text, tokenizer, special=special)
    except MemoryError as error:
        raise ProbeError(
            f"document {document!r}: tokenising its {len(text):,} characters takes more memory "
            "than there is"
        ) from error
