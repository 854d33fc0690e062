"""Named passages of a document: where they stand in its text, and which tokens they are."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.corpus.windows import Span
from probe.errors import UsageError
from probe.text import shown

JOINT = "\n\n"
"""What stands between the columns of a prompt."""
_PLACE = "the text of the message"


class TextSpan(NamedTuple):
    """Characters ``start … stop`` of a text under a name."""

    name: str
    start: int
    stop: int


def read_spans(value: Any, text: str, *, column: str, document: str) -> tuple[TextSpan, ...]:
    """Read what a column of spans holds.

    Args:
        value: A list of mappings ``{name, start, end}``, in characters.
        text: The text that they are of.
        column: Name of the column, for an error.
        document: Id of the document, for an error.

    Returns:
        The spans in order of their start.

    Raises:
        UsageError: If the column holds something else, a span does not fit the text, or two
            overlap or have one name.
    """
    where = f"data.spans_column: {shown(column)} of document {document!r}"
    if not isinstance(value, list | tuple) or not all(
        isinstance(entry, Mapping) for entry in value
    ):
        raise UsageError(f"{where} holds {shown(value)}; allowed: a list of {{name, start, end}}")
    spans = []
    for entry in value:
        name, start, stop = (entry.get(key) for key in ("name", "start", "end"))
        if not isinstance(name, str) or not name or not _is_index(start) or not _is_index(stop):
            raise UsageError(
                f"{where} holds {shown(dict(entry))}; allowed: name, a text, and start and end, "
                "whole numbers"
            )
        if not 0 <= start < stop <= len(text):
            raise UsageError(
                f"{where}: {shown(name)} is characters {start} to {stop}; allowed: 0 to"
                f" {len(text)}, start before end"
            )
        spans.append(TextSpan(name, int(start), int(stop)))
    spans.sort(key=lambda span: span.start)
    for before, after in pairwise(spans):
        if after.start < before.stop:
            raise UsageError(f"{where}: {shown(before.name)} and {shown(after.name)} overlap")
    names = [span.name for span in spans]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"{where}: two spans are called {shown(name)}; allowed: names of their own"
            )
    return tuple(spans)


class Piece(NamedTuple):
    """A part of a prompt: a passage under its name, or what the template puts between them."""

    name: str | None
    text: str


def pieces(prompt: Mapping[str, Any], answer: str, *, tokenizer: Any, document: str) -> list[Piece]:
    """Make a prompt of columns, with the tokenizer's chat template where it has one.

    Args:
        prompt: The values of the columns in order, that of the answer among them: a text, or a
            list of texts, which are named ``name[0]``, ….
        answer: The column of the answer.
        tokenizer: The model's tokenizer.
        document: Id of the document, for an error.

    Returns:
        The parts in order, the answer last; joined they are the whole text.

    Raises:
        UsageError: If a column holds something else, or the template does not show a message.
    """
    columns = [column for column in prompt if column != answer]
    parts = [part for column in columns for part in _parts(prompt, column, document)]
    reply = _parts(prompt, answer, document)
    if len(reply) != 1 or reply[0].name != answer:
        raise UsageError(
            f"data.answer_column: {shown(answer)} of document {document!r} holds {len(reply)}"
            " texts; allowed: one"
        )
    before, behind = _template(tokenizer)
    prompt_pieces = [Piece(None, before)]
    for number, part in enumerate(parts):
        prompt_pieces += [Piece(None, JOINT if number else ""), part]
    prompt_pieces += [Piece(None, behind), reply[0]]
    return [piece for piece in prompt_pieces if piece.text]


def _template(tokenizer: Any) -> tuple[str, str]:
    """What stands before and behind a prompt; found without the data, which could imitate it."""
    if not getattr(tokenizer, "chat_template", None):
        return "", JOINT
    messages = [{"role": "user", "content": _PLACE}]
    text = str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    before, place, behind = text.partition(_PLACE)
    if not place or _PLACE in behind:
        raise UsageError("the chat template does not show a message once, as it is")
    return before, behind


def to_tokens(
    spans: Sequence[TextSpan], char_start: NDArray[np.int32], char_end: NDArray[np.int32]
) -> tuple[Span, ...]:
    """The tokens of spans: a token belongs to what holds its last character.

    Args:
        spans: Spans of characters, in order.
        char_start: First character of each token, shape ``(n,)``.
        char_end: One past its last character.

    Returns:
        Spans of tokens; one too short to hold a token's end is left out.
    """
    last = np.maximum(char_start, char_end - 1)
    in_tokens = []
    for name, start, stop in spans:
        first, end = np.searchsorted(last, [start, stop])
        if first < end:
            in_tokens.append(Span(name, int(first), int(end)))
    return tuple(in_tokens)


def _parts(row: Mapping[str, Any], column: str, document: str) -> list[Piece]:
    value = row[column]
    if isinstance(value, str) and value:
        return [Piece(column, value)]
    if isinstance(value, list) and value and all(isinstance(text, str) and text for text in value):
        return [Piece(f"{column}[{number}]", text) for number, text in enumerate(value)]
    raise UsageError(
        f"column {shown(column)} of document {document!r} holds {shown(value)}; allowed: a text or"
        " a list of texts, none of them empty"
    )


def _is_index(value: Any) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole or (isinstance(value, float) and not math.isnan(value) and value.is_integer())
