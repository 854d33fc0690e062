"""Text that others wrote, made safe to show: cut where it is long, escaped for a terminal."""

from collections.abc import Iterator
from typing import Any


def printable(text: str, keep: str = "") -> str:
    r"""A text with every character escaped that has no shape of its own.

    Args:
        text: Any text, also with lone surrogates.
        keep: Characters that stay as they are, such as the newlines of a text of several lines.

    Returns:
        The text; what Python's ``repr`` escapes is escaped: control characters, newlines, marks
        of direction, surrogates (``\x1b``, ``\n``, ``\u202e``, ``\ud800``).
    """
    return "".join(
        char
        if char in keep or char.isprintable()
        else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


MOST = 200
"""Characters of a value that a message shows."""


def shown(value: object, most: int = MOST) -> str:
    """The ``repr`` of a value in at most *most* characters, cut before it is written out.

    ``reprlib`` bounds the items of a level, not their sum: YAML that names one list in another
    makes 28 MB of 300 bytes.

    Args:
        value: Whatever a user gave, also lists that hold themselves.
        most: Characters, the last of which is ``…`` where something was cut off.
    """
    text = ""
    for piece in _pieces(value, most):
        text += piece
        if len(text) > most:
            return f"{text[: most - 1]}…"
    return text


def one_line(text: object, most: int = 300) -> str:
    """What others say, such as an error of a library, on one line of at most *most* characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _pieces(value: Any, most: int) -> Iterator[str]:
    """The parts of a value's ``repr``, in order; each level of lists gives one at once."""
    if isinstance(value, str | bytes):
        yield repr(value[: most + 1])
    elif type(value) is dict:
        yield "{"
        for number, (key, part) in enumerate(value.items()):
            yield ", " if number else ""
            yield from _pieces(key, most)
            yield ": "
            yield from _pieces(part, most)
        yield "}"
    elif type(value) in (list, tuple):
        yield "[" if type(value) is list else "("
        for number, part in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(part, most)
        yield "]" if type(value) is list else ",)" if len(value) == 1 else ")"
    elif isinstance(value, int) and value.bit_length() > 4 * most:
        yield f"a whole number of {value.bit_length():,} bits"  # Python refuses to write it out
    else:
        yield repr(value)
