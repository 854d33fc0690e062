"""Rows of words in columns, as plain text."""

from collections.abc import Sequence

from probe.printable import printable


def aligned(lines: Sequence[Sequence[str]], *, rule: bool = False, numbers: bool = False) -> str:
    """Rows of words in columns as wide as their longest word.

    Args:
        lines: The rows, the first being the head; equally many words in each, at least one row.
            What a terminal would obey in a word is escaped.
        rule: Whether a line of hyphens follows the head.
        numbers: Whether all columns but the first end, instead of begin, at one place.

    Returns:
        One line a row, without blanks at their ends.
    """
    lines = [[printable(word) for word in line] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    place = str.rjust if numbers else str.ljust
    rows = [
        "  ".join([line[0].ljust(widths[0]), *map(place, line[1:], widths[1:])]).rstrip()
        for line in lines
    ]
    if rule:
        rows.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(rows)
