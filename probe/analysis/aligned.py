"""Rows of words in columns, as plain text."""

from collections.abc import Sequence

from probe.printable import printable

WIDTH = 100
"""Most characters of a line, where columns can stand below one another."""


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


def in_blocks(lines: Sequence[Sequence[str]], *, rule: bool = False) -> str:
    """Rows of words in columns of at most :data:`WIDTH` characters together.

    Columns that have no room stand below, behind the first one once more.

    Args:
        lines: Rows of as many words each, the head first.
        rule: Whether a line of hyphens stands below the head.
    """
    lines = [[printable(word) for word in line] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    blocks, used = [[0]], widths[0]
    for column in range(1, len(widths)):
        if used + 2 + widths[column] > WIDTH and blocks[-1] != [0]:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(column)
        used += 2 + widths[column]
    return "\n\n".join(_block(lines, widths, columns, rule) for columns in blocks)


def _block(
    lines: Sequence[Sequence[str]], widths: Sequence[int], columns: Sequence[int], rule: bool
) -> str:
    """Some of the columns, one below the other."""
    rows = [
        "  ".join(line[column].ljust(widths[column]) for column in columns).rstrip()
        for line in lines
    ]
    if rule:
        rows.insert(1, "  ".join("-" * widths[column] for column in columns))
    return "\n".join(rows)
