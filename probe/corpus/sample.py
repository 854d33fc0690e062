"""The corpus of a run: records tokenised, a seeded sample of them, an account of the others."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.corpus.dataset import STDLIB, DataOptions
from probe.corpus.records import LeftOut, Omitted, Record, records
from probe.corpus.spans import pieces, to_tokens
from probe.corpus.stdlib import python_sources
from probe.corpus.tokenise import PIECE, encode, encode_long
from probe.corpus.windows import Document, Span
from probe.errors import ProbeError, UsageError
from probe.text import shown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NOWHERE = np.empty((0, 2), dtype=np.int32)
_MOST = 2**31  # ids and places in a text are kept, and written, as int32


@dataclass(frozen=True, eq=False)
class Corpus:
    """The documents of a run.

    Args:
        documents: At least one, in seeded order.
        left_out: What was read on the way to them and is none.
    """

    documents: tuple[Document, ...]
    left_out: LeftOut


def load_corpus(
    options: DataOptions,
    *,
    tokenizer: "PreTrainedTokenizerBase | None",
    vocabulary_size: int,
    minimum: int,
    seed: int,
) -> Corpus:
    """Read, tokenise and sample the documents of a data set.

    Documents are taken in seeded order until there are ``max_documents`` of them: with the same
    seed a larger sample starts with the smaller one.

    Args:
        options: The data set.
        tokenizer: The model's tokenizer; ``None`` will do for token ids.
        vocabulary_size: Number of token ids that the model knows.
        minimum: Tokens that a document must have: a window, and what is skipped before it.
        seed: Seed of the sample.

    Returns:
        At least one and at most ``max_documents`` documents, and what was left out until they
        were found.

    Raises:
        UsageError: If the request does not fit the data set.
        ProbeError: If the data set is empty or unreadable, or no document is long enough.
    """
    left_out = LeftOut()
    if options.path == STDLIB:
        sources, left_out = _python_sources(options)
        order = np.random.default_rng(seed).permutation(len(sources))
        read: Iterator[Record] = (sources[index] for index in order.tolist())
    else:
        read = records(options, seed=seed)
    documents: list[Document] = []
    too_short: list[str] = []
    empty: list[str] = []
    longest = 0
    for record in read:
        document = to_document(record, tokenizer=tokenizer, vocabulary_size=vocabulary_size)
        tokens = len(document.ids)
        longest = max(longest, tokens)
        if tokens >= minimum:
            documents.append(document)
            if len(documents) == options.max_documents:
                break
        else:
            (too_short if tokens else empty).append(document.id)
    if not documents:
        raise _no_document(options, seen=len(too_short) + len(empty), longest=longest, need=minimum)
    left_out = replace(left_out, too_short=Omitted.of(too_short), empty=Omitted.of(empty))
    return Corpus(tuple(documents), left_out)


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
    start, count = offsets[:, 0].copy(), offsets[:, 1] - offsets[:, 0]
    count = count.astype(np.min_scalar_type(count.max(initial=0)))
    ids = ids.astype(np.int32)
    return Document(record.id, ids, text, start, count, record.group, spans, record.metadata)


def _python_sources(options: DataOptions) -> tuple[list[Record], LeftOut]:
    plain = DataOptions(STDLIB, max_documents=options.max_documents)
    given = [f.name for f in fields(plain) if getattr(options, f.name) != getattr(plain, f.name)]
    if given:
        raise UsageError(
            f"data: {', '.join(given)} cannot be set where data.path is {STDLIB!r};"
            " allowed: max_documents"
        )
    return python_sources()


def _no_document(options: DataOptions, *, seen: int, longest: int, need: int) -> ProbeError:
    if not seen:
        return ProbeError(
            f"split {shown(options.split)} of data set {shown(options.path)} is empty"
        )
    if not longest:
        return ProbeError(
            f"no document of data set {shown(options.path)} holds a token: {seen} read, each empty"
            " or of characters that the tokenizer leaves out, as some leave out NUL"
        )
    return ProbeError(
        f"no document of data set {shown(options.path)} is long enough: {seen} read, the longest"
        f" has {longest} tokens, a window needs {need}"
    )


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
