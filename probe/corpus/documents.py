"""Records to documents: a text is tokenised whole, and keeps the characters of every token."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from probe.corpus.records import Record
from probe.corpus.spans import pieces, to_tokens
from probe.errors import UsageError
from probe.windows import Document, Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NOWHERE = np.empty((0, 2), dtype=np.int32)


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
    if ids.size and not 0 <= ids.min() <= ids.max() < vocabulary_size:
        wrong = ids[(ids < 0) | (ids >= vocabulary_size)][0]
        raise UsageError(
            f"document {record.id!r} holds the token id {wrong}; allowed: 0 to"
            f" {vocabulary_size - 1}, the vocabulary of the model"
        )
    starts, ends = offsets[:, 0].copy(), offsets[:, 1].copy()
    return Document(record.id, ids, text, starts, ends, record.group, spans)


def _prompt(
    record: Record, tokenizer: "PreTrainedTokenizerBase | None"
) -> tuple[str | None, NDArray[np.int64], NDArray[np.int32], tuple[Span, ...]]:
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
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Token ids, and the characters of each, shape ``(n, 2)``; none where the tokenizer is slow."""
    if tokenizer is None or text is None:
        raise UsageError(f"document {document!r} is a text, and the model has no tokenizer")
    encoding = tokenizer(
        text,
        add_special_tokens=False,
        split_special_tokens=not special,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=tokenizer.is_fast,
        verbose=False,  # a document may be longer than the model's context
    )
    ids = np.asarray(encoding["input_ids"], dtype=np.int64)
    if not tokenizer.is_fast:
        return ids, _NOWHERE
    return ids, np.asarray(encoding["offset_mapping"], dtype=np.int32).reshape(-1, 2)
