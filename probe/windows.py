"""Documents, and the windows of consecutive tokens that are cut from them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Document:
    """One text of the data set, tokenised whole.

    Args:
        id: Name of the document, unique in its data set.
        ids: Token ids, shape ``(n,)``, int64, without special tokens.
        text: The text, or ``None`` for data that came as token ids.
        char_start: First character of each token in ``text``, shape ``(n,)``, int32; empty
            where there is no text.
        char_end: One past the last character of each token, like ``char_start``.
        group: Value of the metadata column that groups documents, where one was asked for.
    """

    id: str
    ids: NDArray[np.int64]
    text: str | None
    char_start: NDArray[np.int32]
    char_end: NDArray[np.int32]
    group: str | None = None


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
