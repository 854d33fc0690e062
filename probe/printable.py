"""Text that others wrote, made safe to show: what a terminal would obey is escaped."""


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
