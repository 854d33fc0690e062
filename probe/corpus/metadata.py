"""What a data set says of a document beside its text: short values of columns, as text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from probe.errors import UsageError

LONGEST = 200
"""Characters that a value may have: longer ones describe nothing, they are text."""


def described(row: Mapping[str, Any], columns: Sequence[str], *, document: str) -> dict[str, str]:
    """The values of a document's metadata columns.

    Args:
        row: The document as the data set holds it.
        columns: The columns.
        document: Its name, for the message.

    Returns:
        Text by column: numbers as they are written, ``yes`` and ``no`` for true and false; no
        entry for a value that is missing, blank or NaN.

    Raises:
        UsageError: If a value is something else, or longer than ``LONGEST`` characters.
    """
    texts = {column: _text(row[column], column, document) for column in columns}
    return {column: text for column, text in texts.items() if text is not None}


def _text(value: Any, column: str, document: str) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str | int | float):
        raise UsageError(
            f"data.metadata_columns: {column!r} holds {type(value).__name__} in document"
            f" {document!r}; allowed: text, numbers, true and false"
        )
    text = str(value).strip()
    if len(text) > LONGEST:
        raise UsageError(
            f"data.metadata_columns: {column!r} holds {len(text):,} characters in document"
            f" {document!r}; allowed: up to {LONGEST}"
        )
    return text or None
