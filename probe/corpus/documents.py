"""Records to documents: a text is tokenised whole, and keeps the characters of every token."""

from typing import TYPE_CHECKING

import numpy as np

from probe.corpus.records import Record
from probe.errors import UsageError
from probe.windows import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    text = record.text
    offsets = np.empty((0, 2), dtype=np.int32)
    if record.ids is not None:
        ids = record.ids
    elif tokenizer is None or text is None:
        raise UsageError(f"document {record.id!r} is a text, and the model has no tokenizer")
    else:
        encoding = tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=tokenizer.is_fast,
            verbose=False,  # a document may be longer than the model's context
        )
        ids = np.asarray(encoding["input_ids"], dtype=np.int64)
        if tokenizer.is_fast:
            offsets = np.asarray(encoding["offset_mapping"], dtype=np.int32).reshape(-1, 2)
        else:
            text = None
    if ids.size and not 0 <= ids.min() <= ids.max() < vocabulary_size:
        wrong = ids[(ids < 0) | (ids >= vocabulary_size)][0]
        raise UsageError(
            f"document {record.id!r} holds the token id {wrong}; allowed: 0 to"
            f" {vocabulary_size - 1}, the vocabulary of the model"
        )
    return Document(record.id, ids, text, offsets[:, 0].copy(), offsets[:, 1].copy(), record.group)
