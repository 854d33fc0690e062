"""Which token of a source each token of a target belongs to, as a data set's column says it."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.corpus.windows import Document
from probe.errors import UsageError
from probe.text import shown

NOWHERE = -1
"""The place of a target token that belongs to none of the source."""


def read_places(
    value: Any, target: Document, source: Document, *, is_text: bool, column: str
) -> NDArray[np.int64]:
    """Read what a column of alignments holds.

    Args:
        value: Of texts, a list with an entry for each word of the target (what white space parts):
            the character of the source where it belongs. Of token ids, an entry for each token of
            the target: the token of the source. ``None`` in it is a word that belongs nowhere.
        target: The target.
        source: Its source.
        is_text: Whether they came as texts.
        column: Name of the column, for an error.

    Returns:
        The token of the source of each token of the target, ``NOWHERE`` for none, shape ``(n,)``.

    Raises:
        UsageError: If the column holds something else, or the tokenizer knows no characters.
    """
    where = f"data.alignment_column: {shown(column)} of document {target.id!r}"
    texts = target.text is not None and source.text is not None
    if not texts and is_text:
        raise UsageError(
            f"{where}: the tokenizer does not say which characters a token has; allowed: a fast "
            "tokenizer, data as token ids, or protocol.alignment: attention"
        )
    words = words_of(target) if texts else np.arange(len(target.ids))
    count = len((target.text or "").split()) if texts else len(words)
    unit, room = ("words", len(source.text or "")) if texts else ("tokens", len(source.ids))
    if not isinstance(value, list | tuple) or len(value) != count:
        raise UsageError(
            f"{where} holds {shown(value)}; allowed: a list of {count} places, one for each of the "
            f"target's {unit}"
        )
    places = np.array([_place(entry, room, where) for entry in value], dtype=np.int64)
    if texts and count:
        # The token that holds the character, or the next one where that is white space.
        tokens = np.searchsorted(source.char_end, places, side="right")
        tokens = np.minimum(tokens, len(source.ids) - 1)
        places = np.where(places == NOWHERE, NOWHERE, tokens)
    return places[words] if count else np.full(len(words), NOWHERE)


def words_of(target: Document) -> NDArray[np.int64]:
    """The word of each token: that of its last character, white space to the word behind it.

    Of token ids each is a word of its own.
    """
    if target.text is None:
        return np.arange(len(target.ids))
    ends = [match.end() for match in re.finditer(r"\S+", target.text or "")]
    last = np.maximum(target.char_start, target.char_end - 1)
    words = np.searchsorted(np.array(ends, dtype=np.int64), last, side="right")
    return np.minimum(words, max(0, len(ends) - 1)).astype(np.int64)


def _place(entry: Any, room: int, where: str) -> int:
    if entry is None:
        return NOWHERE
    whole = isinstance(entry, int | np.integer) and not isinstance(entry, bool)
    if not whole or not 0 <= entry < room:
        raise UsageError(
            f"{where} holds the place {shown(entry)}; allowed: null, or whole numbers from 0 to "
            f"{room - 1}"
        )
    return int(entry)
